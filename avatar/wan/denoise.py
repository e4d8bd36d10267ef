"""Noise to the latents of one chunk: guided velocities of a Wan model with an adapter, and two ways to follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from avatar.dit.guidance import AdaptiveProjectedGuidance, GuidanceBranch, GuidanceStep, guided_velocity
from avatar.dit.long_video import blended_velocity, overlapping_windows, shifted_velocity
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.sampler import sample_euler, with_pinned
from avatar.errors import OptionError
from avatar.types import Conditioning
from avatar.wan.experts import Experts
from avatar.wan.plan import Windows

Sampler = Literal["euler", "unipc"]
Progress = Callable[[int, int], None]  # steps done, steps in all
TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class WanSampling:
    """How a chunk is denoised.

    Attributes:
        sigmas: noise levels from 1 to 0.
        rule: guidance branches, the same in all steps, or a rule for each step.
        sampler: `"euler"`, as the published systems; `"unipc"`, two corrections a step with as many evaluations.
        projected: (text scale, audio scale) of projected guidance, which then takes the place of the rules; None for none.
        windows: parts of a long chunk that are denoised together; None for whole.
    """

    sigmas: Tensor
    rule: tuple[GuidanceBranch, ...] | tuple[GuidanceStep, ...]
    sampler: Sampler = "euler"
    projected: tuple[float, float] | None = None
    windows: Windows | None = None

    def __post_init__(self) -> None:
        if self.sampler not in ("euler", "unipc"):
            raise OptionError(f"the sampler must be euler or unipc, not {self.sampler!r}")
        if self.projected is not None and self.windows is not None:
            raise OptionError("projected guidance remembers the step before, which windows do not share; leave one out")

    def step(self, index: int) -> GuidanceStep:
        rule = self.rule[index] if isinstance(self.rule[0], GuidanceStep) else GuidanceStep(self.rule)
        assert isinstance(rule, GuidanceStep)
        return rule

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1


@torch.no_grad()
def denoise(
    experts: Experts,
    conditioning: Conditioning | Sequence[Conditioning],
    noise: Tensor,
    sampling: WanSampling,
    pinned: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """One chunk's latents.

    Args:
        experts: the model.
        conditioning: of the chunk; a sequence has one for each expert, whose projectors make sound of their own.
        noise: [1, C, F, h, w] float32.
        sampling: how.
        pinned: [1, C, k, h, w] first latent frames that are known and put back before every step; None for none.
        progress: told after each step.

    Returns:
        [1, C, F, h, w] float32.
    """
    of_each = [conditioning] if isinstance(conditioning, Conditioning) else conditioning
    steps = 0
    projection = None if sampling.projected is None else AdaptiveProjectedGuidance(*sampling.projected)

    def velocity(latents: Tensor, sigma: float) -> Tensor:
        nonlocal steps
        rule = sampling.step(steps)
        adapter, mine = experts.at(sigma), of_each[-1 if experts.is_little(sigma) else 0]
        told, latents, windows = rule.conditioning(mine), with_pinned(latents, pinned), 0

        def of_window(part: Tensor, frames: Tensor | None) -> Tensor:
            nonlocal windows
            window, windows = f"@{windows}" if windows else "", windows + 1
            shown = told if frames is None else told.at_frames(frames)
            return _velocity(adapter, shown, part, sigma, _Combine(rule.rule, projection), window)

        result = _in_windows(of_window, latents, sampling.windows, steps)
        steps += 1
        if progress is not None:
            progress(steps, sampling.num_steps)
        return result

    follow = sample_euler if sampling.sampler == "euler" else _sample_unipc
    return with_pinned(follow(velocity, noise, sampling.sigmas), pinned)


def _in_windows(
    velocity: Callable[[Tensor, Tensor | None], Tensor], latents: Tensor, windows: Windows | None, step: int
) -> Tensor:
    if windows is None or latents.shape[2] <= windows.size:
        return velocity(latents, None)
    if windows.overlap is None:
        return shifted_velocity(velocity, latents, step, windows.size, windows.offset)
    parts = overlapping_windows(latents.shape[2], windows.size, windows.overlap)
    return blended_velocity(velocity, latents, parts, first_step=step == 0)


@dataclass(frozen=True)
class _Combine:
    """Several evaluations to one velocity."""

    rule: tuple[GuidanceBranch, ...]
    projection: AdaptiveProjectedGuidance | None

    def __call__(self, evaluate: Callable[[Conditioning], Tensor], full: Conditioning, sigma: float) -> Tensor:
        if self.projection is None:
            return guided_velocity(evaluate, full, self.rule, sigma)
        branches = (full, full.with_dropped("text"), full.with_dropped("text", "audio"))
        return self.projection(*(evaluate(branch) for branch in branches))


def _velocity(
    adapter: PublishedAdapter,
    conditioning: Conditioning,
    latents: Tensor,
    sigma: float,
    combine: _Combine,
    window: str,
) -> Tensor:
    model = adapter.transformer
    timestep = latents.new_full((latents.shape[0],), TRAIN_TIMESTEPS * sigma)
    given = latents.to(model.dtype)
    full = adapter.at_step(given, timestep, conditioning)

    def evaluate(branch: Conditioning) -> Tensor:
        with model.cache_context(_branch_name(full, branch) + window):  # step caches keep these apart by name
            return model(given, timestep, branch, return_dict=False)[0].float()

    return combine(evaluate, full, sigma)


def _branch_name(full: Conditioning, branch: Conditioning) -> str:
    kept = [name for name in ("text", "audio") if getattr(branch, f"{name}_tokens") is getattr(full, f"{name}_tokens")]
    return "+".join(kept) or "null"


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
