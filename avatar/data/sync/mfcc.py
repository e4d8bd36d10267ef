"""Mel cepstra as SyncNet was trained on them: the defaults of python_speech_features 0.6, re-written for numpy.

Source: S. B. Davis and P. Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980; the
details (rectangular window, energy in place of the zeroth coefficient, lifter) are that package's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import dct

FRAME_SAMPLES, STEP_SAMPLES, NFFT = 400, 160, 512  # 25 ms every 10 ms at 16 kHz
NUM_CEPSTRA = 13
_NUM_FILTERS, _LIFTER, _PREEMPHASIS, _RATE_HZ = 26, 22, 0.97, 16_000


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Cepstra of 16 kHz sound.

    Args:
        samples: (S,) in the range of int16, not of ±1: the zeroth number is the logarithm of the energy.

    Returns:
        (N, 13), 100 a second; the last frame is filled up with silence.
    """
    signal = np.append(samples[:1], samples[1:] - _PREEMPHASIS * samples[:-1]).astype(np.float64)
    count = 1 + max(0, -(-(len(signal) - FRAME_SAMPLES) // STEP_SAMPLES))
    signal = np.pad(signal, (0, (count - 1) * STEP_SAMPLES + FRAME_SAMPLES - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME_SAMPLES)[::STEP_SAMPLES]
    power = np.abs(np.fft.rfft(frames, NFFT)) ** 2 / NFFT
    epsilon = np.finfo(float).eps
    energy, bands = power.sum(axis=1), power @ _filters().T
    cepstra = dct(np.log(np.where(bands == 0, epsilon, bands)), type=2, axis=1, norm="ortho")[:, :NUM_CEPSTRA]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(NUM_CEPSTRA) / _LIFTER)
    cepstra[:, 0] = np.log(np.where(energy == 0, epsilon, energy))
    return cepstra


@cache
def _filters() -> np.ndarray:
    """Triangles between bins that are evenly spaced in mel, (26, 257)."""
    mel = np.linspace(0, 2595 * np.log10(1 + _RATE_HZ / 2 / 700), _NUM_FILTERS + 2)
    edges = np.floor((NFFT + 1) * 700 * (10 ** (mel / 2595) - 1) / _RATE_HZ)
    bins = np.arange(NFFT // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = np.where((bins >= low) & (bins < centre), (bins - low) / np.maximum(centre - low, 1), 0.0)
    return np.where((bins >= centre) & (bins < high), (high - bins) / np.maximum(high - centre, 1), rising)
