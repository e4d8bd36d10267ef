"""A finished video: frames on demand, and the sound that goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avatar.media import write_video
from avatar.types import VideoShape, Waveform


@dataclass(frozen=True)
class VideoClip:
    """A finished video whose frames are rendered when asked for, so a long one never fills the memory.

    Attributes:
        shape: frames, size and rate.
        blocks: starts a fresh pass over the frames, in blocks (T, H, W, 3) uint8.
        speech: the sound that goes with it: the file it came from (kept at its own quality) or a waveform.
    """

    shape: VideoShape
    blocks: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    speech: Path | Waveform | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        """A fresh pass over the frames, in blocks (T, H, W, 3) uint8."""
        return self.blocks()

    def frames(self) -> np.ndarray:
        """All frames at once, (T, H, W, 3) uint8. Mind the memory: a minute at 512 px is 1.2 GB."""
        return np.concatenate(list(self.blocks()))

    def save(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Writes an mp4 (H.264 and AAC) with the sound. The file appears whole or not at all."""
        return write_video(Path(path), self.blocks(), fps=self.shape.fps, speech=self.speech, overwrite=overwrite)
