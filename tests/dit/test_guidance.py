"""The algebra of guidance."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.guidance import GuidanceBranch, audio_guidance, guided_velocity
from avatar.types import Conditioning

FULL = Conditioning(
    audio_tokens=torch.full((1, 1, 1, 1, 1), 3.0),
    identity_tokens=torch.full((1, 1, 1), 5.0),
    emotion_tokens=torch.full((1, 1, 1, 1), 7.0),
)


class Model:
    """v = audio + 10 identity + 100 emotion, counting its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, c: Conditioning) -> torch.Tensor:
        self.calls += 1
        assert c.audio_tokens is not None and c.identity_tokens is not None and c.emotion_tokens is not None
        return c.audio_tokens.sum() + 10 * c.identity_tokens.sum() + 100 * c.emotion_tokens.sum()


FULL_VALUE = 3 + 50 + 700


def _guided(rule: tuple[GuidanceBranch, ...], sigma: float = 0.5) -> tuple[float, int]:
    model = Model()
    return float(guided_velocity(model, FULL, rule, sigma)), model.calls


def test_scale_one_is_one_call() -> None:
    assert _guided(audio_guidance(1.0)) == (FULL_VALUE, 1)
    assert _guided((GuidanceBranch(("audio",)), GuidanceBranch((), 1.0))) == (FULL_VALUE, 1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, 4.0])
def test_two_branches_are_the_usual_rule(scale: float) -> None:
    without = FULL_VALUE - 3
    assert _guided(audio_guidance(scale)) == (without + scale * 3, 2)


def test_nested_branches_scale_each_step() -> None:
    rule = (GuidanceBranch(("audio", "emotion")), GuidanceBranch(("audio",), 2.0), GuidanceBranch((), 3.0))
    assert _guided(rule) == (50 + 2 * 700 + 3 * 3, 3)


def test_a_first_step_of_scale_one_needs_no_null_branch() -> None:
    rule = (GuidanceBranch(("audio", "emotion")), GuidanceBranch(("audio",), 1.0), GuidanceBranch((), 3.0))
    assert _guided(rule) == (50 + 700 + 3 * 3, 2)


def test_outside_its_range_a_scale_is_one() -> None:
    rule = (GuidanceBranch(("audio",)), GuidanceBranch((), 4.0, active=(0.3, 0.8)))
    assert _guided(rule, 0.9) == (FULL_VALUE, 1)
    assert _guided(rule, 0.1) == (FULL_VALUE, 1)
    for sigma in (0.3, 0.5, 0.8):
        assert _guided(rule, sigma) == (FULL_VALUE - 3 + 12, 2)
