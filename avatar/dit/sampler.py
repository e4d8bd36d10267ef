"""Flow-matching sampling as plain functions: noise levels and Euler's method.

Source: Y. Lipman et al., "Flow Matching for Generative Modeling", arXiv 2210.02747; the shift of the noise levels is
P. Esser et al., arXiv 2403.03206, eq. 23.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from avatar.errors import OptionError

MAX_SEED = 2**32 - 1
MAX_SHIFT = 100
Spacing = Literal["to_zero", "to_one"]


def check_seed(seed: int) -> None:
    """Refuses what no generator takes.

    Raises:
        OptionError: the seed is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise OptionError(f"seed must lie between 0 and {MAX_SEED}, not {seed}")


def shifted_sigmas(num_steps: int, shift: float) -> Tensor:
    """Noise levels from 1 to 0, (num_steps + 1,), spending more steps where there is much noise for shift > 1.

    Raises:
        OptionError: fewer than one step.
    """
    if num_steps < 1:
        raise OptionError(f"num_inference_steps must be 1 or more, not {num_steps}")
    sigmas = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return _shifted(sigmas, shift)


def flow_sigmas(num_steps: int, shift: float, spacing: Spacing = "to_zero") -> Tensor:
    """Noise levels from 1 to 0, (num_steps + 1,), before the shift evenly spaced.

    Args:
        num_steps: how many steps.
        shift: towards much noise.
        spacing: `"to_zero"`: over [1, 0] (FantasyTalking, EchoMimicV3, OmniAvatar); `"to_one"`: timesteps over [1000, 1], and
            then a last, short step to 0 (MultiTalk, InfiniteTalk).

    Raises:
        OptionError: fewer than one step, or another spacing.
    """
    if spacing == "to_zero":
        return shifted_sigmas(num_steps, shift)
    if spacing != "to_one":
        raise OptionError(f"spacing of noise levels must be to_zero or to_one, not {spacing!r}")
    if num_steps < 1:
        raise OptionError(f"num_inference_steps must be 1 or more, not {num_steps}")
    return _shifted(torch.cat([torch.linspace(1000, 1, num_steps, dtype=torch.float64) / 1000, torch.zeros(1)]), shift)


def _shifted(sigmas: Tensor, shift: float) -> Tensor:
    if not 0 < shift <= MAX_SHIFT:
        raise OptionError(f"the shift of the noise levels must lie above 0, up to {MAX_SHIFT}, not {shift}; 1 is none")
    return (shift * sigmas / (1 + (shift - 1) * sigmas)).float()


def sample_euler(
    velocity: Callable[[Tensor, float], Tensor], noise: Tensor, sigmas: Tensor, pinned: Tensor | None = None
) -> Tensor:
    """Integrates dx = v dsigma from noise to a sample.

    Args:
        velocity: (latents, sigma) to noise - clean.
        noise: latents at sigmas[0].
        sigmas: falling noise levels, the last one 0.
        pinned: [B, C, k, H, W] clean latents that the first k frames are before and after every step; None for none.

    Returns:
        Latents at sigmas[-1].
    """
    latents = with_pinned(noise, pinned)
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        latents = with_pinned(latents + (following - sigma) * velocity(latents, sigma), pinned)
    return latents


def with_pinned(latents: Tensor, pinned: Tensor | None) -> Tensor:
    """Latents [B, C, F, H, W] whose first k frames are `pinned` [B, C, k, H, W]; None pins nothing."""
    return latents if pinned is None else torch.cat([pinned.to(latents), latents[:, :, pinned.shape[2] :]], dim=2)
