"""Envelopes and pauses of sounds that are known."""

from __future__ import annotations

import math

import numpy as np

from avatar.evaluate.sound import silent_frames, sound_envelope
from avatar.types import Waveform

FPS = 25.0


def test_envelope_of_a_tone_is_its_rms_and_the_band_keeps_or_drops_it() -> None:
    rate = 16_000
    time_s = np.arange(rate) / rate
    speech = Waveform((0.5 * np.sin(2 * np.pi * 500 * time_s)).astype(np.float32), rate)
    np.testing.assert_allclose(sound_envelope(speech, 25, FPS), 0.5 / math.sqrt(2), atol=1e-3)
    np.testing.assert_allclose(sound_envelope(speech, 25, FPS, (300, 1000)), 0.5 / math.sqrt(2), atol=1e-3)
    np.testing.assert_allclose(sound_envelope(speech, 25, FPS, (1500, 3000)), 0.0, atol=1e-3)


def test_envelope_is_zero_beyond_the_end_of_the_sound() -> None:
    envelope = sound_envelope(Waveform(np.ones(16_000, np.float32)), 50, FPS)
    np.testing.assert_allclose(envelope[:25], 1.0)
    assert not envelope[25:].any()


def test_a_pause_is_silent_but_not_its_edges() -> None:
    envelope = np.concatenate([np.full(40, 0.2), np.full(20, 1e-4), np.full(40, 0.2)])
    silent = silent_frames(envelope)
    assert np.flatnonzero(silent).tolist() == list(range(43, 57))
