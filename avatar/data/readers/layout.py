"""What corpus readers share: finding videos, reading tables, and the words of corpora put into ours."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from avatar.errors import MediaError

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".avi", ".ts", ".flv", ".wmv"))
_AGE_GROUPS = ((18, "0-18"), (30, "19-30"), (45, "31-45"), (60, "46-60"))
_EMOTIONS = {
    "neutral": "neutral", "neu": "neutral", "calm": "calm",
    "happy": "happy", "hap": "happy", "happiness": "happy",
    "sad": "sad", "sadness": "sad",
    "angry": "angry", "ang": "angry", "anger": "angry",
    "surprised": "surprised", "surprise": "surprised",
    "fear": "fearful", "fea": "fearful", "fearful": "fearful",
    "disgust": "disgusted", "disgusted": "disgusted", "dis": "disgusted",
    "contempt": "contempt",
}  # fmt: skip
_LANGUAGES = {
    "english": "en", "chinese": "zh", "mandarin": "zh", "arabic": "ar", "polish": "pl", "german": "de", "russian": "ru",
    "french": "fr", "korean": "ko", "portuguese": "pt", "japanese": "ja", "thai": "th", "spanish": "es", "italian": "it",
    "hindi": "hi",
}  # fmt: skip


def emotion_word(word: str) -> str | None:
    """A corpus's emotion as ours (`avatar.emotion.labels.EMOTIONS`, and "calm"); None for one we do not know."""
    return _EMOTIONS.get(word.strip().lower())


def language_code(name: str) -> str | None:
    """BCP 47 of an English language name; None for one we do not know."""
    return _LANGUAGES.get(name.strip().lower())


def sex_word(word: str) -> str | None:
    """female or male from a corpus's word for it; None for another."""
    return {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male"}.get(word.strip().lower())


def age_group(years: float) -> str:
    """0-18, 19-30, 31-45, 46-60 or 61+."""
    return next((name for last, name in _AGE_GROUPS if years <= last), "61+")


def videos(root: Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> Iterator[Path]:
    """The videos under a folder at any depth, sorted, links that lead nowhere too; hidden files and folders are left out."""
    wanted = frozenset(suffixes)
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in wanted and not hidden and (path.is_file() or not path.exists()):
            yield path


def videos_by_stem(root: Path) -> dict[str, Path]:
    """The videos under a folder by their name without the ending; of two with one name the first in order."""
    found: dict[str, Path] = {}
    for path in videos(root):
        found.setdefault(path.stem, path)
    return found


def one_file(root: Path, name: str) -> Path | None:
    """The file of this name (a pattern is fine) at the root or below, nearest first; None where there is none."""
    return min(root.rglob(name), key=lambda path: (len(path.parts), str(path)), default=None)


def needed_file(root: Path, name: str, what: str) -> Path:
    """As `one_file`.

    Raises:
        MediaError: there is none.
    """
    path = one_file(root, name)
    if path is None:
        raise MediaError(f"{root} has no {name} ({what}); put it beside the videos, see the corpus's card in datasets/")
    return path


def table_rows(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Rows of a CSV file by column name, blanks about names and values taken off.

    Raises:
        MediaError: it cannot be read as text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter=delimiter, skipinitialspace=True):
                yield {
                    (key or "").strip(): (value or "").strip() for key, value in row.items() if isinstance(value, str)
                }
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise MediaError(f"{path} cannot be read as CSV: {err}; export it as UTF-8 with a header line") from err


def seconds(stamp: str) -> float:
    """ "01:02:03.5", "02:03" or "3.5" in seconds."""
    total = 0.0
    for part in stamp.strip().split(":"):
        total = total * 60 + float(part)
    return total
