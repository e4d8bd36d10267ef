"""The phone inventory of the synthetic corpus: one articulatory target per phone, and the names each synthesiser uses.

A phone's target says what the lips and jaw want to do while it is spoken; `articulation.py` lets neighbouring
phones compete for the mouth with them. Values follow the usual visual phonetics: bilabials close, labiodentals
tuck the lower lip, open vowels drop the jaw (M. M. Cohen and D. W. Massaro, "Modeling coarticulation in synthetic
visual speech", 1993; P. Ladefoged and K. Johnson, "A Course in Phonetics"). Rounded vowels leave a slit of a few
millimetres whatever their height, spread ones show the teeth (order of the openings: V. Fromkin, "Lip positions in
American English vowels", Language and Speech 7, 1964; C. Abry and L.-J. Boe, "Laws for lips", Speech Communication 5, 1986).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# jaw: drop; open: lips parted beyond the jaw; spread: corners apart; pucker: lips forward and narrow;
# funnel: lips forward and open; close: lips sealed; tuck: lower lip under the upper teeth.
CHANNELS = ("jaw", "open", "spread", "pucker", "funnel", "close", "tuck")


@dataclass(frozen=True)
class Phone:
    """One phone class.

    Attributes:
        name: IPA symbol of the class.
        target: a value in [0, 1] for each of `CHANNELS`.
        dominance: how strongly each channel is held against the neighbours, same order.
        is_vowel: whether loudness and length scale its opening.
    """

    name: str
    target: tuple[float, ...]
    dominance: tuple[float, ...]
    is_vowel: bool = False


def _vowel(name: str, jaw: float, lips: float, spread: float = 0.0, pucker: float = 0.0, funnel: float = 0.0) -> Phone:
    rounding = 1.0 if pucker + funnel + spread > 0.3 else 0.5
    return Phone(
        name, (jaw, lips, spread, pucker, funnel, 0.0, 0.0), (1.0, 1.0, 0.8, rounding, rounding, 0.6, 0.6), True
    )


def _consonant(
    name: str,
    jaw: float,
    lips: float,
    lip_shape: tuple[float, float, float] = (0.0, 0.0, 0.0),
    hold: float = 0.9,
    round_hold: float = 0.15,
) -> Phone:
    spread, pucker, funnel = lip_shape
    return Phone(
        name, (jaw, lips, spread, pucker, funnel, 0.0, 0.0), (hold, hold, 0.3, round_hold, round_hold, 0.6, 0.6)
    )


def _bilabial(name: str) -> Phone:
    return Phone(name, (0.06, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.9, 2.5, 0.15, 0.1, 0.1, 4.0, 0.6))


def _labiodental(name: str) -> Phone:
    return Phone(name, (0.08, 0.1, 0.08, 0.0, 0.0, 0.0, 1.0), (0.9, 1.2, 0.2, 0.15, 0.15, 0.6, 4.0))


PHONES: tuple[Phone, ...] = (
    Phone("sil", (0.0,) * 7, (0.35, 0.35, 0.2, 0.2, 0.2, 0.1, 0.3)),
    _vowel("i", 0.20, 0.45, spread=0.60),
    _vowel("ɪ", 0.26, 0.42, spread=0.40),
    _vowel("e", 0.38, 0.48, spread=0.45),
    _vowel("ɛ", 0.50, 0.48, spread=0.30),
    _vowel("æ", 0.68, 0.50, spread=0.35),
    _vowel("a", 0.70, 0.47, spread=0.15),
    _vowel("ɑ", 0.60, 0.34),
    _vowel("ʌ", 0.36, 0.26, spread=0.05),
    _vowel("ɔ", 0.28, 0.09, pucker=0.36, funnel=0.30),
    _vowel("o", 0.10, 0.03, pucker=0.62, funnel=0.18),
    _vowel("ʊ", 0.08, 0.05, pucker=0.50, funnel=0.08),
    _vowel("u", 0.05, 0.06, pucker=0.75),
    _vowel("y", 0.06, 0.08, pucker=0.70, funnel=0.10),
    _vowel("ø", 0.16, 0.08, pucker=0.50, funnel=0.25),
    _vowel("ə", 0.22, 0.20, spread=0.05),
    _vowel("ɜ", 0.16, 0.14, pucker=0.18, funnel=0.20),
    _bilabial("p"),
    _bilabial("b"),
    _bilabial("m"),
    _labiodental("f"),
    _labiodental("v"),
    _consonant("θ", 0.12, 0.22),
    _consonant("ð", 0.12, 0.22),
    _consonant("t", 0.09, 0.17),
    _consonant("d", 0.09, 0.18),
    _consonant("n", 0.10, 0.19),
    _consonant("s", 0.04, 0.28, (0.25, 0.0, 0.0), hold=1.0),
    _consonant("z", 0.05, 0.28, (0.25, 0.0, 0.0), hold=1.0),
    _consonant("ʃ", 0.10, 0.28, (0.0, 0.20, 0.35), hold=1.0, round_hold=0.9),
    _consonant("ʒ", 0.10, 0.28, (0.0, 0.20, 0.35), hold=1.0, round_hold=0.9),
    _consonant("tʃ", 0.10, 0.28, (0.0, 0.20, 0.35), hold=1.0, round_hold=0.9),
    _consonant("dʒ", 0.14, 0.32, (0.0, 0.20, 0.35), hold=1.0, round_hold=0.9),
    _consonant("k", 0.20, 0.22, hold=0.4),
    _consonant("ɡ", 0.20, 0.22, hold=0.4),
    _consonant("ŋ", 0.20, 0.22, hold=0.4),
    _consonant("h", 0.40, 0.40, hold=0.15, round_hold=0.05),
    _consonant("x", 0.24, 0.24, hold=0.35, round_hold=0.05),
    _consonant("l", 0.15, 0.18),
    _consonant("ɹ", 0.08, 0.12, (0.0, 0.34, 0.28), round_hold=0.6),
    _consonant("r", 0.17, 0.22),
    _consonant("w", 0.02, 0.03, (0.0, 0.90, 0.0), hold=1.2, round_hold=1.6),
    _consonant("j", 0.18, 0.38, (0.45, 0.0, 0.0), hold=0.8),
)
PHONE_NAMES: tuple[str, ...] = tuple(phone.name for phone in PHONES)
PHONE_INDEX: dict[str, int] = {name: index for index, name in enumerate(PHONE_NAMES)}
SILENCE = PHONE_INDEX["sil"]

# Every other IPA symbol a synthesiser may use, and the class that looks most like it on the lips.
_IPA_ALIASES: dict[str, str] = {
    "g": "ɡ", "ɨ": "ɪ", "ᵻ": "ɪ", "ʏ": "y", "œ": "ø", "ɶ": "ø", "ɞ": "ɜ", "ɝ": "ɜ", "ɚ": "ɜ", "ɐ": "ʌ", "ɒ": "ɔ", "ɤ": "ʌ",
    "ɯ": "ɪ", "ʉ": "u", "ɘ": "ə", "ɵ": "ø", "ɺ": "r", "ɾ": "r", "ʀ": "x", "ʁ": "x", "ɽ": "r", "ɻ": "ɹ", "ɥ": "y", "ʍ": "w",
    "ɫ": "l", "ɬ": "l", "ɮ": "l", "ʎ": "l", "ɭ": "l", "ʟ": "l", "ʋ": "v", "ⱱ": "v", "ɸ": "f", "β": "b", "ɓ": "b", "ʙ": "b",
    "ɱ": "m", "ɲ": "n", "ɳ": "n", "ɴ": "ŋ", "ɖ": "d", "ɗ": "d", "ʈ": "t", "c": "k", "ɟ": "ɡ", "ɠ": "ɡ", "ʄ": "ɡ", "q": "k",
    "ɢ": "ɡ", "ʛ": "ɡ", "ɕ": "ʃ", "ʑ": "ʒ", "ʂ": "ʃ", "ʐ": "ʒ", "ʝ": "j", "ɣ": "x", "χ": "x", "ħ": "h", "ʕ": "h",
    "ɦ": "h", "ɰ": "x", "ɧ": "x", "ǀ": "t", "ǃ": "t", "ǁ": "l", "ʘ": "p", "ts": "s", "dz": "z", "tɕ": "tʃ", "dʑ": "dʒ",
    "tʂ": "tʃ", "dʐ": "dʒ", "pf": "f", "ɑ̃": "ɑ", "ɔ̃": "ɔ", "ɛ̃": "ɛ", "ã": "a",
}  # fmt: skip
_IGNORED = set("ˈˌːˑ̩̯̃̈̊̚͡‿|.ʔʼʰʲʷˠˤⁿˡ˞-_ '\"^;:!?*()~,") | set("0123456789˥˦˧˨˩↗↘→↓↑")


def phones_of_ipa(symbols: str) -> list[int]:
    """The phone classes of an IPA string, longest symbol first; stress, length and tone marks are dropped.

    Args:
        symbols: IPA, such as one phoneme event of espeak-ng (`"aɪ"` gives two classes).

    Returns:
        Indices into `PHONES`; empty where nothing in the string is spoken.
    """
    letters = unicodedata.normalize("NFD", unicodedata.normalize("NFC", symbols).replace("ç", "χ"))  # no c with a mark
    text = "".join(c for c in letters if c not in _IGNORED and not unicodedata.combining(c))
    found, i = [], 0
    while i < len(text):
        for width in (2, 1):
            symbol = text[i : i + width]
            name = symbol if symbol in PHONE_INDEX else _IPA_ALIASES.get(symbol)
            if name is not None:
                found.append(PHONE_INDEX[name])
                i += len(symbol)
                break
        else:
            i += 1
    return found


# CMU/radio phone names (flite, festival's English voices) as IPA.
RADIO_PHONES: dict[str, str] = {
    "pau": "", "sil": "", "h#": "", "brth": "", "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɜ",
    "ay": "aɪ", "b": "b", "ch": "tʃ", "d": "d", "dh": "ð", "dx": "d", "eh": "ɛ", "el": "l", "em": "m", "en": "n", "er": "ɜ",
    "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h", "hv": "h", "ih": "ɪ", "iy": "i", "jh": "dʒ", "k": "k", "l": "l", "m": "m",
    "n": "n", "ng": "ŋ", "nx": "n", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ",
    "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip

# Phone names of festival's Russian voice (msu_ru_nsh) as IPA; a doubled letter is the palatalised phone.
RUSSIAN_PHONES: dict[str, str] = {
    "pau": "", "#": "", "a": "a", "aa": "a", "ae": "ɛ", "b": "b", "bb": "b", "c": "s", "ch": "tʃ", "d": "d", "dd": "d",
    "e": "ɛ", "ee": "ɛ", "f": "f", "ff": "f", "g": "ɡ", "gg": "ɡ", "h": "x", "hh": "x", "i": "i", "ii": "i", "j": "j", "k": "k",
    "kk": "k", "l": "l", "ll": "l", "m": "m", "mm": "m", "n": "n", "nn": "n", "o": "o", "oo": "o", "p": "p", "pp": "p",
    "r": "r", "rr": "r", "s": "s", "ss": "s", "sch": "ʃ", "sh": "ʃ", "t": "t", "tt": "t", "u": "u", "uu": "u", "ur": "u",
    "v": "v", "vv": "v", "y": "ɪ", "yy": "ɪ", "yo": "o", "z": "z", "zz": "z", "zh": "ʒ", "ya": "a", "ye": "ɛ", "yu": "u",
    "ay": "a", "ey": "ɪ", "oy": "o",
}  # fmt: skip
