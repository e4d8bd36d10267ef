"""The algebra of guidance."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.guidance import (
    AdaptiveProjectedGuidance,
    GuidanceBranch,
    GuidanceStep,
    audio_guidance,
    echomimic_steps,
    falling_scale,
    guided_velocity,
    hunyuan_avatar_steps,
    nested_guidance,
)
from avatar.errors import OptionError
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


def test_a_scale_may_follow_the_noise_level() -> None:
    rule = (GuidanceBranch(("audio",)), GuidanceBranch((), lambda sigma: 1 + 4 * sigma))
    assert _guided(rule, 0.5) == (FULL_VALUE - 3 + 3 * 3, 2)
    assert _guided(rule, 0.0) == (FULL_VALUE, 1)


def _text_and_sound(order: str, text: float, audio: float) -> tuple[float, int]:
    """v = 3 t + 5 a + 7 t a, where t and a are 1 or, dropped, 0."""
    calls = 0

    def velocity(branch: Conditioning) -> torch.Tensor:
        nonlocal calls
        calls += 1
        assert branch.text_tokens is not None and branch.audio_tokens is not None
        t, a = branch.text_tokens.sum(), branch.audio_tokens.sum()
        return 3 * t + 5 * a + 7 * t * a

    told = Conditioning(text_tokens=torch.ones(1), audio_tokens=torch.ones(1))
    return float(guided_velocity(velocity, told, nested_guidance(order, text, audio), 0.5)), calls  # type: ignore[arg-type]


def test_published_orders_nest_as_they_say() -> None:
    assert _text_and_sound("text_then_audio", 4.0, 2.0) == (4 * 3 + 2 * 12, 3)
    assert _text_and_sound("audio_then_text", 4.0, 2.0) == (2 * 5 + 4 * 10, 3)
    assert _text_and_sound("audio_only", 1.0, 2.0) == (3 + 2 * 12, 2)
    assert _text_and_sound("joint", 4.0, 1.0) == (4 * 15, 2)


def test_special_scales_save_an_evaluation() -> None:
    assert _text_and_sound("text_then_audio", 4.0, 4.0) == (4 * 15, 2)
    assert _text_and_sound("text_then_audio", 1.0, 2.0) == (3 + 2 * 12, 2)
    assert _text_and_sound("audio_then_text", 1.0, 2.0) == (3 + 2 * 12, 2)  # as published, not what nesting would give
    with pytest.raises(OptionError, match="guidance order must be text_then_audio, .* not 'sideways'"):
        nested_guidance("sideways", 1.0, 1.0)  # type: ignore[arg-type]


def test_null_tokens_stand_for_what_is_dropped() -> None:
    told = Conditioning(audio_tokens=torch.ones(1), audio_null=torch.full((1,), 0.25), text_tokens=torch.ones(1))
    without = told.with_dropped("audio", "text")
    assert float(without.audio_tokens) == 0.25 and float(without.text_tokens) == 0  # type: ignore[arg-type]


def test_a_step_can_dim_the_masks_and_stress_the_negative_prompt() -> None:
    told = Conditioning(face_mask=torch.ones(1), text_null=torch.ones(1))
    changed = GuidanceStep((GuidanceBranch(()),), face_mask_scale=0.6, text_null_scale=1.5).conditioning(told)
    assert float(changed.face_mask) == pytest.approx(0.6) and float(changed.text_null) == 1.5  # type: ignore[arg-type]
    assert GuidanceStep(()).conditioning(told) is told


def test_stepwise_rules_change_where_they_were_published_to() -> None:
    steps = hunyuan_avatar_steps(50)
    assert [step.rule[0].dropped for step in (steps[9], steps[10])] == [("text", "audio"), ("audio",)]
    assert [step.face_mask_scale for step in (steps[9], steps[10])] == [0.6, 1.0]
    assert [step.text_null_scale for step in echomimic_steps(5)] == [1.5, 2.25, 3.375, 3.375, 3.375]
    assert falling_scale(4.0, 0, 25) == 4.0 and falling_scale(4.0, 24, 25) == pytest.approx(2.0, abs=1e-4)


def test_projected_guidance_adds_nothing_along_the_result_and_is_bounded() -> None:
    generator = torch.Generator().manual_seed(0)
    full, drop_text, null = (torch.randn(2, 2, 2, 2, generator=generator) for _ in range(3))
    guided = AdaptiveProjectedGuidance(5.0, 1.0, norm_threshold=0.5)(full, drop_text, null)
    change = guided - full
    assert abs(float((change * full).sum())) < 1e-4 and float(change.norm()) <= 4 * 0.5 + 1e-5
