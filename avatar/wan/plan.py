"""How a long video is cut into pieces that a Wan model makes at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from avatar.errors import OptionError


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


def plan_chunks(num_frames: int, chunk_frames: int, overlap_frames: int, stride: int = 4) -> list[Chunk]:
    """Chunks that cover a video; the last one is only as long as it must be, its surplus is cut.

    Args:
        num_frames: of the video.
        chunk_frames: of a chunk, 1 + stride k.
        overlap_frames: frames a chunk begins with that the one before has made, 1 or more.
        stride: video frames per latent frame.

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
        chunks.append(Chunk(start, min(chunk_frames, needed), known))
        if chunks[-1].stop >= num_frames:
            return chunks
        start, known = chunks[-1].stop - overlap_frames, overlap_frames
