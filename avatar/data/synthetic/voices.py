"""The voices of the synthetic corpus, each with its licence: only those whose sound may train weights that are shipped.

espeak-ng's licence (GPL-3.0-or-later) covers the program, not the sound it makes. The flite and festival voices are under
permissive terms; the Russian one comes with the labelled recordings it was built from, under the same terms.
"""

from __future__ import annotations

from dataclasses import dataclass

HELD_OUT = "held-out"


@dataclass(frozen=True)
class Voice:
    """One voice.

    Attributes:
        name: unique name.
        engine: `"espeak"`, `"flite"`, `"festival"` or `"recordings"`.
        voice_id: the engine's own name for it (for `espeak`, the language).
        script: how its language is written, for `text.spoken_text`; `"english"` for sentences.
        hours: how much the default corpus holds of it.
        licence: of the voice.
        split: `"train"` or `"held-out"`.
    """

    name: str
    engine: str
    voice_id: str
    script: str
    hours: float
    licence: str
    split: str = "train"


_ESPEAK = "espeak-ng GPL-3.0-or-later (program; its output is not covered)"
_FLITE = "CMU flite, BSD-like"
_ESPEAK_LANGUAGES: dict[str, str] = {
    "af": "latin", "ar": "arabic", "bg": "cyrillic", "bn": "digits", "ca": "latin", "cmn-latn-pinyin": "pinyin", "cs": "latin",
    "da": "latin", "de": "latin", "el": "greek", "en": "english", "en-us": "english", "es": "latin", "et": "latin", "fa": "digits",
    "fi": "latin", "fr": "latin", "ga": "latin", "hi": "devanagari", "hr": "latin", "hu": "latin", "id": "latin",
    "is": "latin", "it": "latin", "ja": "kana", "ka": "digits", "ko": "hangul", "lt": "latin", "lv": "latin", "ms": "latin",
    "nb": "latin", "nl": "latin", "pl": "latin", "pt": "latin", "pt-br": "latin", "ro": "latin", "ru": "cyrillic", "sk": "latin",
    "sq": "latin", "sv": "latin", "sw": "latin", "ta": "digits", "tr": "latin", "uk": "cyrillic", "ur": "digits", "vi": "latin",
    "yue": "digits",
}  # fmt: skip
# Variants that change the timbre without leaving human speech (no whisper, robot or croak).
ESPEAK_VARIANTS: tuple[str, ...] = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 klatt klatt2 klatt3 klatt4 Andy Annie Gene Lee Michael Mike Denis Diogo Alicia Andrea "
    "adam anika antonio belinda benjamin boris david ed edward gustave iven john linda max michel miguel norbert pablo paul pedro "
    "quincy rob robert sandro shelby steph travis victor zac"
).split()  # type: ignore[assignment]
_HELD_OUT_LANGUAGES = {"sk", "da", "sw"}

VOICES: tuple[Voice, ...] = (
    *(
        Voice(
            f"espeak-{lang}",
            "espeak",
            lang,
            script,
            0.06,
            _ESPEAK,
            HELD_OUT if lang in _HELD_OUT_LANGUAGES else "train",
        )
        for lang, script in _ESPEAK_LANGUAGES.items()
    ),
    Voice("flite-slt", "flite", "slt", "english", 0.8, _FLITE),
    Voice("flite-awb", "flite", "awb", "english", 0.8, _FLITE),
    Voice("flite-rms", "flite", "rms", "english", 0.8, _FLITE),
    Voice("flite-kal16", "flite", "kal16", "english", 0.2, _FLITE),
    Voice("festival-kal", "festival", "kal_diphone", "english", 0.25, "CSTR/CMU, BSD-like"),
    Voice("festival-ked", "festival", "ked_diphone", "english", 0.25, "CSTR/CMU, BSD-like", HELD_OUT),
    Voice("festival-slt-hts", "festival", "cmu_us_slt_arctic_hts", "english", 0.4, "CMU/HTS, BSD-like"),
    Voice(
        "recordings-ru-nsh", "recordings", "russian/msu_ru_nsh_clunits", "cyrillic", 1.6, "N. V. Shmyrev 2005, BSD-like"
    ),
)
