"""Noise levels and Euler's method."""

from __future__ import annotations

import pytest
import torch

from avatar.dit.sampler import sample_euler, shifted_sigmas
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
