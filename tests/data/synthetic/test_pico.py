"""SVOX Pico: its log is read, and where it is installed it speaks."""

from __future__ import annotations

import importlib.util
from itertools import islice

import pytest

from avatar.data.synthetic import pico
from avatar.data.synthetic.phones import PHONE_NAMES, phones_of_ipa
from avatar.data.synthetic.synthesise import utterances
from avatar.data.synthetic.voices import RESERVE_VOICES
from avatar.errors import MissingDependencyError


def _line(number: int, frames: tuple[int, ...]) -> str:
    states = "".join(f"{n % 256:4d}{n // 256:4d}   9   0   9   0" for n in frames)
    return f"*** info |picopam.c |pam_step          | pam: ('h',{number:3d},  5, 30){states}\n"


def test_phones_and_times_are_read_from_the_log() -> None:
    german = pico.LANGUAGES["de-DE"]
    log = (
        _line(104, (300, 0, 0, 0, 0)) + _line(100, (10, 5, 5, 3, 2)) + _line(81, (1, 1, 1, 1, 1)) + _line(62, (5,) * 5)
    )
    (silence, first, second) = pico._phones(log + "noise\n", german)
    assert silence == ([], 0.0, pytest.approx(1.2))
    assert [PHONE_NAMES[k] for k in first[0]] == ["p"]  # the closure before it is its own
    assert first[1:] == (pytest.approx(1.2), pytest.approx(1.32))
    assert [PHONE_NAMES[k] for k in second[0]] == ["a", "ɪ"]


def test_a_sentence_with_an_unknown_phone_has_no_phones() -> None:
    assert pico._phones(_line(255, (1,) * 5), pico.LANGUAGES["it-IT"]) == []


@pytest.mark.parametrize("name", pico.LANGUAGES)
def test_every_phone_of_the_tables_is_understood(name: str) -> None:
    language = pico.LANGUAGES[name]
    assert language.pause not in language.ipa and not set(language.closures) & set(language.ipa)
    for number, symbols in language.ipa.items():
        assert symbols == "ʔ" or all(phones_of_ipa(part) for part in symbols.split()), number


@pytest.mark.skipif(importlib.util.find_spec("ctts") is not None, reason="ttspico is installed")
def test_a_missing_engine_says_what_to_install() -> None:
    with pytest.raises(MissingDependencyError, match="CFLAGS=-DPICO_DEBUG pip install"):
        pico.speak("en-US", [("one", 100, 100)])


@pytest.mark.skipif(importlib.util.find_spec("ctts") is None, reason="ttspico is not installed")
@pytest.mark.parametrize("name", ["pico-de-DE", "pico-fr-FR"])
def test_pico_speaks_with_phone_times_exact_to_the_frame(name: str) -> None:
    voice = next(voice for voice in RESERVE_VOICES if voice.name == name)
    for utterance in islice(utterances(voice, 0), 3):
        assert abs(float(utterance.ends_s[-1]) - utterance.duration_s) < 1e-3
