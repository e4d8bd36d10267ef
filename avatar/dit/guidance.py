"""Classifier-free guidance over any number of conditions, with a schedule over the noise level.

Systems nest their null branches differently, so a rule is a list: each entry drops some conditions and says how strongly
the step from the previous entry to this one is exaggerated. With branches v_0, v_1, …, v_n the result is
v_0 + sum_k s_k (v_k - v_{k-1}); two branches give the usual rule (J. Ho and T. Salimans, arXiv 2207.12598, eq. 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from avatar.types import Conditioning


@dataclass(frozen=True)
class GuidanceBranch:
    """One evaluation of the model.

    Attributes:
        dropped: conditions that are hidden from it (`"audio"`, `"emotion"`, …); empty for the full condition.
        scale: how strongly its difference from the branch before counts; ignored for the first branch.
        active: (low, high) noise levels sigma between which the scale holds; outside it is 1.
    """

    dropped: tuple[str, ...]
    scale: float = 1.0
    active: tuple[float, float] = (0.0, 1.0)

    def scale_at(self, sigma: float) -> float:
        return self.scale if self.active[0] <= sigma <= self.active[1] else 1.0


def audio_guidance(scale: float) -> tuple[GuidanceBranch, ...]:
    """The usual rule: without and with the sound. A scale of 1 needs one evaluation only."""
    if scale == 1.0:
        return (GuidanceBranch(()),)
    return (GuidanceBranch(("audio",)), GuidanceBranch((), scale))


def guided_velocity(
    velocity: Callable[[Conditioning], Tensor],
    conditioning: Conditioning,
    rule: tuple[GuidanceBranch, ...],
    sigma: float,
) -> Tensor:
    """The guided velocity at one noise level.

    Args:
        velocity: evaluates the model under a conditioning.
        conditioning: the full one.
        rule: branches from the least to the most conditioned.
        sigma: noise level in [0, 1].

    Returns:
        A tensor like the model's output.

    Source: arXiv 2207.12598, eq. 6, nested.
    """
    while len(rule) > 1 and rule[1].scale_at(sigma) == 1.0:  # v_0 cancels out
        rule = rule[1:]
    branches = [
        velocity(conditioning.with_dropped(*branch.dropped) if branch.dropped else conditioning) for branch in rule
    ]
    guided = branches[0]
    for before, after, branch in zip(branches, branches[1:], rule[1:], strict=False):
        guided = guided + branch.scale_at(sigma) * (after - before)
    return guided
