"""The baseline: loudness against lip opening, without a model. What it finds is what a loudness meter would."""

from __future__ import annotations

import numpy as np

from avatar.data.sync.lag_curve import OFFSETS, SyncResult, judge
from avatar.data.sync.model import MIN_WINDOWS
from avatar.types import Waveform


def loudness_per_frame(speech: Waveform, num_frames: int, fps: float) -> np.ndarray:
    """RMS of the sound within each video frame, (T,); zero beyond its end."""
    edges = np.round(np.arange(num_frames + 1) * speech.sample_rate_hz / fps).astype(int).clip(max=len(speech.samples))
    energy = np.concatenate(([0.0], np.cumsum(speech.samples.astype(np.float64) ** 2)))
    return np.sqrt(np.maximum(np.diff(energy[edges]), 0.0) / np.maximum(np.diff(edges), 1))


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
    frames = np.flatnonzero(found)
    for k, offset in enumerate(OFFSETS):
        lips = frames[(frames - offset >= 0) & (frames - offset < len(loudness))]
        counts[k] = len(lips)
        if len(lips) >= MIN_WINDOWS:
            distances[k] = 1 - _correlation(opening[lips], loudness[lips - offset])
    return judge(distances, counts)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r; 0 where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-12 else 0.0
