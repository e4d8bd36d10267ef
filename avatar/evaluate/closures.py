"""Does a generated mouth close when the person's own mouth did?"""

from __future__ import annotations

import math

import numpy as np
from scipy.signal import find_peaks

from avatar.evaluate.correlation import MAX_LAG_FRAMES
from avatar.evaluate.face_track import CLOSED_BELOW
from avatar.evaluate.movement import signal_range

OPEN_ABOVE = 0.04  # twice what counts as closed, so that a gap that hovers there is not counted again and again
MIN_CLOSED_FRAMES = 2
_DIP_SHARE = 0.25  # of the mouth's own range: how far it must come down, and go up again, for a dip to be seen
_DIP_WITHIN_FRAMES = 13  # half a second, in which both must happen


def closures(opening: np.ndarray) -> list[tuple[int, int]]:
    """Where lips that were open close: first frame and the frame after the last one of each closure.

    Args:
        opening: (T,) parts of the outer-eye distance, NaN where unknown (which ends a closure).

    Returns:
        Stretches below `CLOSED_BELOW` of `MIN_CLOSED_FRAMES` or more, each with a frame above `OPEN_ABOVE` between it and
        the one before; a mouth that starts closed has not closed.
    """
    closed = np.concatenate([[False], np.nan_to_num(opening, nan=np.inf) < CLOSED_BELOW, [False]])
    edges = np.flatnonzero(np.diff(closed.astype(int)))
    found, after = [], 0
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        was_open = bool(np.any(opening[after:start] > OPEN_ABOVE))
        if stop - start >= MIN_CLOSED_FRAMES and was_open:
            found.append((start, stop))
            after = stop
    return found


def closed_or_dipping(opening: np.ndarray) -> np.ndarray:
    """Frames (T,) in which a mouth is closed, or at the bottom of a clear dip.

    A dip is a local minimum below the mouth's own median, from which it rises on both sides, within half a second, by a
    quarter of its own range (5th to 95th percentile) or more.
    """
    known = np.isfinite(opening)
    if not known.any():
        return np.zeros(len(opening), bool)
    frames = np.arange(len(opening))
    filled = np.interp(frames, frames[known], opening[known])
    bottoms, _ = find_peaks(
        -filled, height=-float(np.median(filled)), prominence=_DIP_SHARE * signal_range(filled), wlen=_DIP_WITHIN_FRAMES
    )
    hit = filled < CLOSED_BELOW
    hit[bottoms] = True
    return hit & known


def closures_hit(generated: np.ndarray, truth: np.ndarray, tolerance_frames: int = MAX_LAG_FRAMES) -> float:
    """The share of a person's closures at which the generated mouth is closed, or at a clear dip, too.

    Args:
        generated, truth: (T,) opening, parts of the outer-eye distance.
        tolerance_frames: how far outside the closure it may be.

    Returns:
        In [0, 1]; NaN where the person never closes the lips.
    """
    return _share_hit(closed_or_dipping(generated), closures(truth), tolerance_frames)


def closures_hit_by_chance(
    generated: np.ndarray, truth: np.ndarray, min_shift_frames: int, tolerance_frames: int = MAX_LAG_FRAMES
) -> float:
    """What `closures_hit` is on average when the generated mouth belongs to another moment (circular shifts).

    Args:
        generated, truth, tolerance_frames: as there.
        min_shift_frames: the smallest shift, in frames, either way round.
    """
    hit, spans = closed_or_dipping(generated), closures(truth)
    shifts = range(min_shift_frames, len(truth) - min_shift_frames + 1)
    if not spans or not shifts:
        return math.nan
    return float(np.mean([_share_hit(np.roll(hit, shift), spans, tolerance_frames) for shift in shifts]))


def _share_hit(hit: np.ndarray, spans: list[tuple[int, int]], tolerance_frames: int) -> float:
    if not spans:
        return math.nan
    return float(
        np.mean([hit[max(0, start - tolerance_frames) : stop + tolerance_frames].any() for start, stop in spans])
    )
