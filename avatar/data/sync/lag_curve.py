"""Distances by offset to an offset, a confidence and a distance: what every sync scorer ends in.

The sign, once and for all: an offset is how many video frames the sound must be delayed by. offset > 0: the audio is early and
must be delayed; offset < 0: it is late and must be advanced. Lips of frame i then belong to the sound of frame i - offset.
That is what the code of SyncNet does (joonson/syncnet_python, SyncNetInstance.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_OFFSET_FRAMES = 15
OFFSETS = np.arange(-MAX_OFFSET_FRAMES, MAX_OFFSET_FRAMES + 1)


@dataclass(frozen=True)
class SyncResult:
    """How well a clip's lips and sound belong together.

    Attributes:
        offset_frames: at 25 fps; > 0: the audio is early and must be delayed by so much.
        confidence: median of the distances over all offsets minus the least: about 0 where no offset stands out.
        distance: the least.
        num_windows: how many places of the clip were compared at that offset.
    """

    offset_frames: int
    confidence: float
    distance: float
    num_windows: int


def judge(distances: np.ndarray, counts: np.ndarray) -> SyncResult | None:
    """What a curve says.

    Args:
        distances: (31,), mean distance at each of `OFFSETS`; NaN where there was too little to compare.
        counts: (31,), how many places each mean is over.

    Returns:
        None where half of the offsets or more could not be compared; where several are equally good, the smallest.

    Source: J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", 2016, section 4.1.
    """
    known = np.isfinite(distances)
    if known.sum() * 2 <= len(distances):
        return None
    least = float(np.nanmin(distances))
    best = min(np.flatnonzero(distances == least), key=lambda k: abs(OFFSETS[k]))
    confidence = float(np.nanmedian(distances)) - least
    return SyncResult(int(OFFSETS[best]), confidence, least, int(counts[best]))
