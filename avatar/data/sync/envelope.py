"""The baseline: loudness against lip opening, without a model. What it finds is what a loudness meter would."""

from __future__ import annotations

import numpy as np

from avatar.data.sync.lag_curve import OFFSETS, SyncResult, judge
from avatar.data.sync.model import MIN_WINDOWS


def envelope_sync(opening: np.ndarray, found: np.ndarray, loudness: np.ndarray) -> SyncResult | None:
    """Offset of the highest correlation of loudness and lip opening.

    Args:
        opening: (T,) lip opening, any unit.
        found: (T,) bool: frames that count.
        loudness: (S,) per video frame.

    Returns:
        Distance is 1 minus the correlation; None where there is too little to compare.
    """
    distances, counts = np.full(len(OFFSETS), np.nan), np.zeros(len(OFFSETS), int)
    for k, offset in enumerate(OFFSETS):
        correlation, counts[k] = correlation_at(int(offset), opening, found, loudness)
        if counts[k] >= MIN_WINDOWS:
            distances[k] = 1 - correlation
    return judge(distances, counts)


def correlation_at(offset: int, opening: np.ndarray, found: np.ndarray, loudness: np.ndarray) -> tuple[float, int]:
    """Correlation of loudness and lip opening at one offset, in [-1, 1], 0 where one does not vary; and over how many frames."""
    frames = np.flatnonzero(found)
    lips = frames[(frames - offset >= 0) & (frames - offset < len(loudness))]
    return (_correlation(opening[lips], loudness[lips - offset]) if len(lips) else 0.0), len(lips)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r; 0 where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-12 else 0.0
