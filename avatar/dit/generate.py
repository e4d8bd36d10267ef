"""Chunk-by-chunk generation: video of any length in constant memory.

Each chunk is denoised together with the last clean latent frames of what came before (motion frames), which keep noise
level 0 and steer the new ones through self-attention (route A of `docs/decisions.md`; InfiniteTalk, arXiv 2508.14033,
and SoulX-FlashTalk work this way).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.dit.guidance import GuidanceBranch, guided_velocity
from avatar.dit.sampler import sample_euler, shifted_sigmas
from avatar.errors import OptionError
from avatar.types import Conditioning

# `AvatarTransformer3DModel` or what stands in for it: (latents, timestep, conditioning, return_dict=False) -> (velocity,)
VelocityModel = Callable[..., tuple[Tensor, ...]]
Refine = Callable[[Tensor, int, int], Tensor]  # latents [B, C, f, H, W] of latent frames [start, stop) to such latents


@dataclass(frozen=True)
class ChunkPlan:
    """How a long video is cut.

    Attributes:
        chunk_frames: latent frames made at a time.
        context_frames: clean latent frames carried over from before.
    """

    chunk_frames: int = 12
    context_frames: int = 4

    def __post_init__(self) -> None:
        if self.chunk_frames < 1 or self.context_frames < 1:
            raise OptionError(f"a chunk needs at least one new and one carried frame, not {self}")

    def chunks(self, num_frames: int) -> Iterator[tuple[int, int, int]]:
        """(context start, start, stop) of each chunk; frame 0 is given."""
        for start in range(1, num_frames, self.chunk_frames):
            yield max(0, start - self.context_frames), start, min(start + self.chunk_frames, num_frames)


@dataclass(frozen=True)
class SamplingOptions:
    """How each chunk is denoised.

    Attributes:
        num_inference_steps: Euler steps.
        shift: of the noise levels towards much noise.
        guidance: branches, see `guidance.guided_velocity`.
        temperature: of the noise a chunk starts from: 1 samples as trained, less keeps nearer to the likeliest motion.
    """

    num_inference_steps: int
    shift: float
    guidance: tuple[GuidanceBranch, ...]
    temperature: float = 1.0


def generate_latents(
    model: VelocityModel,
    first: Tensor,
    conditioning: Callable[[int, int], Conditioning],
    num_frames: int,
    plan: ChunkPlan,
    options: SamplingOptions,
    generator: torch.Generator,
    refine: Refine | None = None,
) -> Iterator[Tensor]:
    """Latents of a video, in blocks as they are made.

    Args:
        model: predicts velocity.
        first: [B, C, 1, H, W] the given first latent frame.
        conditioning: gives the conditions of latent frames [start, stop); asked in order.
        num_frames: latent frames in total, the first one included.
        plan: how the video is cut.
        options: how a chunk is denoised.
        generator: source of all noise; the same state gives the same video.
        refine: changes each finished chunk, before the next one is made from its end.

    Yields:
        [B, C, f, H, W]; the first block begins with `first`.
    """
    sigmas = shifted_sigmas(options.num_inference_steps, options.shift)
    context = first
    if num_frames == 1:
        yield first
    for context_start, start, stop in plan.chunks(num_frames):
        conditions = conditioning(context_start, stop)
        noise_shape = (*first.shape[:2], stop - start, *first.shape[3:])
        noise = torch.randn(noise_shape, generator=generator, dtype=torch.float32).to(first)
        chunk = _denoise(model, context, conditions, options.temperature * noise, sigmas, options.guidance)
        if refine is not None:
            chunk = refine(chunk, start, stop)
        yield torch.cat([first, chunk], dim=2) if start == 1 else chunk
        context = torch.cat([context, chunk], dim=2)[:, :, -plan.context_frames :]


@torch.no_grad()
def _denoise(
    model: VelocityModel,
    context: Tensor,
    conditions: Conditioning,
    noise: Tensor,
    sigmas: Tensor,
    rule: tuple[GuidanceBranch, ...],
) -> Tensor:
    known = context.shape[2]

    def velocity(latents: Tensor, sigma: float) -> Tensor:
        sequence = torch.cat([context, latents], dim=2)
        timestep = sequence.new_full((sequence.shape[0], sequence.shape[2]), 1000 * sigma)
        timestep[:, :known] = 0

        def evaluate(branch: Conditioning) -> Tensor:
            return model(sequence, timestep, branch, return_dict=False)[0]

        return guided_velocity(evaluate, conditions, rule, sigma)[:, :, known:]

    return sample_euler(velocity, noise, sigmas)
