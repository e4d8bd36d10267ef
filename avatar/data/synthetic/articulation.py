"""Phone times to mouth movement: what lips and jaw do while a sentence is spoken.

Each phone pulls every articulator towards its target with a strength that decays in time on both sides, and the mouth
is the weighted mean of all that pull on it: coarticulation by dominance functions (M. M. Cohen and D. W. Massaro,
"Modeling coarticulation in synthetic visual speech", Models and Techniques in Computer Animation, 1993, eq. 1-4).
Two things are added that dominance alone blurs: a bilabial always seals the lips, and the lips lead the sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from avatar.data.synthetic.phones import CHANNELS, PHONES, SILENCE
from avatar.data.synthetic.synthesise import Utterance
from avatar.types import MODEL_SAMPLE_RATE_HZ

_WORK_RATE_HZ = 100
_LIP_LEAD_S = 0.03  # on real footage the lips are a little under one video frame ahead of the sound
_DECAY_PER_S = np.array([17.0, 19.0, 12.0, 9.0, 9.0, 30.0, 26.0])  # per channel; rounding reaches furthest
_SMOOTHING_S = np.array([0.028, 0.018, 0.030, 0.028, 0.028, 0.006, 0.012])  # the jaw is the heavy one
_SEAL_RAMP_S = 0.045
_TARGETS = np.array([phone.target for phone in PHONES])
_DOMINANCE = np.array([phone.dominance for phone in PHONES])
_IS_VOWEL = np.array([phone.is_vowel for phone in PHONES])
_JAW, _OPEN, _CLOSE, _TUCK = (CHANNELS.index(name) for name in ("jaw", "open", "close", "tuck"))


@dataclass(frozen=True)
class SpeakingStyle:
    """How one person articulates; 1 is the middle of the road.

    Attributes:
        effort: opening of vowels, 0.6 (mumbling) to 1.4.
        rounding: strength of lip rounding and spreading.
        jaw_share: how much of the opening the jaw does rather than the lips, 0.7 to 1.3.
        pause_opening: how far the mouth stays open in a pause inside the sentence, 0 to 0.3.
    """

    effort: float = 1.0
    rounding: float = 1.0
    jaw_share: float = 1.0
    pause_opening: float = 0.15

    @classmethod
    def sample(cls, rng: np.random.Generator) -> SpeakingStyle:
        return cls(rng.uniform(0.7, 1.3), rng.uniform(0.75, 1.25), rng.uniform(0.75, 1.25), rng.uniform(0.05, 0.25))


def articulate(utterance: Utterance, rate_hz: int, style: SpeakingStyle | None = None) -> np.ndarray:
    """The mouth while an utterance is spoken.

    Args:
        utterance: the sound with its phone times.
        rate_hz: frames per second of the result.
        style: how the person articulates; None for the average.

    Returns:
        (T, 7) float32, one column per `phones.CHANNELS`, in [0, ~1.3]; T = ceil(duration * rate_hz).

    Source: Cohen and Massaro 1993, eq. 1-4.
    """
    style = style or SpeakingStyle()
    phones, starts, ends = _phone_times(utterance)
    centres, durations = (starts + ends) / 2, ends - starts
    targets, dominance = _TARGETS[phones].copy(), _DOMINANCE[phones].copy()
    _scale_vowels(targets, utterance, phones, starts, ends, style)
    _set_pauses(targets, phones, durations, style)

    count = int(np.ceil(utterance.duration_s * _WORK_RATE_HZ)) + 1
    t = np.arange(count) / _WORK_RATE_HZ + _LIP_LEAD_S
    distance = np.maximum(0.0, np.abs(t[:, None] - centres) - durations / 4)
    curves = np.empty((count, len(CHANNELS)))
    for channel, decay in enumerate(_DECAY_PER_S):
        pull = dominance[:, channel] * np.exp(-decay * distance)
        curves[:, channel] = (pull @ targets[:, channel]) / (pull.sum(1) + 1e-9)
        curves[:, channel] = gaussian_filter1d(curves[:, channel], _SMOOTHING_S[channel] * _WORK_RATE_HZ)
    seal = _held(t, phones, starts, ends, _CLOSE)
    tuck = _held(t, phones, starts, ends, _TUCK)
    curves[:, _CLOSE] = seal
    curves[:, _TUCK] = tuck * (1 - seal)
    curves[:, _OPEN] *= 1 - np.maximum(seal, 0.6 * tuck)
    curves[:, _JAW] *= 1 - 0.45 * np.maximum(seal, 0.5 * tuck)
    return _resample(curves, utterance.duration_s, rate_hz)


def aperture(curves: np.ndarray) -> np.ndarray:
    """Lip opening (T,) in [0, ~1.2] that the channel curves (T, 7) amount to."""
    jaw, lips, close, tuck = (curves[:, k] for k in (_JAW, _OPEN, _CLOSE, _TUCK))
    return (0.8 * jaw + 0.6 * lips) * (1 - close) * (1 - 0.5 * tuck)


def phone_frames(utterance: Utterance, rate_hz: int) -> np.ndarray:
    """The phone class spoken at the middle of each frame, (T,) int64."""
    count = int(np.ceil(utterance.duration_s * rate_hz))
    t = (np.arange(count) + 0.5) / rate_hz
    index = np.searchsorted(utterance.ends_s, t).clip(0, len(utterance.phones) - 1)
    return utterance.phones[index].astype(np.int64)


def _phone_times(utterance: Utterance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = utterance.ends_s.astype(np.float64)
    starts = np.concatenate([[0.0], ends[:-1]])
    keep = ends > starts
    return utterance.phones[keep].astype(int), starts[keep], ends[keep]


def _scale_vowels(
    targets: np.ndarray,
    utterance: Utterance,
    phones: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    style: SpeakingStyle,
) -> None:
    """Loud and long vowels open wider (H. Lane and B. Tranel, "The Lombard sign", 1971, for the direction)."""
    power = np.concatenate([[0.0], np.cumsum(utterance.samples.astype(np.float64) ** 2)])
    last = len(utterance.samples)
    a, b = ((x * MODEL_SAMPLE_RATE_HZ).astype(int).clip(0, last) for x in (starts, ends))
    rms = np.sqrt((power[b] - power[a]) / np.maximum(1, b - a))
    vowels = _IS_VOWEL[phones]
    if vowels.any():
        loud = (rms / (np.median(rms[vowels]) + 1e-6)).clip(0.05, 4) ** 0.5
        long = ((ends - starts) / 0.09).clip(0.2, 4) ** 0.15
        gain = np.where(vowels, (loud * long).clip(0.5, 1.35), 1.0) * style.effort
        targets[:, _JAW] *= gain * style.jaw_share
        targets[:, _OPEN] *= gain * (2 - style.jaw_share)
    targets[:, 2:5] *= style.rounding


def _set_pauses(targets: np.ndarray, phones: np.ndarray, durations: np.ndarray, style: SpeakingStyle) -> None:
    """Inside a sentence a speaker does not shut the mouth at a short pause; before and after it, lips rest closed."""
    inner = (phones == SILENCE) & (durations < 0.45)
    inner[[0, -1]] = False
    targets[inner, _JAW] = 0.8 * style.pause_opening
    targets[inner, _OPEN] = style.pause_opening


def _held(t: np.ndarray, phones: np.ndarray, starts: np.ndarray, ends: np.ndarray, channel: int) -> np.ndarray:
    """1 while a phone that needs the channel holds it (its first three quarters), ramping on both sides."""
    held = np.zeros_like(t)
    for k in np.flatnonzero(_TARGETS[phones, channel] > 0.9):
        release = starts[k] + 0.75 * (ends[k] - starts[k])
        outside = np.maximum(np.maximum(starts[k] - t, t - release), 0.0)
        held = np.maximum(held, 0.5 + 0.5 * np.cos(np.pi * np.minimum(1.0, outside / _SEAL_RAMP_S)))
    return held


def _resample(curves: np.ndarray, duration_s: float, rate_hz: int) -> np.ndarray:
    """Samples at frame centres; a closure shorter than a frame is kept (largest value within the frame)."""
    window = max(1, round(_WORK_RATE_HZ / rate_hz))
    held = maximum_filter1d(curves[:, _CLOSE : _TUCK + 1], window, axis=0)
    t = (np.arange(int(np.ceil(duration_s * rate_hz))) + 0.5) / rate_hz * _WORK_RATE_HZ
    index = t.astype(int).clip(0, len(curves) - 1)
    out = curves[index]
    out[:, _CLOSE : _TUCK + 1] = held[index]
    for column in (_JAW, _OPEN):  # what the widened closure seals must not stay open
        out[:, column] = np.minimum(out[:, column], curves[index, column])
    out[:, _OPEN] *= 1 - out[:, _CLOSE]
    return out.astype(np.float32)
