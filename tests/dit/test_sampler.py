"""Noise levels and Euler's method."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.sampler import flow_sigmas, sample_euler, shifted_sigmas
from avatar.errors import OptionError


@pytest.mark.parametrize("num_steps", [1, 2, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
def test_levels_fall_from_one_to_zero(num_steps: int, shift: float) -> None:
    sigmas = shifted_sigmas(num_steps, shift)
    assert len(sigmas) == num_steps + 1
    assert sigmas[0] == 1 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_a_shift_spends_more_steps_where_there_is_much_noise() -> None:
    assert torch.allclose(shifted_sigmas(4, 1.0), torch.tensor([1, 0.75, 0.5, 0.25, 0]))
    assert torch.allclose(shifted_sigmas(4, 3.0), torch.tensor([1, 0.9, 0.75, 0.5, 0]))  # 3 s / (1 + 2 s)


def test_at_least_one_step() -> None:
    with pytest.raises(OptionError, match="num_inference_steps must be 1 or more, not 0"):
        shifted_sigmas(0, 3.0)


@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_a_straight_flow_is_followed_exactly_in_any_number_of_steps(num_steps: int) -> None:
    noise, clean = torch.randn(2, 3), torch.randn(2, 3)
    end = sample_euler(lambda latents, sigma: noise - clean, noise, shifted_sigmas(num_steps, 3.0))
    assert torch.allclose(end, clean, atol=1e-5)


def test_a_perfect_denoiser_arrives_too() -> None:
    noise, clean = torch.randn(2, 3), torch.randn(2, 3)
    end = sample_euler(lambda latents, sigma: (latents - clean) / sigma, noise, shifted_sigmas(5, 3.0))
    assert torch.allclose(end, clean, atol=1e-5)


def test_more_steps_come_closer_on_a_curved_flow() -> None:
    def error(num_steps: int) -> float:
        end = sample_euler(lambda x, sigma: x, torch.ones(1), shifted_sigmas(num_steps, 1.0))
        return abs(float(end) - float(torch.exp(torch.tensor(-1.0))))

    assert error(32) < error(8) / 3 < error(2) / 9


def test_spacings_end_where_they_were_published_to() -> None:
    to_one, to_zero = flow_sigmas(10, 1.0, "to_one"), flow_sigmas(10, 1.0)
    assert to_one[0] == to_zero[0] == 1 and to_one[-1] == to_zero[-1] == 0
    assert to_one[-2] == pytest.approx(0.001) and to_zero[-2] == pytest.approx(0.1)
    with pytest.raises(OptionError, match="must be to_zero or to_one, not 'karras'"):
        flow_sigmas(10, 1.0, "karras")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="1 or more, not 0"):
        flow_sigmas(0, 1.0, "to_one")


def test_pinned_frames_are_what_they_are_before_and_after_every_step() -> None:
    pinned = torch.full((1, 1, 2, 1, 1), 7.0)
    seen = []

    def velocity(latents: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(latents[:, :, :2].clone())
        return torch.ones_like(latents)

    sample = sample_euler(velocity, torch.zeros(1, 1, 4, 1, 1), flow_sigmas(3, 1.0), pinned)
    assert all(torch.equal(each, pinned) for each in (*seen, sample[:, :, :2]))
    assert torch.allclose(sample[:, :, 2:], torch.full((1, 1, 2, 1, 1), -1.0))
