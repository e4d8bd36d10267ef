"""Emotion from the voice: synthetic prosody moves it in the right direction, and no further than it may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.emotion.labels import EMOTIONS, EmotionMix
from avatar.emotion.voice import MAX_STRENGTH, emotion_of_voice, measure_prosody
from avatar.media import read_waveform
from avatar.types import Waveform

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RATE = 16_000


def _voice(
    pitch_hz: float,
    range_semitones: float,
    syllables_per_s: float,
    tilt: float,
    swing_db: float = 15.0,
    seconds: float = 6,
) -> Waveform:
    """Harmonics of a swinging pitch in syllables; `tilt` is how fast harmonics fall off (1 bright, 2.5 dull)."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = pitch_hz * 2 ** (range_semitones / 12 * 0.5 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = sum(np.sin(k * phase) / k**tilt for k in range(1, 30))
    syllable = 0.5 - 0.5 * np.cos(2 * np.pi * syllables_per_s * t)
    level = 10 ** (-(swing_db + 5) / 20 * (1 - syllable))
    pause = (t % 2.0) < 1.7
    return Waveform((0.05 * sound * level * pause).astype(np.float32))


def _weights(mix: EmotionMix) -> dict[str, float]:
    return dict(zip(EMOTIONS, mix.weights, strict=True))


HAPPY = _voice(260, 13, 5.5, 1.0)
SAD = _voice(175, 2.0, 2.2, 2.6, swing_db=8)
PLAIN = _voice(205, 6.5, 4.2, 1.7)


def test_prosody_is_measured_as_it_was_made() -> None:
    prosody = measure_prosody(PLAIN)
    assert prosody is not None
    assert prosody.pitch_hz == pytest.approx(205, rel=0.05)
    assert 3.5 < prosody.pitch_spread_semitones < 7.5
    assert prosody.syllables_per_s == pytest.approx(4.2, abs=0.8)


def test_prosody_orders_voices_as_they_sound() -> None:
    happy, plain, sad = (measure_prosody(voice) for voice in (HAPPY, PLAIN, SAD))
    assert happy is not None and plain is not None and sad is not None
    assert happy.pitch_hz > plain.pitch_hz > sad.pitch_hz
    assert happy.pitch_spread_semitones > plain.pitch_spread_semitones > sad.pitch_spread_semitones
    assert happy.brightness > plain.brightness > sad.brightness
    assert happy.syllables_per_s > plain.syllables_per_s > sad.syllables_per_s


def test_a_lively_bright_voice_is_not_sad_and_a_dull_slow_one_is() -> None:
    lively, dull = _weights(emotion_of_voice(HAPPY)), _weights(emotion_of_voice(SAD))
    aroused = sum(lively[name] for name in ("happy", "angry", "surprised", "fearful"))
    assert aroused > 0.2 and lively["sad"] == 0
    assert dull["sad"] > 0.2
    assert sum(dull[name] for name in ("happy", "angry", "surprised", "fearful")) == 0


@pytest.mark.parametrize(
    "voice", [HAPPY, SAD, PLAIN, read_waveform(EXAMPLES / "hello.wav")], ids=["happy", "sad", "plain", "hello"]
)
def test_the_answer_is_a_cautious_mix(voice: Waveform) -> None:
    weights = _weights(emotion_of_voice(voice))
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= 0
    assert weights["neutral"] >= 1 - MAX_STRENGTH - 1e-9


def test_loudness_of_the_recording_does_not_matter() -> None:
    louder = Waveform(PLAIN.samples * 4)
    assert emotion_of_voice(louder).weights == pytest.approx(emotion_of_voice(PLAIN).weights, abs=0.05)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0),
        np.zeros(3 * RATE),
        np.full(RATE, 0.5),
        np.random.default_rng(0).normal(size=3 * RATE) * 0.05,
        HAPPY.samples[: RATE // 3],
    ],
    ids=["nothing", "silence", "constant", "noise", "too short"],
)
def test_without_a_voice_all_is_neutral(samples: np.ndarray) -> None:
    assert _weights(emotion_of_voice(Waveform(samples.astype(np.float32))))["neutral"] == 1
