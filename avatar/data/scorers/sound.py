"""Cheap measures of a clip's sound: how much speech, how loud, clipped or not, how far above the noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatar.audio.loudness import integrated_loudness
from avatar.audio.voice_activity import speech_activity, speech_band_db
from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.types import Waveform

CLIPPED_RUN = 3  # samples in a row at the limit
_NEAR_LIMIT = 0.999
_QUIET_SHARE = 0.1
_LEAST_FRAMES = 5
_NO_POWER = 1e-12
_MAX_SNR_DB = 80.0


@register("sound")
class SoundScorer:
    """Fills speech_frac, loudness_lufs, clipping_frac, snr_db; null without sound, loudness also for silence."""

    name = "sound"
    version = "2"
    columns = columns("speech_frac", "loudness_lufs", "clipping_frac", "snr_db")
    weights: tuple[WeightSpec, ...] = ()

    def setup(self) -> None:
        """Nothing to load."""

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All columns of one clip."""
        sound = clip.waveform()
        if sound is None or not len(sound.samples):
            return {}
        activity = speech_activity(sound)
        loudness = integrated_loudness(sound)
        return {
            "speech_frac": float((activity > 0.5).mean()),
            "loudness_lufs": loudness if math.isfinite(loudness) else None,
            "clipping_frac": clipping_frac(sound.samples),
            "snr_db": snr_db(sound, activity),
        }


def clipping_frac(samples: np.ndarray) -> float:
    """Share of samples (S,) that stand at the clip's highest level, three or more in a row; full scale is ±1.

    A sound that was clipped and then turned down counts too, down to a fifth of full scale.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < 0.2:
        return 0.0
    at_limit = np.abs(samples) >= _NEAR_LIMIT * peak
    edges = np.flatnonzero(np.diff(np.concatenate(([False], at_limit, [False]))))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= CLIPPED_RUN].sum()) / len(samples)


def snr_db(sound: Waveform, activity: np.ndarray) -> float | None:
    """Level of speech over the level of what is left between it, both in the band of speech, dB, at most 80.

    What lies below, the rumble of a desk or of wind that nobody hears, can be louder than the voice.
    Where speech never pauses, the quietest tenth of it stands for the noise, so the figure is then a lower bound.

    Args:
        sound: 16 kHz.
        activity: (ceil(S / 320),) as `speech_activity` gives it.

    Returns:
        None without speech.
    """
    power = 10 ** (speech_band_db(sound) / 10)
    speaking, pausing = activity > 0.5, activity < 0.05
    if speaking.sum() < _LEAST_FRAMES:
        return None
    speech = power[speaking]
    noise = (
        power[pausing] if pausing.sum() >= _LEAST_FRAMES else np.sort(speech)[: max(1, int(_QUIET_SHARE * len(speech)))]
    )
    signal = max(float(speech.mean()) - float(noise.mean()), _NO_POWER)
    return min(_MAX_SNR_DB, 10 * math.log10(signal / max(float(noise.mean()), _NO_POWER)))
