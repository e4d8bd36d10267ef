"""Classifier-free guidance over any number of conditions, with a schedule over the noise level.

Systems nest their null branches differently, so a rule is a list: each entry drops some conditions and says how strongly
the step from the previous entry to this one is exaggerated. With branches v_0, v_1, …, v_n the result is
v_0 + sum_k s_k (v_k - v_{k-1}); two branches give the usual rule (J. Ho and T. Salimans, arXiv 2207.12598, eq. 6).

A scale may be a function of the noise level, and a rule may change from step to step (`GuidanceStep`). What "no sound" and
"no prompt" mean is `Conditioning`'s affair (`audio_null`, `text_null`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from avatar.errors import OptionError
from avatar.types import Conditioning

Scale = float | Callable[[float], float]  # a number, or a function of the noise level sigma
GuidanceOrder = Literal["text_then_audio", "audio_then_text", "audio_only", "joint"]


@dataclass(frozen=True)
class GuidanceBranch:
    """One evaluation of the model.

    Attributes:
        dropped: conditions that are hidden from it (`"audio"`, `"emotion"`, …); empty for the full condition.
        scale: how strongly its difference from the branch before counts, or a function of the noise level that says it;
            ignored for the first branch.
        active: (low, high) noise levels sigma between which the scale holds; outside it is 1.
    """

    dropped: tuple[str, ...]
    scale: Scale = 1.0
    active: tuple[float, float] = (0.0, 1.0)

    def scale_at(self, sigma: float) -> float:
        if not self.active[0] <= sigma <= self.active[1]:
            return 1.0
        return self.scale(sigma) if callable(self.scale) else self.scale


@dataclass(frozen=True)
class GuidanceStep:
    """A rule for one step of the sampler, where the rule is not the same in all of them.

    Attributes:
        rule: branches, as for `guided_velocity`.
        face_mask_scale: what the face masks are multiplied by.
        text_null_scale: what the tokens of the negative prompt are multiplied by.
    """

    rule: tuple[GuidanceBranch, ...]
    face_mask_scale: float = 1.0
    text_null_scale: float = 1.0

    def conditioning(self, conditioning: Conditioning) -> Conditioning:
        """The conditions of this step."""
        masks = {"face_mask": conditioning.face_mask, "audio_mask": conditioning.audio_mask}
        null = conditioning.text_null
        if self.face_mask_scale != 1:
            scaled = {name: mask * self.face_mask_scale for name, mask in masks.items() if mask is not None}
            conditioning = replace(conditioning, **scaled)
        if null is not None and self.text_null_scale != 1:
            conditioning = replace(conditioning, text_null=null * self.text_null_scale)
        return conditioning


def audio_guidance(scale: float) -> tuple[GuidanceBranch, ...]:
    """The usual rule: without and with the sound. A scale of 1 needs one evaluation only."""
    if scale == 1.0:
        return (GuidanceBranch(()),)
    return (GuidanceBranch(("audio",)), GuidanceBranch((), scale))


def nested_guidance(order: GuidanceOrder, text_scale: Scale, audio_scale: Scale) -> tuple[GuidanceBranch, ...]:
    """The published systems' rules; v_ab is the velocity with (1) or without (0) text a and sound b.

    - `text_then_audio`: v00 + s_t (v10 - v00) + s_a (v11 - v10). FantasyTalking, EchoMimicV3 preview, OmniAvatar; the latter
      with two equal scales is `joint`, by itself (the middle branch cancels out).
    - `audio_then_text`: v00 + s_a (v01 - v00) + s_t (v11 - v01). MultiTalk, InfiniteTalk, StableAvatar; with a text scale of 1
      they switch to `audio_only`, and so does this.
    - `audio_only`: v10 + s_a (v11 - v10). EchoMimicV3 flash; HunyuanVideo-Avatar's later steps.
    - `joint`: v00 + s_t (v11 - v00). HunyuanVideo-Avatar's first steps.

    Raises:
        OptionError: an order that is not known.
    """
    if order not in get_args(GuidanceOrder):
        raise OptionError(f"guidance order must be {', '.join(get_args(GuidanceOrder))}, not {order!r}")
    full, null = GuidanceBranch((), audio_scale), GuidanceBranch(("text", "audio"))
    if order == "joint" or (order == "text_then_audio" and text_scale == audio_scale):
        return (null, GuidanceBranch((), text_scale))
    if order == "audio_only" or text_scale == 1.0:
        return (GuidanceBranch(("audio",)), full)
    if order == "text_then_audio":
        return (null, GuidanceBranch(("audio",), text_scale), full)
    return (null, GuidanceBranch(("text",), audio_scale), GuidanceBranch((), text_scale))


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


def hunyuan_avatar_steps(num_steps: int, text_scale: float = 7.5, joint_steps: int = 10) -> tuple[GuidanceStep, ...]:
    """HunyuanVideo-Avatar's stepwise guidance: text and sound together at first, then the sound alone.

    In the first steps the null branch has neither prompt nor sound, the scale falls from `text_scale` towards 2, and the face
    masks count 0.6; later the null branch lacks the sound alone and the scale falls from 6.5 towards 3.5.

    Source: the released sampler of HunyuanVideo-Avatar (arXiv 2505.20156), whose report does not state it.
    """

    def step(index: int) -> GuidanceStep:
        left = 1 - index / num_steps
        if index < joint_steps:
            return GuidanceStep(nested_guidance("joint", left * (text_scale - 2) + 2, 1.0), face_mask_scale=0.6)
        return GuidanceStep(nested_guidance("audio_only", 1.0, left * (6.5 - 3.5) + 3.5))

    return tuple(step(index) for index in range(num_steps))


def falling_scale(scale: float, step: int, num_steps: int) -> float:
    """EchoMimicV3's dynamic scale: from `scale` at the first step to half of it, most of the way in the first third.

    Source: the preview pipeline of antgroup/echomimic_v3.
    """
    return scale / 2 + scale / 2 * (1 - math.cos(math.pi * ((num_steps - step) / num_steps) ** 5)) / 2


def echomimic_steps(
    num_steps: int,
    text_scale: float = 4.0,
    audio_scale: float = 2.9,
    *,
    dynamic: bool = False,
    null_factor: float = 1.5,
    null_steps: int = 3,
) -> tuple[GuidanceStep, ...]:
    """EchoMimicV3 preview's guidance: text, then sound, with a negative prompt made stronger in the first steps.

    The published pipeline multiplies the negative prompt's tokens in place, so that its factor compounds over the first steps
    and stays; that is what its results were made with.

    Source: the preview pipeline of antgroup/echomimic_v3.
    """

    def scale(value: float, index: int) -> float:
        return falling_scale(value, index, num_steps) if dynamic else value

    return tuple(
        GuidanceStep(
            nested_guidance("text_then_audio", scale(text_scale, index), scale(audio_scale, index)),
            text_null_scale=null_factor ** min(index + 1, null_steps),
        )
        for index in range(num_steps)
    )


class AdaptiveProjectedGuidance:
    """Guidance whose differences are smoothed over steps, bounded in length, and rid of what only scales the result.

    One object per sample: it remembers the last step's differences.

    Args:
        text_scale, audio_scale: as in `audio_then_text`.
        momentum: how much of the last difference is added; negative values push apart.
        norm_threshold: greatest length of a difference.

    Source: S. Sadat et al., "Eliminating Oversaturation and Artifacts of High Guidance Scales", arXiv 2410.02416, algorithm 1
    (eta = 0), with two differences as InfiniteTalk has them.
    """

    def __init__(
        self, text_scale: float, audio_scale: float, momentum: float = -0.75, norm_threshold: float = 6.0
    ) -> None:
        self.text_scale, self.audio_scale = text_scale, audio_scale
        self.momentum, self.norm_threshold = momentum, norm_threshold
        self._running: dict[str, Tensor] = {}

    def __call__(self, full: Tensor, drop_text: Tensor, null: Tensor) -> Tensor:
        """Velocities [..., C, F, H, W] with everything, without the prompt, without both -> the guided one."""
        by_text = self._projected("text", full - drop_text, full)
        by_sound = self._projected("audio", drop_text - null, full)
        return full + (self.text_scale - 1) * by_text + (self.audio_scale - 1) * by_sound

    def _projected(self, name: str, difference: Tensor, full: Tensor) -> Tensor:
        if name in self._running:
            difference = difference + self.momentum * self._running[name]
        self._running[name] = difference
        axes = (-4, -3, -2, -1)
        length = difference.norm(p=2, dim=axes, keepdim=True)
        difference = difference * torch.clamp_max(self.norm_threshold / length.clamp_min(1e-12), 1.0)
        exact = difference.double()
        direction = full.double() / full.double().norm(p=2, dim=axes, keepdim=True).clamp_min(1e-12)
        return (exact - (exact * direction).sum(axes, keepdim=True) * direction).type_as(full)
