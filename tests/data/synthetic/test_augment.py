"""Augmentation keeps what it must."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.data.synthetic.augment import change_speed, colour

RATE = 16_000
SPEECH = (np.random.default_rng(0).normal(size=RATE) * np.hanning(RATE) * 0.1).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_length_is_kept_and_the_result_normalised(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for length in (RATE, RATE - 1, 777):
        out = colour(SPEECH[:length], rng, SPEECH[::-1][:length])
        assert out.shape == (length,) and out.dtype == np.float32
        assert abs(out.mean()) < 1e-3 and out.std() == pytest.approx(1, abs=0.05)
        assert np.isfinite(out).all()


def test_silence_does_not_blow_up() -> None:
    for seed in range(5):
        assert np.isfinite(colour(np.zeros(RATE, np.float32), np.random.default_rng(seed))).all()


def test_sound_stays_where_it_was() -> None:
    """Rooms and microphones must not shift the speech against its phone times."""
    quiet = np.zeros(RATE, np.float32)
    quiet[8000:8800] = np.random.default_rng(1).normal(size=800)
    for seed in range(8):
        out = np.abs(colour(quiet, np.random.default_rng(seed)))
        energy = np.convolve(out**2, np.ones(800), "valid")
        assert abs(int(energy.argmax()) - 8000) < 320


def test_the_same_chance_gives_the_same_sound() -> None:
    one, same, other = (colour(SPEECH, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.allclose(one, other, atol=0.1)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speed_changes_tempo_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 400 * np.arange(RATE) / RATE).astype(np.float32)
    fast = change_speed(tone, factor)
    assert len(fast) == pytest.approx(RATE / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(fast))
    assert spectrum.argmax() * RATE / len(fast) == pytest.approx(400 * factor, rel=0.01)
