"""How loud a sound is to the ear, and the gain that brings it to a given loudness.

Source: ITU-R BS.1770-4 (K-weighting, gated blocks of 400 ms that overlap by 75 %). The two filters are designed for any sample
rate from R. Bristow-Johnson's "Audio EQ Cookbook" with the parameters of B. De Man, "Evaluation of Implementations of the
EBU R128 Loudness Measurement" (2018), as pyloudnorm has them, since published systems were trained behind pyloudnorm.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.signal import lfilter

from avatar.types import Waveform

BLOCK_S, STEP_S = 0.4, 0.1
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
_OFFSET = -0.691  # BS.1770-4, eq. 2: a 997 Hz sine at full scale reads -3.01 LUFS
_LEAST_CREDIBLE_LUFS = -100.0  # quieter than this is silence and is left alone


def loudness_per_frame(speech: Waveform, num_frames: int, fps: float) -> np.ndarray:
    """RMS of the sound within each video frame, (T,); frame t covers [t, t + 1) / fps seconds, zero beyond the sound's end."""
    edges = np.round(np.arange(num_frames + 1) * speech.sample_rate_hz / fps).astype(int).clip(max=len(speech.samples))
    energy = np.concatenate(([0.0], np.cumsum(speech.samples.astype(np.float64) ** 2)))
    return np.sqrt(np.maximum(np.diff(energy[edges]), 0.0) / np.maximum(np.diff(edges), 1))


def integrated_loudness(sound: Waveform) -> float:
    """Loudness of a whole sound in LUFS; minus infinity for silence and for what is shorter than a block.

    Source: ITU-R BS.1770-4, eq. 2-7.
    """
    rate = sound.sample_rate_hz
    weighted = _k_weighted(sound.samples.astype(np.float64), rate)
    count = round((len(weighted) / rate - BLOCK_S) / STEP_S) + 1
    bounds = [(int(BLOCK_S * (j * 0.25) * rate), int(BLOCK_S * (j * 0.25 + 1) * rate)) for j in range(max(count, 0))]
    power = np.array([np.sum(weighted[start:stop] ** 2) / (BLOCK_S * rate) for start, stop in bounds])
    with np.errstate(divide="ignore"):
        loudness = _OFFSET + 10 * np.log10(power)
    heard = loudness >= ABSOLUTE_GATE_LUFS
    if not heard.any():
        return -math.inf
    gate = _OFFSET + 10 * math.log10(power[heard].mean()) + RELATIVE_GATE_LU
    return _OFFSET + 10 * math.log10(power[(loudness > gate) & (loudness > ABSOLUTE_GATE_LUFS)].mean())


def with_loudness(sound: Waveform, target_lufs: float) -> Waveform:
    """The same sound at another loudness, by one gain; silence is returned as it is. Peaks may exceed 1."""
    measured = integrated_loudness(sound)
    if measured < _LEAST_CREDIBLE_LUFS:
        return sound
    gain = 10 ** ((target_lufs - measured) / 20)
    return Waveform((gain * sound.samples).astype(np.float32), sound.sample_rate_hz)


def _k_weighted(samples: np.ndarray, rate: int) -> np.ndarray:
    for numerator, denominator in (_high_shelf(4.0, 1 / math.sqrt(2), 1500.0, rate), _high_pass(0.5, 38.0, rate)):
        samples = lfilter(numerator, denominator, samples)
    return samples


def _high_shelf(gain_db: float, quality: float, frequency_hz: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    a = 10 ** (gain_db / 40)
    angle = 2 * math.pi * frequency_hz / rate
    cos, alpha = math.cos(angle), math.sin(angle) / (2 * quality)
    slope = 2 * math.sqrt(a) * alpha
    b = a * np.array([a + 1 + (a - 1) * cos + slope, -2 * (a - 1 + (a + 1) * cos), a + 1 + (a - 1) * cos - slope])
    d = np.array([a + 1 - (a - 1) * cos + slope, 2 * (a - 1 - (a + 1) * cos), a + 1 - (a - 1) * cos - slope])
    return b / d[0], d / d[0]


def _high_pass(quality: float, frequency_hz: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * math.pi * frequency_hz / rate
    cos, alpha = math.cos(angle), math.sin(angle) / (2 * quality)
    b = np.array([(1 + cos) / 2, -(1 + cos), (1 + cos) / 2])
    d = np.array([1 + alpha, -2 * cos, 1 - alpha])
    return b / d[0], d / d[0]
