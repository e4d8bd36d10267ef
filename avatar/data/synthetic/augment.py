"""Makes clean synthetic speech sound like the world: other voices, rooms, microphones, noise."""

from __future__ import annotations

import numpy as np
import soxr

from avatar.types import MODEL_SAMPLE_RATE_HZ

SPEED_RANGE = (0.80, 1.25)


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Plays (S,) float32 `factor` times as fast: tempo, pitch and formants together, which makes another person of a voice."""
    return soxr.resample(samples, MODEL_SAMPLE_RATE_HZ * factor, MODEL_SAMPLE_RATE_HZ, quality="LQ").astype(np.float32)


def colour(samples: np.ndarray, rng: np.random.Generator, other: np.ndarray | None = None) -> np.ndarray:
    """Equaliser, band limits and gaps, room, other talkers, music, noise, clipping, coarse codes, drop-outs, gain drift.

    Each is there at random; the length is kept.

    Args:
        samples: (S,) float32 speech.
        rng: source of chance.
        other: (S,) float32 of somebody else, mixed in quietly at times.

    Returns:
        (S,) float32 with zero mean and unit variance.
    """
    length = len(samples)
    size = length + MODEL_SAMPLE_RATE_HZ // 2
    frequencies = np.fft.rfftfreq(size, 1 / MODEL_SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(samples, size) * _equaliser(frequencies, rng)
    if rng.random() < 0.6:
        spectrum *= np.fft.rfft(_room(rng), size)
    out = np.fft.irfft(spectrum, size)[:length]
    power = np.mean(out**2) + 1e-12
    if other is not None and rng.random() < 0.15:
        out = out + other[:length] * np.sqrt(power / (np.mean(other**2) + 1e-12)) * 10 ** (-rng.uniform(10, 25) / 20)
    if rng.random() < 0.12:
        out = out + _music(length, rng) * np.sqrt(power) * 10 ** (-rng.uniform(6, 25) / 20)
    if rng.random() < 0.85:
        noise = _coloured_noise(frequencies, size, rng)[:length]
        out = out + noise * np.sqrt(power) * 10 ** (-rng.uniform(5, 45) / 20)
    if rng.random() < 0.1:
        limit = np.quantile(np.abs(out), rng.uniform(0.95, 0.999)) + 1e-6
        out = np.clip(out, -limit, limit)
    if rng.random() < 0.1:
        out = _coarsely_coded(out, rng)
    if rng.random() < 0.25:
        out = _with_drop_outs(out, rng)
    knots = rng.normal(0, 1.5, 4).cumsum()
    out = out * 10 ** (np.interp(np.linspace(0, 3, length), np.arange(4), knots - knots.mean()) / 20)
    return ((out - out.mean()) / (out.std() + 1e-5)).astype(np.float32)


def _equaliser(frequencies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mel = np.log1p(frequencies / 700)
    gain_db = np.interp(mel, np.linspace(0, mel[-1], 9), rng.normal(0, 5, 9) + np.linspace(0, rng.normal(0, 6), 9))
    gain = 10 ** (gain_db / 20)
    if rng.random() < 0.4:
        gain = gain / (1 + (frequencies / rng.uniform(3000, 7800)) ** 12)
    if rng.random() < 0.4:
        gain = gain * (1 - 1 / (1 + (frequencies / rng.uniform(40, 320)) ** 6))
    if rng.random() < 0.35:  # a missing band: no single cue may be relied on (D. S. Park et al., "SpecAugment", 2019)
        low = rng.uniform(0, 0.9) * mel[-1]
        gain = np.where((mel > low) & (mel < low + rng.uniform(0.03, 0.14) * mel[-1]), 0.03 * gain, gain)
    return gain


def _room(rng: np.random.Generator) -> np.ndarray:
    """Direct sound and an exponentially decaying diffuse tail."""
    decay_s = rng.uniform(0.06, 0.5)
    count = int(MODEL_SAMPLE_RATE_HZ * min(decay_s, 0.45))
    t = np.arange(count) / MODEL_SAMPLE_RATE_HZ
    tail = rng.normal(0, 1, count) * 10 ** (-3 * t / decay_s)
    tail *= rng.uniform(0.1, 0.9) / np.sqrt(np.sum(tail**2) + 1e-9)
    tail[0] = 1.0
    return tail


def _coloured_noise(frequencies: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    slope = rng.uniform(-1.2, 0.4)
    shape = np.maximum(frequencies, 30.0) ** slope
    spectrum = shape * (rng.normal(size=len(frequencies)) + 1j * rng.normal(size=len(frequencies)))
    noise = np.fft.irfft(spectrum, size)
    return noise / (noise.std() + 1e-9)


def _music(length: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of plucked or held tones with a beat, (length,) of unit variance."""
    t = np.arange(length) / MODEL_SAMPLE_RATE_HZ
    beat_s, root_hz, decay_per_s = rng.uniform(0.25, 0.8), rng.uniform(80, 300), rng.uniform(0.3, 6)
    out = np.zeros(length)
    for start in np.arange(-rng.uniform(0, beat_s), length / MODEL_SAMPLE_RATE_HZ, beat_s):
        first = max(0, int(start * MODEL_SAMPLE_RATE_HZ))
        since = t[first : first + int(4 * beat_s * MODEL_SAMPLE_RATE_HZ)] - start
        pluck = np.exp(-decay_per_s * since)
        for semitones in rng.choice([0, 3, 4, 5, 7, 9, 12, 16], size=3, replace=False):
            frequency = root_hz * 2 ** (semitones / 12)
            for harmonic in range(1, 5):
                out[first : first + len(since)] += pluck / harmonic * np.sin(2 * np.pi * harmonic * frequency * since)
    return out / (out.std() + 1e-9)


def _coarsely_coded(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a telephone codes it: mu-law with few levels (ITU-T G.711, with 4 to 8 bits)."""
    peak, levels, mu = np.abs(samples).max() + 1e-9, 2 ** int(rng.integers(4, 9)), 255.0
    code = np.sign(samples) * np.log1p(mu * np.abs(samples) / peak) / np.log1p(mu)
    code = np.round(code * levels / 2) * 2 / levels
    return peak * np.sign(code) * np.expm1(np.abs(code) * np.log1p(mu)) / mu


def _with_drop_outs(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few gaps of 20 to 100 ms, as of lost packets."""
    out = samples.copy()
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(0, len(out)))
        length = min(int(rng.uniform(0.02, 0.1) * MODEL_SAMPLE_RATE_HZ), len(out) // 10)
        out[start : start + length] *= rng.uniform(0, 0.1)
    return out
