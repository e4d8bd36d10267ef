"""Waveforms that the caller brings: checked, resampled, mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.media.mixing import MIX_SAMPLE_RATE_HZ, check_waveform, mix_speech, resampled
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

HELLO = Path(__file__).resolve().parents[2] / "examples" / "hello.wav"


def _tone(rate_hz: int, frequency_hz: float = 440, level: float = 0.3, seconds: float = 0.5) -> Waveform:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    return Waveform((level * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32), rate_hz)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 96_000])
def test_a_waveform_keeps_its_pitch_length_and_level_at_16_khz(rate_hz: int) -> None:
    heard = check_waveform(_tone(rate_hz))
    assert heard.sample_rate_hz == MODEL_SAMPLE_RATE_HZ and heard.samples.dtype == np.float32
    assert len(heard.samples) == pytest.approx(8_000, abs=2)
    assert np.abs(np.fft.rfft(heard.samples, 16_000)).argmax() == pytest.approx(440, abs=2)
    assert np.abs(heard.samples[1000:-1000]).max() == pytest.approx(0.3, rel=0.02)


def test_double_precision_is_accepted() -> None:
    assert check_waveform(Waveform(np.full(10, 0.5))).samples.dtype == np.float32


def test_the_same_rate_is_left_alone() -> None:
    tone = _tone(16_000)
    assert resampled(tone, 16_000) is tone


def test_a_mix_is_the_sum_as_long_as_the_longest() -> None:
    short, long = _tone(48_000, 300, seconds=0.2), _tone(48_000, 1000, seconds=0.5)
    mix = mix_speech([short, long])
    assert mix.sample_rate_hz == MIX_SAMPLE_RATE_HZ
    assert np.allclose(mix.samples[:9_600], short.samples + long.samples[:9_600], atol=1e-6)
    assert np.allclose(mix.samples[9_600:], long.samples[9_600:], atol=1e-6)


def test_a_mix_that_would_clip_is_turned_down_as_a_whole() -> None:
    loud = _tone(48_000, level=0.8)
    mix = mix_speech([loud, loud])
    assert np.abs(mix.samples).max() == pytest.approx(1.0)
    assert np.allclose(mix.samples, loud.samples / 0.8, atol=1e-3)


def test_files_and_waveforms_of_any_rate_mix() -> None:
    mix = mix_speech([HELLO, _tone(8_000)])
    assert mix.duration_s > 0.5 and np.isfinite(mix.samples).all()
