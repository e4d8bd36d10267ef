"""Videos longer than the model was trained on: chunks one after another, or windows of the whole in every step.

Two ways: windows without overlap whose borders move on with every step, so that no seam stays in one place (timestep-aware
position shift: Sonic, arXiv 2411.16331, section 3.4; HunyuanVideo-Avatar), and windows that stay and are blended where they
overlap (EchoMimicV3, StableAvatar). A third way is chunk after chunk, each beginning with the end of the one before (MultiTalk,
arXiv 2505.22647; InfiniteTalk, arXiv 2508.14033); `avatar.wan.pipeline` drives all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avatar.errors import OptionError

SHIFT_WINDOW, SHIFT_OFFSET = 33, 10  # HunyuanVideo-Avatar's released code; its report says 5
_STRIDE = 4  # video frames per latent frame
_SPARE = 3  # mirrored features beyond the end of the last chunk, so that windows find something there
Velocity = Callable[[Tensor, Tensor], Tensor]  # latents of a window, and which latent frames they are, to velocity


@dataclass(frozen=True)
class Chunk:
    """Video frames made at a time.

    Attributes:
        start: the first one's place in the video.
        num_frames: how many, 1 + 4 k.
        known: how many at its beginning are there already; of the first chunk the portrait itself.
    """

    start: int
    num_frames: int
    known: int

    @property
    def stop(self) -> int:
        return self.start + self.num_frames

    @property
    def fresh(self) -> int:
        """Its first frame that was not there before; of the first chunk all are kept."""
        return self.known if self.start else 0


def plan_chunks(
    num_frames: int, chunk_frames: int, overlap_frames: int, stride: int = _STRIDE, whole: bool = False
) -> list[Chunk]:
    """Chunks that cover a video; what is made beyond its end is cut.

    Args:
        num_frames: of the video.
        chunk_frames: of a chunk, 1 + stride k.
        overlap_frames: frames a chunk begins with that the one before has made, 1 or more.
        stride: video frames per latent frame.
        whole: whether the last chunk is as long as the others, as InfiniteTalk makes it; else only as long as it must be.

    Raises:
        OptionError: a chunk that the codec does not take, or that is no longer than the overlap.
    """
    if num_frames < 1 or (chunk_frames - 1) % stride or not 1 <= overlap_frames < chunk_frames:
        raise OptionError(
            f"a chunk has 1 + {stride} k frames, more than it shares with the one before, which is 1 or more; "
            f"not {chunk_frames} and {overlap_frames} (of {num_frames} frames)"
        )
    chunks, start, known = [], 0, 1
    while True:
        needed = 1 + stride * math.ceil((num_frames - start - 1) / stride)
        chunks.append(Chunk(start, chunk_frames if whole else min(chunk_frames, needed), known))
        if chunks[-1].stop >= num_frames:
            return chunks
        start, known = chunks[-1].stop - overlap_frames, overlap_frames


def mirrored_places(num_features: int, stop: int) -> Tensor:
    """Which feature of a sound is heard at each place of a video that goes on after it: its last ones backwards, (N,).

    Args:
        num_features: of the sound, one per video frame.
        stop: where the last chunk ends.

    Source: the released driver of InfiniteTalk.
    """
    missing = stop - num_features + _SPARE if stop >= num_features else 0
    places = torch.arange(num_features + missing) % (2 * num_features)  # forwards, backwards, forwards, …
    return torch.where(places < num_features, places, 2 * num_features - 1 - places)


@dataclass(frozen=True)
class LatentWindow:
    """Latent frames [start, stop), of which the first `overlap` are shared with the window before."""

    start: int
    stop: int
    overlap: int = 0


def shifted_windows(num_latents: int, step: int, window: int = SHIFT_WINDOW, offset: int = SHIFT_OFFSET) -> Tensor:
    """Latent frames of the windows of one step, (num_windows, window), wrapping around.

    A video of one window is not shifted. The last window wraps over frames that the first has, too.

    Source: Sonic, arXiv 2411.16331, section 3.4, with the released code's offset.
    """
    shift = 0 if num_latents <= window else step * offset % window
    starts = torch.arange(0, num_latents, window) - shift
    return (starts[:, None] + torch.arange(min(window, num_latents))) % num_latents


def shifted_audio_frames(
    num_latents: int, num_audio_frames: int, step: int, window: int = SHIFT_WINDOW, offset: int = SHIFT_OFFSET
) -> Tensor:
    """Video-rate audio frames that belong to `shifted_windows`, (num_windows, 1 + 4 (window - 1))."""
    shift = 0 if num_latents <= window else step * offset % window
    starts = _STRIDE * (torch.arange(0, num_latents, window) - shift)
    return (starts[:, None] + torch.arange(1 + _STRIDE * (window - 1))) % num_audio_frames


def shift_lengths(num_audio_frames: int) -> tuple[int, int]:
    """How many latents HunyuanVideo-Avatar makes for so many audio frames, and how many of these it pads them to."""
    rounds = num_audio_frames // 128 + 1
    padding = min(rounds * 128 + _STRIDE - num_audio_frames, num_audio_frames)
    return rounds * 32 + 1, num_audio_frames + padding


def shifted_velocity(
    velocity: Velocity, latents: Tensor, step: int, window: int = SHIFT_WINDOW, offset: int = SHIFT_OFFSET
) -> Tensor:
    """Velocity of a whole video from windows that move with the step; where two cover a frame, their mean.

    Args:
        velocity: (latents [B, C, window, H, W], latent frames (window,)) to velocity.
        latents: [B, C, F, H, W].
        step: of the sampler, from 0.
        window, offset: length of a window, and how far windows move in a step.
    """
    total = torch.zeros_like(latents)
    coverage = latents.new_zeros(latents.shape[2])
    for frames in shifted_windows(latents.shape[2], step, window, offset).to(latents.device):
        total.index_add_(2, frames, velocity(latents[:, :, frames], frames))
        coverage.index_add_(0, frames, torch.ones_like(frames, dtype=coverage.dtype))
    return total / coverage[:, None, None]


def overlapping_windows(num_latents: int, window: int, overlap: int) -> list[LatentWindow]:
    """Windows that cover a video, each but the first beginning with `overlap` frames of the one before.

    Raises:
        OptionError: a window that is not longer than the overlap.
    """
    if not 0 <= overlap < window:
        raise OptionError(f"windows of {window} latent frames cannot overlap by {overlap}")
    windows = [LatentWindow(0, min(window, num_latents))]
    while windows[-1].stop < num_latents:
        start = windows[-1].start + window - overlap
        windows.append(LatentWindow(start, min(start + window, num_latents), overlap))
    return windows


def blend_weights(overlap: int, kind: Literal["linear", "log"] = "linear") -> Tensor:
    """Weight of the later window on each shared frame, (overlap,), from 0 to 1.

    Source: the released code of EchoMimicV3 (linear) and StableAvatar (both).
    """
    ramp = torch.linspace(0, 1, overlap, dtype=torch.float64)
    return (ramp if kind == "linear" else torch.log1p(ramp * (math.e - 1))).float()


def blended_velocity(
    velocity: Velocity,
    latents: Tensor,
    windows: list[LatentWindow],
    *,
    first_step: bool,
    kind: Literal["linear", "log"] = "linear",
) -> Tensor:
    """Velocity of a whole video from windows that overlap.

    Args:
        velocity: (latents of a window, its latent frames) to velocity.
        latents: [B, C, F, H, W].
        windows: `overlapping_windows`.
        first_step: whether later windows overwrite earlier ones, as the published systems do on the first step.
        kind: of the weights.
    """
    result = torch.zeros_like(latents)
    for each in windows:
        frames = torch.arange(each.start, each.stop, device=latents.device)
        fresh = velocity(latents[:, :, each.start : each.stop], frames)
        shared = min(each.overlap, each.stop - each.start)
        if shared and not first_step:
            weight = blend_weights(each.overlap, kind)[:shared, None, None].to(fresh)
            before = result[:, :, each.start : each.start + shared]
            blended = fresh[:, :, :shared] * weight + before * (1 - weight)
            fresh = torch.cat([blended, fresh[:, :, shared:]], dim=2)
        result[:, :, each.start : each.stop] = fresh
    return result
