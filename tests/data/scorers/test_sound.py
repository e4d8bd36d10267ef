"""Sound measures on sounds whose level, noise and clipping are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers.sound import clipping_frac
from avatar.types import Waveform

RATE = 16_000


def _score(samples: np.ndarray | None) -> dict[str, Any]:
    class Clip:
        row: dict[str, object] = {}

        def waveform(self) -> Waveform | None:
            return None if samples is None else Waveform(samples.astype(np.float32))

    values, error = score_clip(create_scorer("sound"), Clip())  # type: ignore[arg-type]
    assert error is None
    return values


def _syllables(seconds: float, level: float = 0.1) -> np.ndarray:
    """Four bursts of a buzz a second."""
    t = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return level * buzz * np.clip(np.sin(2 * np.pi * 4 * t), 0, 1)


def _with_pause() -> np.ndarray:
    return np.concatenate([_syllables(2.0), np.zeros(3 * RATE), _syllables(1.0)])


def test_the_share_of_speech_is_that_of_the_sound() -> None:
    assert abs(_score(_with_pause() + 1e-5)["speech_frac"] - 0.5) < 0.1


@pytest.mark.parametrize("wanted_db", [5.0, 15.0, 30.0])
def test_the_level_of_speech_over_noise_is_found(wanted_db: float) -> None:
    speech = _with_pause()
    power = np.mean(np.concatenate([speech[: 2 * RATE], speech[5 * RATE :]]) ** 2)
    noise = np.random.default_rng(0).normal(size=len(speech)) * np.sqrt(power / 10 ** (wanted_db / 10))
    in_band_db = wanted_db + 10 * np.log10(8000 / (3800 - 120))  # of white noise, that part of it
    assert abs(_score(speech + noise)["snr_db"] - in_band_db) < 2


def test_a_rumble_below_speech_is_no_noise() -> None:
    speech = _with_pause() + np.random.default_rng(0).normal(0, 1e-4, 6 * RATE)
    rumble = 0.3 * np.sin(2 * np.pi * 25 * np.arange(6 * RATE) / RATE)
    assert _score(speech)["snr_db"] > 40 and _score(speech + rumble)["snr_db"] > 30


def test_loudness_follows_the_gain_in_db() -> None:
    loud, quiet = (_score(gain * _syllables(3.0))["loudness_lufs"] for gain in (1.0, 0.1))
    assert abs(loud - quiet - 20) < 0.1


def test_clipping_grows_with_overdrive_and_clean_sound_has_none() -> None:
    clean = _syllables(2.0, 0.3)
    clean = clean / np.abs(clean).max()
    shares = [clipping_frac(np.clip(drive * clean, -1, 1)) for drive in (0.9, 1.5, 3.0)]
    assert shares[0] == 0 < shares[1] < shares[2]
    assert clipping_frac(0.5 * np.clip(3 * clean, -1, 1)) == shares[2]  # turned down afterwards


def test_what_cannot_be_measured_is_null() -> None:
    assert _score(None) == {}
    silence = _score(np.zeros(RATE))
    assert silence["loudness_lufs"] is None and silence["snr_db"] is None and silence["speech_frac"] == 0.0
