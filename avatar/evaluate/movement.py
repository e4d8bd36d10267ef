"""How much and how smoothly something moves: ranges, trembling, the spread of the head and the gaze, blinks."""

from __future__ import annotations

import math

import numpy as np


def signal_range(signal: np.ndarray) -> float:
    """From the 5th to the 95th percentile of the finite values; NaN if there are none."""
    finite = signal[np.isfinite(signal)]
    return float(np.percentile(finite, 95) - np.percentile(finite, 5)) if len(finite) else math.nan


def jitter(signal: np.ndarray) -> float:
    """Root mean square of the second difference of a signal (T,): zero for steady motion, large for trembling."""
    second = np.diff(signal, 2)
    second = second[np.isfinite(second)]
    return float(np.sqrt(np.mean(second**2))) if len(second) else math.nan


def head_spread_deg(head_deg: np.ndarray) -> float:
    """Standard deviation of yaw, pitch and roll (T, 3), together: the root of the summed variances."""
    finite = head_deg[np.isfinite(head_deg).all(axis=1)]
    return float(np.sqrt(finite.var(axis=0).sum())) if len(finite) else math.nan


def gaze_spread(gaze: np.ndarray) -> float:
    """Standard deviation of both directions of the gaze (T, 2), together, in its unit."""
    finite = gaze[np.isfinite(gaze).all(axis=1)]
    return float(np.sqrt(finite.var(axis=0).sum())) if len(finite) else math.nan


def blinks_per_minute(eyes: np.ndarray, fps: float, close_below: float = 0.6, open_above: float = 0.75) -> float:
    """How often the lids (T,) fall below `close_below` of their usual gap and come back above `open_above`.

    The usual gap is the 75th percentile, so that a clip with many blinks is measured alike.
    """
    finite = eyes[np.isfinite(eyes)]
    if not len(finite):
        return math.nan
    share = finite / np.percentile(finite, 75)
    blinks, closed = 0, False
    for value in share:
        if not closed and value < close_below:
            closed = True
        elif closed and value > open_above:
            blinks, closed = blinks + 1, False
    return blinks / (len(finite) / fps) * 60
