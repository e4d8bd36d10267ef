"""Where somebody speaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.audio import voice_activity
from avatar.audio.voice_activity import speech_activity
from avatar.media import read_waveform
from avatar.types import Waveform

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RATE = 16_000


@pytest.fixture(scope="module", params=["hello.wav", "rainbow.wav"])
def speech(request: pytest.FixtureRequest) -> Waveform:
    return read_waveform(EXAMPLES / request.param)


def _noise(seconds: float, level: float) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=int(seconds * RATE)) * level).astype(np.float32)


def test_nobody_speaks_in_digital_silence() -> None:
    assert not speech_activity(Waveform(np.zeros(3 * RATE, np.float32))).any()


@pytest.mark.parametrize("level", [1e-4, 3e-3, 0.05, 0.2])
def test_nobody_speaks_in_steady_noise(level: float) -> None:
    assert speech_activity(Waveform(_noise(8, level))).max() < 0.01


def test_nobody_speaks_in_a_steady_hum() -> None:
    t = np.arange(6 * RATE) / RATE
    assert speech_activity(Waveform((0.1 * np.sin(2 * np.pi * 150 * t)).astype(np.float32))).max() < 0.01


def test_somebody_speaks_in_speech(speech: Waveform) -> None:
    activity = speech_activity(speech)
    assert activity.shape == (-(-len(speech.samples) // 320),)
    assert activity.dtype == np.float32
    assert activity.min() >= 0 and activity.max() <= 1
    level = np.sqrt(np.mean(np.pad(speech.samples, (0, -len(speech.samples) % 320)).reshape(-1, 320) ** 2, axis=1))
    loud = level > 0.3 * np.quantile(level, 0.95)
    assert activity[loud].min() > 0.9


def test_speech_over_noise_is_told_from_the_noise(speech: Waveform) -> None:
    quiet = _noise(speech.duration_s + 6, 0.05 * float(speech.samples.std()))
    begin = 3 * RATE
    quiet[begin : begin + len(speech.samples)] += speech.samples
    activity = speech_activity(Waveform(quiet))
    assert activity[: 50 * 2].max() < 0.05
    assert activity[-50 * 2 :].max() < 0.05
    middle = activity[150 : 150 + int(speech.duration_s * 50)]
    assert middle.mean() > 0.6


@pytest.mark.parametrize("num_samples", [0, 1, 320, 321, 3200])
def test_any_length_is_understood(num_samples: int) -> None:
    assert speech_activity(Waveform(_noise(1, 0.1)[:num_samples])).shape == (-(-num_samples // 320),)


def test_a_word_alone_is_speech_however_short_the_file(speech: Waveform) -> None:
    loudest = int(np.abs(speech.samples).argmax())
    word = speech.samples[max(0, loudest - RATE // 8) : loudest + RATE // 8]
    assert speech_activity(Waveform(word)).mean() > 0.8


def test_filtering_in_pieces_equals_filtering_at_once(speech: Waveform, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = voice_activity.speech_band_db(speech)
    monkeypatch.setattr(voice_activity, "_PIECE_SAMPLES", 3200)
    assert np.allclose(voice_activity.speech_band_db(speech), whole, atol=1e-9)
