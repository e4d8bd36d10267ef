"""Emotion from the voice alone: measured prosody against what is known of how feelings sound.

No network: pitch level, pitch range, loudness variation, brightness and tempo are compared with the acoustic correlates that
P. N. Juslin and P. Laukka tabulate ("Communication of emotions in vocal expression and music performance", Psychological
Bulletin 129, 2003, table 7). Arousal is heard well this way and pleasantness badly, so the answer stays cautious: mostly
neutral, and never more than `MAX_STRENGTH` of anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import get_window

from avatar.audio.voice_activity import speech_activity
from avatar.emotion.labels import EMOTIONS, EmotionMix
from avatar.types import Waveform

MAX_STRENGTH = 0.6
_ANALYSED_S = 60.0
_HOP_S, _FRAME_S = 0.02, 0.04
_PITCH_RANGE_HZ = (65.0, 420.0)
_MIN_VOICED_FRAMES = 25
_OCTAVE_COST = 0.05  # of correlation, per octave of longer period


@dataclass(frozen=True)
class Prosody:
    """How something is said.

    Attributes:
        pitch_hz: median of the voice's pitch.
        pitch_spread_semitones: between the 10 % and the 90 % quantile.
        loudness_spread_db: likewise of the level while speaking.
        brightness: share of the energy above 1 kHz in voiced sound, dB.
        syllables_per_s: peaks of loudness per second of speech.
    """

    pitch_hz: float
    pitch_spread_semitones: float
    loudness_spread_db: float
    brightness: float
    syllables_per_s: float


# Mean and spread of ordinary, unemotional speech, and how each feeling departs from it in units of that spread, in the order
# pitch (relative to the voice's own register), pitch spread, loudness spread, brightness, tempo.
_ORDINARY = np.array([[0.0, 3.0], [7.0, 3.0], [18.0, 5.0], [-12.0, 5.0], [4.2, 1.0]])
_CORRELATES = {
    "happy": np.array([0.8, 1.2, 0.6, 0.6, 0.6]),
    "sad": np.array([-0.8, -1.2, -0.6, -1.2, -1.2]),
    "angry": np.array([0.6, 0.8, 1.2, 1.4, 0.6]),
    "fearful": np.array([1.2, -0.4, 0.2, 0.2, 1.0]),
    "surprised": np.array([1.4, 1.6, 0.4, 0.4, 0.0]),
}
_REGISTERS_HZ = (115.0, 205.0)  # of low and of high voices


def emotion_of_voice(speech: Waveform) -> EmotionMix:
    """The mix of emotions that a voice suggests.

    Args:
        speech: 16 kHz sound; the first minute is looked at.

    Returns:
        Weights over `EMOTIONS`, all neutral where too little is voiced.

    Source: Juslin and Laukka 2003, table 7.
    """
    prosody = measure_prosody(speech)
    if prosody is None:
        return EmotionMix.parse("neutral")
    register = min(_REGISTERS_HZ, key=lambda hz: abs(np.log(prosody.pitch_hz / hz)))
    measured = np.array([
        12 * np.log2(prosody.pitch_hz / register),
        prosody.pitch_spread_semitones,
        prosody.loudness_spread_db,
        prosody.brightness,
        prosody.syllables_per_s,
    ])  # fmt: skip
    departure = ((measured - _ORDINARY[:, 0]) / _ORDINARY[:, 1]).clip(-2.5, 2.5)
    evidence = {name: float(departure @ profile / np.linalg.norm(profile)) for name, profile in _CORRELATES.items()}
    odds = np.exp([1.5, *evidence.values()])  # the first is neutral
    chance = dict(zip(("neutral", *evidence), odds / odds.sum(), strict=True))
    best = max(evidence, key=lambda name: chance[name])
    strength = MAX_STRENGTH * max(0.0, chance[best] - chance["neutral"]) / (chance[best] + chance["neutral"])
    weights = {name: 0.0 for name in EMOTIONS} | {best: float(strength), "neutral": 1 - float(strength)}
    return EmotionMix(tuple(weights.values()))


def measure_prosody(speech: Waveform) -> Prosody | None:
    """Prosody of the first minute; None where fewer than half a second is voiced."""
    samples = speech.samples[: int(_ANALYSED_S * speech.sample_rate_hz)]
    if len(samples) < speech.sample_rate_hz // 2:
        return None
    frames, level_db = _frames(samples, speech.sample_rate_hz)
    activity = speech_activity(Waveform(samples, speech.sample_rate_hz))
    speaking = np.interp(np.arange(len(frames)), np.linspace(0, len(frames), len(activity)), activity) > 0.5
    pitch, clarity = _pitch(frames, speech.sample_rate_hz)
    voiced = speaking & (clarity > 0.5)
    if voiced.sum() < _MIN_VOICED_FRAMES:
        return None
    low, high = np.quantile(pitch[voiced], (0.1, 0.9))
    quiet, loud = np.quantile(level_db[speaking], (0.1, 0.9))
    smooth = np.convolve(level_db, np.hanning(7) / np.hanning(7).sum(), "same")
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & speaking[1:-1] & (smooth[1:-1] > loud - 20)
    return Prosody(
        float(np.median(pitch[voiced])),
        float(12 * np.log2(high / low)),
        float(loud - quiet),
        _brightness_db(frames[voiced], speech.sample_rate_hz),
        float(peaks.sum() / (speaking.sum() * _HOP_S)),
    )


def _frames(samples: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    size, hop = int(_FRAME_S * rate_hz), int(_HOP_S * rate_hz)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop].astype(np.float32)
    return frames, 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)


def _pitch(frames: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Pitch (Hz) and clarity in [0, 1] per frame by normalised autocorrelation (P. Boersma, 1993, eq. 24-26)."""
    size = frames.shape[1]
    window = get_window("hann", size)
    spectrum = np.abs(np.fft.rfft(frames * window, 2 * size)) ** 2
    correlation = np.fft.irfft(spectrum)[:, :size]
    own = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * size)) ** 2)[:size]
    normal = correlation / (correlation[:, :1] + 1e-9) / (own / own[0] + 1e-6)
    shortest, longest = int(rate_hz / _PITCH_RANGE_HZ[1]), int(rate_hz / _PITCH_RANGE_HZ[0])
    octaves = np.log2(np.arange(shortest, longest) / shortest)  # a period's double fits as well as the period
    lag = (normal[:, shortest:longest] - _OCTAVE_COST * octaves).argmax(axis=1)
    return rate_hz / (lag + shortest), normal[np.arange(len(normal)), lag + shortest].clip(0, 1)


def _brightness_db(frames: np.ndarray, rate_hz: int) -> float:
    power = (np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]))) ** 2).mean(axis=0)
    frequencies = np.fft.rfftfreq(frames.shape[1], 1 / rate_hz)
    return float(10 * np.log10(power[frequencies > 1000].sum() / (power[frequencies <= 1000].sum() + 1e-12) + 1e-6))
