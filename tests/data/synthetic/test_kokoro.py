"""Kokoro: its alphabet, the times of its phones, and where it is installed its sound."""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from avatar.data.synthetic import kokoro
from avatar.data.synthetic.phones import PHONE_INDEX, SILENCE
from avatar.data.synthetic.synthesise import utterances
from avatar.data.synthetic.voices import VOICES
from avatar.errors import MissingDependencyError

CORPUS = Path(os.environ.get("AVATAR_CORPUS", "."))


def test_affricates_and_diphthongs_are_single_symbols() -> None:
    assert kokoro.symbols_of_ipa("tʃˈeɪndʒ ɡoʊ") == "ʧˈAnʤ ɡO"


def test_pinyin_is_read_with_its_tones() -> None:
    assert kokoro.symbols_of_pinyin("zhong1guo2, hao3.") == "ꭧʊŋ→kwo↗, xau↓."


def test_what_is_not_pinyin_is_left_out() -> None:
    assert kokoro.symbols_of_pinyin("ma1 1024 ma3.").split() == ["ma→", "ma↓."]


def test_text_is_spoken_clause_by_clause_with_its_marks() -> None:
    assert kokoro._clauses("well, so what? yes") == [("well", ","), ("so what", "?"), ("yes", ".")]


def test_stress_belongs_to_the_phone_after_length_to_the_one_before_and_quiet_gaps_are_pauses() -> None:
    rate = kokoro.SAMPLE_RATE_HZ
    sound = np.full(rate, 0.3, np.float32)
    sound[int(0.4 * rate) : int(0.6 * rate)] = 0
    symbols = ["m", "ˈ", "a", "ː", ",", "p", " ", "a", " "]
    phones = kokoro._phones(symbols, np.array([0.1, 0.15, 0.3, 0.4, 0.6, 0.7, 0.8, 0.95, 1.0]), sound)
    m, a, p = (PHONE_INDEX[name] for name in "map")
    assert phones == [
        ([m], 0.0, 0.1), ([a], 0.1, 0.4), ([], 0.4, 0.6), ([p], 0.6, 0.7), ([a], 0.7, 1.0),
    ]  # fmt: skip


def test_missing_voices_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"kokoro-js-1.2.1.tgz with Kokoro's voices is missing: pip install"
    ):
        kokoro.Kokoro(tmp_path)


@pytest.mark.skipif(
    not (CORPUS / kokoro.VOICES_PACKAGE).exists() or shutil.which("espeak-ng") is None,
    reason=f"AVATAR_CORPUS does not name a folder with {kokoro.VOICES_PACKAGE}",
)
@pytest.mark.parametrize("name", ["kokoro-af_heart", "kokoro-zf_xiaoni"])
def test_kokoro_speaks_with_phone_times(name: str) -> None:
    voice = next(voice for voice in VOICES if voice.name == name)
    for utterance in islice(utterances(voice, 0, CORPUS), 2):
        frame = np.searchsorted(utterance.ends_s, (np.arange(len(utterance.samples)) + 0.5) / 16_000)
        silent = utterance.phones[frame.clip(0, len(utterance.phones) - 1)] == SILENCE
        power = utterance.samples.astype(float) ** 2
        assert abs(float(utterance.ends_s[-1]) - utterance.duration_s) < 0.05
        assert power[~silent].mean() > 20 * power[silent].mean()
