"""Windows over long videos: every frame covered, and windows of the truth give the truth."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.long_video import (
    blended_velocity,
    mirrored_places,
    overlapping_windows,
    shift_lengths,
    shifted_velocity,
    shifted_windows,
)
from avatar.errors import OptionError


def _latents(frames: int) -> torch.Tensor:
    return torch.randn(1, 2, frames, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_latents", [5, 33, 34, 65, 97])
def test_shifted_windows_cover_every_frame_in_every_step(num_latents: int) -> None:
    for step in range(12):
        assert set(shifted_windows(num_latents, step).flatten().tolist()) == set(range(num_latents))


def test_one_window_is_not_shifted() -> None:
    assert shifted_windows(33, 7).tolist() == [list(range(33))]
    assert shift_lengths(100)[0] == 33


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_pointwise_model_does_not_see_the_windows(step: int) -> None:
    latents = _latents(65)
    shifted = shifted_velocity(lambda part, frames: part**2 + frames[:, None, None], latents, step)
    windows = overlapping_windows(65, 21, 5)
    whole = latents**2 + torch.arange(65)[:, None, None]
    assert torch.allclose(shifted, whole)
    for first in (True, False):
        blended = blended_velocity(
            lambda part, frames: part**2 + frames[:, None, None], latents, windows, first_step=first
        )
        assert torch.allclose(blended, whole, atol=1e-5)


def test_blending_is_gradual_and_starts_with_the_second_step() -> None:
    """Two windows that disagree by 1: the border is a ramp, and on the first step a jump."""
    windows = overlapping_windows(10, 7, 4)

    def velocity(part: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(part) * float(frames[0] > 0)

    ramp = blended_velocity(velocity, _latents(10), windows, first_step=False)[0, 0, :, 0, 0]
    assert torch.allclose(ramp, torch.tensor([0, 0, 0, 0, 1 / 3, 2 / 3, 1, 1, 1, 1]))
    jump = blended_velocity(velocity, _latents(10), windows, first_step=True)[0, 0, :, 0, 0]
    assert jump.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]


def test_the_sound_goes_on_backwards_after_its_end() -> None:
    assert mirrored_places(5, 7).tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    assert mirrored_places(3, 8).tolist() == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1]
    assert mirrored_places(10, 7).tolist() == list(range(10))


def test_a_window_is_longer_than_its_overlap() -> None:
    with pytest.raises(OptionError, match="windows of 5 latent frames cannot overlap by 5"):
        overlapping_windows(10, 5, 5)
