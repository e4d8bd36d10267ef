"""How alike two curves are: Pearson's r at no lag, at the best small lag, and against the same curve out of place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MAX_LAG_FRAMES = 3  # 120 ms at 25 fps: about what viewers forgive (ITU-R BT.1359: -125 to +45 ms is detectable)


@dataclass(frozen=True)
class LagCorrelation:
    """Pearson correlation of a signal with the truth.

    Attributes:
        at_zero: as they stand; NaN where either is constant.
        best: the highest within the allowed lags.
        lag_frames: the lag of `best`; positive: the signal comes after the truth.
    """

    at_zero: float
    best: float
    lag_frames: int


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two signals (T,), over the frames where both are finite; NaN where one does not vary."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        return math.nan
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 1e-12 else math.nan


def lag_correlation(signal: np.ndarray, truth: np.ndarray, max_lag_frames: int = MAX_LAG_FRAMES) -> LagCorrelation:
    """Correlation at no lag and at the best lag within ±max_lag_frames; both signals are (T,)."""
    length = len(truth)
    by_lag = {
        lag: correlation(signal[max(lag, 0) : length + min(lag, 0)], truth[max(-lag, 0) : length - max(lag, 0)])
        for lag in range(-max_lag_frames, max_lag_frames + 1)
    }
    finite = {lag: r for lag, r in by_lag.items() if not math.isnan(r)}
    if not finite:
        return LagCorrelation(math.nan, math.nan, 0)
    best = max(finite, key=lambda lag: (finite[lag], -abs(lag)))
    return LagCorrelation(by_lag[0], finite[best], best)


def delayed(signal: np.ndarray, num_frames: int) -> np.ndarray:
    """The signal (T,) so many frames later, or earlier where that is negative; NaN where nothing is known."""
    moved = np.full(len(signal), np.nan)
    kept = max(len(signal) - abs(num_frames), 0)
    start = max(num_frames, 0)
    moved[start : start + kept] = signal[max(-num_frames, 0) :][:kept]
    return moved


def shift_rank(signal: np.ndarray, truth: np.ndarray, min_shift_frames: int) -> float:
    """How surely a signal belongs to this truth and not to another moment of it.

    Args:
        signal, truth: (T,) each.
        min_shift_frames: the smallest shift that counts as another moment, in frames, either way round.

    Returns:
        The share of circular shifts of the signal by at least so many frames whose correlation at best lag is lower than
        without the shift: 1 where the right place always wins, about 0.5 by chance. NaN where the signals are shorter
        than two such shifts, or one of them does not vary.
    """
    shifts = range(min_shift_frames, len(truth) - min_shift_frames + 1)
    in_place = lag_correlation(signal, truth).best
    if math.isnan(in_place) or not shifts:
        return math.nan
    return float(np.mean([lag_correlation(np.roll(signal, shift), truth).best < in_place for shift in shifts]))
