"""Where in a sound somebody speaks, so that the mouth rests in silence.

Energy in the speech band above an adaptive noise floor, with hysteresis and hang-over, as in classic detectors
(J. Sohn et al., "A statistical model-based voice activity detection", 1999, for the decision smoothing).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d
from scipy.signal import butter, sosfilt

from avatar.audio.encoder import FEATURE_RATE_HZ, SAMPLES_PER_FEATURE
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

SPEECH_BAND_HZ = (120.0, 3800.0)
SILENCE_DBFS = -58.0  # below this nothing is speech, however quiet the recording
MARGIN_DB = 9.0  # above the noise floor
STEADY_DB = 3.0  # a level that stays within this for seconds is a hum or a hiss, not a voice
_WINDOW_S, _LEAST_STEADY_S = 4.0, 0.9
_HANG_S, _RAMP_S = 0.12, 0.05
_PIECE_SAMPLES = 20 * MODEL_SAMPLE_RATE_HZ


def speech_activity(speech: Waveform) -> np.ndarray:
    """How surely somebody speaks.

    Args:
        speech: 16 kHz sound.

    Returns:
        (N,) float32 in [0, 1] at 50 Hz, N = ceil(S / 320), with soft edges; the mouth's opening can be multiplied by it.
    """
    count = -(-len(speech.samples) // SAMPLES_PER_FEATURE)
    if count == 0:
        return np.zeros(0, np.float32)
    level_db = speech_band_db(speech)
    floor_db = _noise_floor(level_db)
    loud = (level_db > np.maximum(floor_db + MARGIN_DB, SILENCE_DBFS)) & ~_is_steady(level_db)
    held = maximum_filter1d(loud.astype(np.float32), 1 + 2 * round(_HANG_S * FEATURE_RATE_HZ))
    return gaussian_filter1d(held, _RAMP_S * FEATURE_RATE_HZ).clip(0, 1).astype(np.float32)


def speech_band_db(speech: Waveform) -> np.ndarray:
    """Level in the speech band per feature, dB of full scale; filtered piece by piece, so long sound needs little memory."""
    band = butter(4, SPEECH_BAND_HZ, "bandpass", fs=speech.sample_rate_hz, output="sos")
    state = np.zeros((len(band), 2))
    levels = []
    for start in range(0, len(speech.samples), _PIECE_SAMPLES):
        filtered, state = sosfilt(band, speech.samples[start : start + _PIECE_SAMPLES], zi=state)
        filtered = np.pad(filtered, (0, -len(filtered) % SAMPLES_PER_FEATURE))
        levels.append(np.mean(filtered.reshape(-1, SAMPLES_PER_FEATURE) ** 2, axis=1))
    return 10 * np.log10(np.concatenate(levels) + 1e-12)


def _noise_floor(level_db: np.ndarray) -> np.ndarray:
    """The quietest level within four seconds around, smoothed; never above what loud speech leaves as pauses."""
    window = int(_WINDOW_S * FEATURE_RATE_HZ) + 1
    floor = gaussian_filter1d(minimum_filter1d(gaussian_filter1d(level_db, 2.0), window), window / 4)
    return np.minimum(floor, np.quantile(level_db, 0.95) - 20.0)


def _is_steady(level_db: np.ndarray) -> np.ndarray:
    """Where the level belongs to four seconds (or a whole shorter clip, of 0.9 s at least) that hardly vary."""
    if len(level_db) < _LEAST_STEADY_S * FEATURE_RATE_HZ:
        return np.zeros(len(level_db), bool)
    window = min(int(_WINDOW_S * FEATURE_RATE_HZ), len(level_db))
    windows = np.lib.stride_tricks.sliding_window_view(gaussian_filter1d(level_db, 2.0), window)
    steady = windows.max(axis=1) - windows.min(axis=1) < STEADY_DB
    return np.convolve(steady, np.ones(window)) > 0.5
