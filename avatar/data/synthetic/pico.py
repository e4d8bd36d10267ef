"""SVOX Pico (Apache-2.0): six voices built from recordings, with exact phone times.

The PyPI package `ttspico` carries the engine's source and its voices. Compiled with the engine's own debugging code
(`CFLAGS=-DPICO_DEBUG pip install ttspico==0.3.2`) it prints each phone with the frames of its five states, from which the
times follow to the sample. The engine names phones by numbers that differ from language to language; the tables below
were learned by letting it speak X-SAMPA symbols and plain words.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar.data.synthetic.phones import phones_of_ipa
from avatar.errors import MissingDependencyError

FRAME_S = 0.004
SAMPLE_RATE_HZ = 16000
_INSTALL = "install it with its debugging code: CFLAGS=-DPICO_DEBUG pip install --no-binary ttspico ttspico==0.3.2"
_PHONE_LINE = re.compile(r"pam: \('h',\s*(\d+),\s*5, 30\)((?:\s+\d+){30})")
_SENTENCE_MARK = "@@sentence"


@dataclass(frozen=True)
class _Language:
    """Phone numbers of one language.

    Attributes:
        ipa: number to IPA; a space sets apart what is spoken one after the other.
        pause: the number of silence.
        closures: numbers of a stop's closure, which belongs to the phone after it.
    """

    ipa: dict[int, str]
    pause: int
    closures: tuple[int, ...]


def _table(listing: str) -> dict[int, str]:
    """Reads `"72 i 73 i …"`."""
    fields = listing.split()
    return {int(number): name.replace("+", " ") for number, name in zip(fields[::2], fields[1::2], strict=True)}


_ENGLISH_US = _table(
    "43 ɪ 98 ɛ 73 æ 40 ɑ 52 ʌ 94 ɔ 93 ɔ 50 ʊ 78 u 90 ɜ 39 ə 91 ɜ 65 i 97 i 54 aɪ 55 aʊ 47 ɔɪ 92 eɪ 71 oʊ 72 p 82 p 56 b 62 f "
    "79 v 69 m 49 θ 42 ð 76 t 83 t 57 d 70 n 38 n 75 s 81 z 48 ʃ 53 ʒ 77 tʃ 58 dʒ 67 k 84 k 63 ɡ 45 ŋ 64 h 68 l 37 l 74 ɹ 80 w "
    "66 j 95 ɾ 96 ʔ 86 ʔ"
)
_ENGLISH_GB = _table(
    "42 ɪ 58 ɛ 59 ɛ 72 æ 39 ɔ 51 ʌ 40 ɑ 45 ɔ 49 ʊ 50 ʊ 77 u 36 ɜ 38 ə 93 ə 64 i 43 ɪə 53 aɪ 54 aʊ 46 ɔɪ 60 eɪ 70 əʊ 71 p 87 p "
    "55 b 61 f 78 v 68 m 48 θ 41 ð 75 t 88 t 56 d 69 n 74 s 80 z 47 ʃ 52 ʒ 76 tʃ 57 dʒ 66 k 89 k 62 ɡ 44 ŋ 63 h 67 l 37 l 73 ɹ "
    "79 w 65 j 91 ʔ"
)
_GERMAN = _table(
    "72 i 73 i 48 ɪ 67 e 68 e 46 ɛ 47 ɛ 60 a 61 a 50 ɔ 79 o 80 o 53 ʊ 88 u 89 u 92 y 93 y 54 y 36 ø 37 ø 39 ø 44 ə 38 ʌ 56 ʌ "
    "62 aɪ 63 aʊ 51 ɔy 97 ɑ 98 ɔ 57 j 58 y 59 w 81 p 101 p 82 p+f 64 b 69 f 90 v 77 m 41 m 85 t 102 t 65 d 78 n 42 n 84 s 94 z "
    "52 ʃ 55 ʒ 86 tʃ 66 dʒ 87 ts 75 k 103 k 70 ɡ 49 ŋ 71 h 91 x 45 ç 76 l 40 l 83 x 74 j 43 ʔ"
)
_FRENCH = _table(
    "60 i 57 e 43 ɛ 86 ɛ 53 a 85 ɑ 48 ɔ 66 o 70 u 73 y 38 ø 40 ø 39 ə 78 ɑ 76 ɛ 77 ɔ 75 ø 67 p 55 b 58 f 71 v 64 m 69 t 56 d "
    "87 i 88 a 41 ʔ 65 n 68 s 74 z 51 ʃ 52 ʒ 62 k 59 ɡ 47 ŋ 46 ɲ 63 l 50 ʁ 72 w 61 j 45 ɥ"
)
_SPANISH = _table(
    "50 i 47 e 44 a 57 o 64 u 58 p 45 b 36 β 55 m 48 f 62 t 46 d 37 ð 56 n 61 s 42 θ 53 k 49 ɡ 38 x 63 tʃ 65 x 54 l 40 ʎ 39 ɲ "
    "41 ŋ 60 r 59 ɾ 51 j 43 w 52 dʒ"
)
_ITALIAN = _table(
    "65 i 66 i 59 e 60 e 36 ɛ 37 ɛ 49 a 50 a 43 ɔ 44 ɔ 75 o 76 o 89 u 90 u 77 p 78 p 51 b 52 b 71 m 72 m 61 f 62 f 91 v 92 v 83 t "
    "86 t 53 d 55 d 73 n 74 n 81 s 82 s 93 z 45 ʃ 46 ʃ 85 ts 88 ts 58 dz 57 dz 84 tʃ 87 tʃ 54 dʒ 56 dʒ 67 k 68 k 63 ɡ 64 ɡ 69 l "
    "70 l 40 ʎ 41 ʎ 38 ɲ 39 ɲ 42 ŋ 79 r 80 r 47 j 48 w"
)
LANGUAGES: dict[str, _Language] = {
    "en-US": _Language(_ENGLISH_US, 87, (88, 89)),
    "en-GB": _Language(_ENGLISH_GB, 92, (94, 95)),
    "de-DE": _Language(_GERMAN, 104, (100, 99)),
    "fr-FR": _Language(_FRENCH, 82, (83, 84)),
    "es-ES": _Language(_SPANISH, 69, (70, 71)),
    "it-IT": _Language(_ITALIAN, 96, (97, 98)),
}

# The engine prints to the standard output of its process, so it gets one of its own.
_CHILD = """
import ctypes, pathlib, sys
import ctts
try:
    library = ctypes.CDLL(ctts.__file__)
    library.picodbg_initialize(3)
except AttributeError:
    sys.exit("compiled without PICO_DEBUG")
library.picodbg_enableColors(0)
library.fflush.argtypes = [ctypes.c_void_p]
import ttspico
engine = ttspico.TtsEngine(sys.argv[1])
for k, line in enumerate(sys.stdin.read().splitlines()):
    engine.rate, engine.pitch = (int(n) for n in line.split("|", 2)[:2])
    library.fflush(None)
    print(sys.argv[3], flush=True)
    pathlib.Path(sys.argv[2], f"{k}.raw").write_bytes(engine.speak(line.split("|", 2)[2]) or b"")
library.fflush(None)
"""


def speak(
    language: str, sentences: list[tuple[str, int, int]]
) -> list[tuple[np.ndarray, list[tuple[list[int], float, float]]]]:
    """Lets one voice speak some sentences.

    Args:
        language: a key of `LANGUAGES`.
        sentences: text, rate and pitch in per cent.

    Returns:
        For each sentence its samples (S,) int16 at 16 kHz, and phones as (classes, start in s, end in s). A sentence with
        a phone that the tables do not know has no phones.

    Raises:
        MissingDependencyError: `ttspico` is not installed, or without its debugging code.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(f"{rate}|{pitch}|{' '.join(text.split())}" for text, rate, pitch in sentences)
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, language, folder, _SENTENCE_MARK],
            input=lines.encode(), capture_output=True, check=False,
        )  # fmt: skip
        if child.returncode != 0:
            raise MissingDependencyError(f"ttspico failed ({child.stderr.decode()[-200:].strip()}); {_INSTALL}")
        logs = child.stdout.decode("latin-1").split(_SENTENCE_MARK)[1:]
        sounds = [np.fromfile(Path(folder) / f"{k}.raw", np.int16) for k in range(len(sentences))]
    return [(sound, _phones(log, LANGUAGES[language])) for sound, log in zip(sounds, logs, strict=True)]


def _phones(log: str, language: _Language) -> list[tuple[list[int], float, float]]:
    phones: list[tuple[list[int], float, float]] = []
    start, now = 0.0, 0.0
    for match in _PHONE_LINE.finditer(log):
        number, octets = int(match[1]), [int(n) for n in match[2].split()]
        now += FRAME_S * sum(octets[6 * state] + 256 * octets[6 * state + 1] for state in range(5))
        if number in language.closures:
            continue
        if number != language.pause and number not in language.ipa:
            return []
        symbols = language.ipa.get(number, "")
        phones.append(([index for part in symbols.split() for index in phones_of_ipa(part)], start, now))
        start = now
    return phones
