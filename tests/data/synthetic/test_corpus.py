"""The corpus on disk, its voices and its text; the real synthesisers where they are installed."""

from __future__ import annotations

import ctypes.util
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from avatar.data.synthetic import corpus
from avatar.data.synthetic.phones import PHONES, SILENCE
from avatar.data.synthetic.synthesise import Utterance, _merge_marks, _segments, _utterance, utterances
from avatar.data.synthetic.text import english_sentence, spoken_text
from avatar.data.synthetic.voices import HELD_OUT, VOICES, Voice
from avatar.errors import MediaError, MissingDependencyError

Say = Callable[..., Utterance]
FAKE = (
    Voice("fake-one", "espeak", "xx", "latin", 0.001, "none"),
    Voice("fake-two", "espeak", "yy", "latin", 0.001, "none", HELD_OUT),
)


@pytest.fixture
def fake_voices(say: Say, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Two voices that say random things; returns who was asked to speak with which seed."""
    asked: list[tuple[str, int]] = []

    def speak(voice: Voice, seed: int) -> Iterator[Utterance]:
        asked.append((voice.name, seed))
        rng = np.random.default_rng(seed)
        while True:
            yield say(
                ("sil", 0.1), ("a", float(rng.uniform(0.3, 1.0))), ("m", 0.1), ("o", 0.3), level=rng.uniform(0.01, 0.2)
            )

    monkeypatch.setattr(corpus, "VOICES", FAKE)
    monkeypatch.setattr(corpus, "utterances", speak)
    return asked


def test_what_was_made_is_what_is_read(fake_voices: list[tuple[str, int]], tmp_path: Path) -> None:
    progress: list[tuple[str, float]] = []
    corpus.make_speech(tmp_path, seed=5, progress=lambda name, done: progress.append((name, done)))
    (train,), (held_out,) = corpus.load_speech(tmp_path, "train"), corpus.load_speech(tmp_path, HELD_OUT)
    assert (train.voice.name, held_out.voice.name) == ("fake-one", "fake-two")
    assert sum(u.duration_s for u in train.utterances) >= 3.6
    expected = list(islice(corpus.utterances(FAKE[0], fake_voices[0][1]), len(train.utterances)))
    for got, made in zip(train.utterances, expected, strict=True):
        assert np.array_equal(got.samples, made.samples) and got.samples.dtype == np.int16
        assert np.array_equal(got.phones, made.phones) and np.array_equal(got.ends_s, made.ends_s)
        assert got.text == made.text
    assert progress[-1] == ("fake-two", 1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake-one.npz", "fake-two.npz"]  # nothing half-made


def test_voices_that_are_there_are_left_alone(fake_voices: list[tuple[str, int]], tmp_path: Path) -> None:
    corpus.make_speech(tmp_path, seed=5)
    (tmp_path / "fake-two.npz").unlink()
    before = (tmp_path / "fake-one.npz").read_bytes()
    fake_voices.clear()
    corpus.make_speech(tmp_path, seed=5)
    assert [name for name, _ in fake_voices] == ["fake-two"]
    assert (tmp_path / "fake-one.npz").read_bytes() == before


def test_each_voice_has_chance_of_its_own(fake_voices: list[tuple[str, int]], tmp_path: Path) -> None:
    corpus.make_speech(tmp_path, seed=5)
    assert fake_voices[0][1] != fake_voices[1][1]


def test_a_missing_voice_says_what_to_run(fake_voices: list[tuple[str, int]], tmp_path: Path) -> None:
    with pytest.raises(
        MediaError, match=r"fake-one.npz is missing; make the corpus first with scripts/make_embedded_corpus"
    ):
        corpus.load_speech(tmp_path, "train")


def test_voices_have_unique_names_and_licences() -> None:
    assert len({voice.name for voice in VOICES}) == len(VOICES)
    assert all(voice.licence and voice.hours > 0 for voice in VOICES)
    assert {voice.split for voice in VOICES} == {"train", HELD_OUT}


@pytest.mark.parametrize("script", sorted({voice.script for voice in VOICES} - {"english"}))
def test_there_is_something_to_say_in_every_script(script: str) -> None:
    rng = np.random.default_rng(0)
    texts = [spoken_text(script, rng) for _ in range(30)]
    assert all(4 <= len(text.split()) <= 10 and text.endswith(".") for text in texts)
    assert len(set(texts)) == 30


def test_english_sentences_are_sentences() -> None:
    rng = np.random.default_rng(0)
    sentences = [english_sentence(rng) for _ in range(200)]
    assert all(4 <= len(sentence.split()) <= 20 and sentence[-1] in ".?!" for sentence in sentences)
    assert len(set(sentences)) > 195
    assert english_sentence(np.random.default_rng(1)) == english_sentence(np.random.default_rng(1))


def test_a_diphthong_is_two_phones_the_first_the_longer() -> None:
    made = _utterance(np.zeros(16_000, np.int16), 16_000, [([], 0.0, 0.5), ([1, 2], 0.5, 1.0)], "x")
    assert made.phones.tolist() == [SILENCE, 1, 2]
    assert made.ends_s == pytest.approx([0.5, 0.8, 1.0])


def test_another_rate_becomes_16_khz() -> None:
    made = _utterance(np.zeros(22_050, np.int16), 22_050, [([1], 0.0, 1.0)], "x")
    assert len(made.samples) == 16_000 and made.samples.dtype == np.int16


def test_a_stress_or_length_mark_belongs_to_the_phone_before() -> None:
    phones = [([], 0.0, 0.1), ([1], 0.1, 0.2), ([], 0.2, 0.25), ([2], 0.25, 0.3), ([], 0.3, 0.4)]
    merged = _merge_marks(phones, ["a", "ˈ", "m", "_:"], has_lead=True)
    assert merged == [([], 0.0, 0.1), ([1], 0.1, 0.25), ([2], 0.25, 0.3), ([], 0.3, 0.4)]


def test_label_files_are_read(tmp_path: Path) -> None:
    label = tmp_path / "x.lab"
    label.write_text("separator ;\nnfields 1\n#\n0.1 26 pau\n0.25 26 m\n0.4 26 a\n")
    assert [end for _, _, end in _segments(label, {"pau": "", "m": "m", "a": "a"})] == [0.1, 0.25, 0.4]


def test_a_missing_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    voice = next(voice for voice in VOICES if voice.engine == "flite")
    with pytest.raises(MissingDependencyError, match="flite is not installed; install the package flite"):
        next(utterances(voice, 0))


def _check(utterance: Utterance) -> None:
    assert utterance.samples.dtype == np.int16 and np.abs(utterance.samples.astype(int)).max() > 1000
    assert (np.diff(utterance.ends_s) >= -1e-6).all()
    assert abs(float(utterance.ends_s[-1]) - utterance.duration_s) < 0.15
    assert utterance.phones.min() >= 0 and utterance.phones.max() < len(PHONES)
    # what is marked as speech is louder than what is marked as silence
    frame = np.searchsorted(utterance.ends_s, (np.arange(len(utterance.samples)) + 0.5) / 16_000)
    silent = utterance.phones[frame.clip(0, len(utterance.phones) - 1)] == SILENCE
    power = utterance.samples.astype(float) ** 2
    if silent.sum() > 1600:
        assert power[~silent].mean() > 2 * power[silent].mean()


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
@pytest.mark.parametrize("name", ["espeak-en", "espeak-de", "espeak-cmn-latn-pinyin"])
def test_espeak_speaks_with_phone_times(name: str) -> None:
    voice = next(voice for voice in VOICES if voice.name == name)
    for utterance in islice(utterances(voice, 0), 2):
        _check(utterance)


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_speaks_with_phone_times() -> None:
    voice = next(voice for voice in VOICES if voice.name == "flite-slt")
    for utterance in islice(utterances(voice, 0), 2):
        _check(utterance)
