"""Noise to the latents of one chunk: guided velocities of a Wan model with an adapter, and two ways to follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from avatar.dit.guidance import GuidanceBranch, guided_velocity
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.sampler import sample_euler
from avatar.errors import OptionError
from avatar.types import Conditioning

Sampler = Literal["euler", "unipc"]
Progress = Callable[[int, int], None]  # steps done, steps in all
TRAIN_TIMESTEPS = 1000
_ROUNDING = 1e-6  # noise levels are float32


@dataclass(frozen=True)
class Experts:
    """The model that denoises, or Wan 2.2's two.

    Attributes:
        much_noise: the adapter on its transformer; the only one of Wan 2.1.
        little_noise: the same on the other expert.
        boundary: noise level sigma from which upwards `much_noise` is asked.
    """

    much_noise: PublishedAdapter
    little_noise: PublishedAdapter | None = None
    boundary: float = 0.0

    def __post_init__(self) -> None:
        if (self.little_noise is None) != (self.boundary == 0):
            raise OptionError("a second expert needs a boundary between 0 and 1, and a boundary a second expert")

    def at(self, sigma: float) -> PublishedAdapter:
        much = self.little_noise is None or sigma > self.boundary - _ROUNDING
        return self.much_noise if much else self.little_noise  # type: ignore[return-value]


@dataclass(frozen=True)
class WanSampling:
    """How a chunk is denoised.

    Attributes:
        sigmas: noise levels from 1 to 0.
        rule: guidance branches.
        sampler: `"euler"`, as the published systems; `"unipc"`, two corrections a step with as many evaluations.
    """

    sigmas: Tensor
    rule: tuple[GuidanceBranch, ...]
    sampler: Sampler = "euler"

    def __post_init__(self) -> None:
        if self.sampler not in ("euler", "unipc"):
            raise OptionError(f"the sampler must be euler or unipc, not {self.sampler!r}")

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1


@torch.no_grad()
def denoise(
    experts: Experts,
    conditioning: Conditioning,
    noise: Tensor,
    sampling: WanSampling,
    pinned: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """One chunk's latents.

    Args:
        experts: the model.
        conditioning: of the chunk.
        noise: [1, C, F, h, w] float32.
        sampling: how.
        pinned: [1, C, k, h, w] first latent frames that are known and put back before every step; None for none.
        progress: told after each step.

    Returns:
        [1, C, F, h, w] float32.
    """
    steps = 0

    def velocity(latents: Tensor, sigma: float) -> Tensor:
        nonlocal steps
        result = _velocity(experts.at(sigma), conditioning, _with_pinned(latents, pinned), sigma, sampling.rule)
        steps += 1
        if progress is not None:
            progress(steps, sampling.num_steps)
        return result

    follow = sample_euler if sampling.sampler == "euler" else _sample_unipc
    return _with_pinned(follow(velocity, noise, sampling.sigmas), pinned)


def _velocity(
    adapter: PublishedAdapter,
    conditioning: Conditioning,
    latents: Tensor,
    sigma: float,
    rule: tuple[GuidanceBranch, ...],
) -> Tensor:
    model = adapter.transformer
    timestep = latents.new_full((latents.shape[0],), TRAIN_TIMESTEPS * sigma)
    given = latents.to(model.dtype)
    full = adapter.at_step(given, timestep, conditioning)

    def evaluate(branch: Conditioning) -> Tensor:
        with model.cache_context(_branch_name(full, branch)):
            return model(given, timestep, branch, return_dict=False)[0].float()

    return guided_velocity(evaluate, full, rule, sigma)


def _branch_name(full: Conditioning, branch: Conditioning) -> str:
    """Step caches keep the branches of guidance apart by name."""
    kept = [name for name in ("text", "audio") if getattr(branch, f"{name}_tokens") is getattr(full, f"{name}_tokens")]
    return "+".join(kept) or "null"


def _with_pinned(latents: Tensor, pinned: Tensor | None) -> Tensor:
    if pinned is None:
        return latents
    return torch.cat([pinned.to(latents), latents[:, :, pinned.shape[2] :]], dim=2)


def _sample_unipc(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, sigmas: Tensor) -> Tensor:
    """UniPC through diffusers, on the given noise levels.

    Source: W. Zhao et al., "UniPC", arXiv 2302.04867, in data prediction, order 2.
    """
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    scheduler.set_timesteps(sigmas=sigmas[:-1].double().cpu().numpy(), device=noise.device)
    scheduler.set_begin_index(0)
    latents = noise
    for sigma, timestep in zip(sigmas[:-1].tolist(), scheduler.timesteps, strict=True):
        latents = scheduler.step(velocity(latents, sigma), timestep, latents, return_dict=False)[0]
    return latents


def in_model_dtype(conditioning: Conditioning, device: torch.device, dtype: torch.dtype) -> Conditioning:
    """All tensors where the model is; those that are not numbers of tokens in its dtype."""
    moved = {}
    for name in conditioning.__dataclass_fields__:
        value = getattr(conditioning, name)
        if isinstance(value, Tensor):
            moved[name] = value.to(device, dtype if value.is_floating_point() else None)
    return replace(conditioning, **moved)
