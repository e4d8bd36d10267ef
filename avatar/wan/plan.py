"""How a long video is cut into pieces that a Wan model makes at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from avatar.dit.long_video import SHIFT_OFFSET, SHIFT_WINDOW, Chunk, plan_chunks
from avatar.dit.published.preset import Handover, PublishedPreset
from avatar.errors import OptionError

LongVideo = Literal["chunks", "windows", "shifted"]


@dataclass(frozen=True)
class Windows:
    """Parts of a long video that are denoised together.

    Attributes:
        size: latent frames of each.
        overlap: how many are blended with those of the window before; None for windows that move with every step.
        offset: by how many latent frames they move.
    """

    size: int
    overlap: int | None = None
    offset: int = SHIFT_OFFSET


@dataclass(frozen=True)
class VideoPlan:
    """How a video is made.

    Attributes:
        chunks: what is made at a time, one after another.
        handover: what a chunk takes from the one before.
        windows: parts that a chunk is denoised in; None for whole.
    """

    chunks: list[Chunk]
    handover: Handover
    windows: Windows | None = None


def plan_video(
    preset: PublishedPreset,
    num_frames: int,
    chunk_frames: int | None,
    handover: Handover | None,
    long_video: LongVideo | None,
    stride: int = 4,
) -> VideoPlan:
    """The plan of a video; None for a published system's own way.

    Raises:
        OptionError: a way that is not known or does not fit, or as `plan_chunks`.
    """
    size = chunk_frames or preset.chunk_frames
    overlap = max(1, min(preset.overlap_frames, size - stride))
    way = long_video or ("windows" if preset.long_video == "windows" else "chunks")
    if way not in get_args(LongVideo):
        raise OptionError(f"long_video must be {', '.join(get_args(LongVideo))}, not {way!r}")
    if handover not in (None, *get_args(Handover)):
        raise OptionError(f"handover must be pixels or latents, not {handover!r}")
    if way == "chunks":
        handover = handover or preset.handover
        if handover == "latents":
            overlap -= (overlap - 1) % stride
        return VideoPlan(plan_chunks(num_frames, size, overlap, stride, preset.whole_chunks), handover)
    if handover is not None:
        raise OptionError(f"handover is between chunks, and long_video={way!r} makes the whole video at once")
    plan_chunks(1, size, overlap, stride)  # checks the size
    whole = plan_chunks(num_frames, 1 + stride * math.ceil(max(num_frames - 1, 1) / stride), 1, stride)
    of_window = 1 + (size - 1) // stride
    if whole[0].num_frames <= size:
        return VideoPlan(whole, "pixels")
    if way == "windows":
        return VideoPlan(whole, "pixels", Windows(of_window, 1 + (overlap - 1) // stride))
    offset = max(1, round(of_window * SHIFT_OFFSET / SHIFT_WINDOW))
    return VideoPlan(whole, "pixels", Windows(of_window, offset=offset))
