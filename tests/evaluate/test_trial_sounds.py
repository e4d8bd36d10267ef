"""The sounds a model is tried with."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.data.synthetic.corpus import SpeechShard
from avatar.data.synthetic.phones import PHONE_INDEX, SILENCE
from avatar.data.synthetic.synthesise import Utterance
from avatar.data.synthetic.voices import VOICES
from avatar.evaluate.trial_sounds import LEAD_S, NOISE_DBFS, PAUSE_S, SUNG_RATE, noises, sentences, sung, with_pause


def _utterance(duration_s: float, text: str, phone: str = "m") -> Utterance:
    samples = (np.random.default_rng(len(text)).normal(size=int(duration_s * 16_000)) * 2000).astype(np.int16)
    phones = np.array([PHONE_INDEX["a"], PHONE_INDEX[phone]], np.int16)
    return Utterance(samples, phones, np.array([duration_s / 2, duration_s], np.float32), text)


@pytest.fixture
def shards() -> list[SpeechShard]:
    said = [_utterance(3, "one"), _utterance(1, "short"), _utterance(3, "no lips", "t"), _utterance(4, "two")]
    return [SpeechShard(VOICES[0], said), SpeechShard(VOICES[1], said[:1])]


def test_only_sentences_of_use_are_taken_voices_in_turn(shards: list[SpeechShard]) -> None:
    chosen = sentences(shards, 2)
    assert [(sentence.voice, sentence.utterance.text) for sentence in chosen] == [
        (VOICES[0].name, "one"),
        (VOICES[1].name, "one"),
        (VOICES[0].name, "two"),
    ]
    assert [sentence.utterance.text for sentence in sentences(shards, 1, skip=1)] == ["two"]


def test_silence_is_put_around_a_sentence_and_its_phones_move_along(shards: list[SpeechShard]) -> None:
    padded = sentences(shards, 1)[0].utterance
    assert padded.duration_s == pytest.approx(3 + 2 * LEAD_S)
    assert padded.phones[[0, -1]].tolist() == [SILENCE, SILENCE]
    np.testing.assert_allclose(padded.ends_s, [LEAD_S, LEAD_S + 1.5, LEAD_S + 3, 2 * LEAD_S + 3])


def test_a_pause_is_quiet_where_it_is_said_to_be(shards: list[SpeechShard]) -> None:
    one, two = sentences(shards, 1)
    speech, (start, end) = with_pause(one, two, np.random.default_rng(0))
    assert end - start == pytest.approx(PAUSE_S)
    pause = speech.samples[round(start * 16_000) : round(end * 16_000)]
    assert 0 < np.abs(pause).max() < 0.003
    assert speech.duration_s == pytest.approx(one.utterance.duration_s + two.utterance.duration_s + PAUSE_S)


def test_a_sentence_can_be_sung_and_its_phones_grow_with_it(shards: list[SpeechShard]) -> None:
    pytest.importorskip("librosa")
    spoken = sentences(shards, 1)[0]
    song, again = (sung(spoken, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(song.utterance.samples, again.utterance.samples)
    assert song.utterance.duration_s == pytest.approx(spoken.utterance.duration_s / SUNG_RATE, abs=0.01)
    np.testing.assert_allclose(song.utterance.ends_s, spoken.utterance.ends_s / SUNG_RATE, rtol=1e-5)
    assert np.abs(song.utterance.samples).max() > 1000


def test_noises_are_equally_loud_and_the_same_for_the_same_seed(shards: list[SpeechShard]) -> None:
    first, again = (noises(shards, np.random.default_rng(3)) for _ in range(2))
    for name, sound in first.items():
        rms = np.sqrt(np.mean(sound.samples.astype(np.float64) ** 2))
        assert 20 * np.log10(rms) == pytest.approx(NOISE_DBFS, abs=0.2)
        np.testing.assert_array_equal(sound.samples, again[name].samples)
