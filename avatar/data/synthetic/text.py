"""What the synthetic voices say: sentences, numbers and made-up words, generated from a seed.

Nothing here is anybody's corpus. Numbers are spoken by a synthesiser with the words and the phonology of its own
language, made-up words cover the sound combinations that numbers lack, and a small English grammar gives the English
voices running speech.
"""

from __future__ import annotations

import numpy as np

_NOUNS = (
    "river mountain window garden morning teacher doctor village weather question answer picture machine "
    "kitchen bottle paper market "
    "people children mother father brother sister bridge forest winter summer number problem village ocean island thunder feather "
    "jacket button pepper rabbit tiger elephant pocket chimney cushion treasure measure vision garage judge orange bubble maple "
    "thumb moth breath theatre python voice wave fever leaf shelf wolf woman wheel quick whisper yellow yogurt onion music uniform "
    "boy toy noise oil point house mouth cloud town power flower hour fire tyre choir bear chair square year beer theory tour poor"
).split()
_VERBS = (
    "finds brings opens watches carries follows remembers imagines believes measures pushes jumps whispers "
    "shouts paints builds moves "
    "gives leaves saves proves waves buys employs enjoys choose washes teaches catches changes thinks throws bathes breathes mixes "
    "asks helps keeps makes takes needs wants works walks talks calls pulls follows burns turns learns hopes shows knows"
).split()
_ADJECTIVES = (
    "small big happy sad angry quiet loud beautiful strange simple purple green blue brown white black famous serious dangerous "
    "warm cold heavy empty hollow smooth rough thick thin wide narrow early late modern ancient foolish clever gentle bitter sweet"
).split()
_ADVERBS = "slowly quickly often never always maybe perhaps probably together alone outside everywhere tomorrow yesterday".split()
_OPENERS = (
    "well, ", "and then ", "but ", "so ", "in my opinion, ", "as you can see, ", "to be honest, ", "after "
    "all, ", "if possible, ", "",
    "", "", "", "I think ", "we believe that ", "they say ", "you know, ", "please remember that ", "by the way, ",
)  # fmt: skip


def english_sentence(rng: np.random.Generator) -> str:
    """One English sentence of 5 to 18 words."""

    def pick(words: list[str] | tuple[str, ...]) -> str:
        return str(words[rng.integers(len(words))])

    def noun_phrase() -> str:
        adjective = f"{pick(_ADJECTIVES)} " if rng.random() < 0.6 else ""
        return f"{pick(('the', 'a', 'my', 'your', 'this', 'every', 'that', 'our'))} {adjective}{pick(_NOUNS)}"

    sentence = f"{pick(_OPENERS)}{noun_phrase()} {pick(_VERBS)} {noun_phrase()}"
    if rng.random() < 0.4:
        sentence += f" {pick(_ADVERBS)}"
    if rng.random() < 0.35:
        sentence += f" {pick(('because', 'while', 'although', 'before', 'until', 'when', 'and', 'but'))} "
        sentence += f"{noun_phrase()} {pick(_VERBS)} {noun_phrase()}"
    if rng.random() < 0.15:
        sentence += f", number {rng.integers(2000)}"
    return sentence + pick((".", ".", ".", "?", "!"))


_SYLLABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "latin": (
        tuple("b c d f g h j k l m n p r s t v w z br dr fl gr kl pl pr sk sp st tr m p b f v".split()) + ("", ""),
        tuple("a e i o u a o u ai au ei io ia oi".split()),
        tuple("n m r s l t k p".split()) + ("",) * 10,
    ),
    "cyrillic": (
        tuple("б в г д ж з к л м н п р с т ф х ц ч ш щ бр др пр ст тр м п б ф в".split()) + ("",),
        tuple("а е и о у ы э ю я ё а о у".split()),
        tuple("н м р с л т к п й".split()) + ("",) * 10,
    ),
    "greek": (
        tuple("β γ δ ζ θ κ λ μ ν ξ π ρ σ τ φ χ ψ μπ ντ πρ στ τρ".split()),
        tuple("α ε η ι ο υ ω ου αι ει".split()),
        ("ς", "ν", "", "", ""),
    ),
    "devanagari": (
        tuple("क ख ग घ च छ ज ट ड त थ द ध न प फ ब भ म य र ल व श स ह".split()),
        ("", "ा", "ि", "ी", "ु", "ू", "े", "ै", "ो", "ौ"),
        ("", "", "", "ं"),
    ),
    "arabic": (
        tuple("ب ت ث ج ح خ د ذ ر ز س ش ص ض ط ع غ ف ق ك ل م ن ه و ي".split()),
        ("َ", "ِ", "ُ", "ا", "ي", "و"),
        ("", "", "", "ن", "م", "ر"),
    ),
    "hangul": (tuple(chr(0xAC00 + 588 * lead + 28 * vowel) for lead in range(19) for vowel in range(21)), ("",), ("",)),
    "kana": (
        tuple(
            "あ い う え お か き く け こ さ し す せ そ た ち つ て と な に ぬ ね の は ひ ふ へ ほ "
            "ま み む め も や ゆ よ ら り る れ ろ わ "
            "が ぎ ぐ げ ご ざ じ ず ぜ ぞ だ で ど ば び ぶ べ ぼ ぱ ぴ ぷ ぺ ぽ ん".split()
        ),
        ("",),
        ("",),
    ),
    "pinyin": (
        tuple("b p m f d t n l g k h j q x zh ch sh r z c s y w".split()),
        tuple("a o e ai ei ao ou an en ang eng".split()),
        tuple("1 2 3 4".split()),
    ),
}


def spoken_text(script: str, rng: np.random.Generator) -> str:
    """One utterance for a synthesiser whose language is written in `script`: made-up words among numbers.

    Args:
        script: a key of the syllable table (`"latin"`, `"cyrillic"`, …) or `"digits"` for numbers alone.
        rng: source of chance.

    Returns:
        Text of about 4 to 10 words with commas.
    """
    words = []
    for _ in range(int(rng.integers(4, 11))):
        if script == "digits" or rng.random() < 0.3:
            words.append(str(int(10 ** rng.uniform(0.3, 4.2))))
        else:
            words.append(_made_up_word(script, rng))
        if rng.random() < 0.12:
            words[-1] += ","
    return " ".join(words) + "."


def _made_up_word(script: str, rng: np.random.Generator) -> str:
    onsets, vowels, codas = _SYLLABLES[script]
    return "".join(
        str(onsets[rng.integers(len(onsets))])
        + str(vowels[rng.integers(len(vowels))])
        + str(codas[rng.integers(len(codas))])
        for _ in range(int(rng.integers(1, 4)))
    )
