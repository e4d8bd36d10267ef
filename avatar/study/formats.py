"""What the parts of a study hand to one another: the exported folder's study.json, and the key that stays at home.

    STUDY/                        may be given to anybody; tells nothing about systems
      index.html                  the rating page, with study.json inside it (so that it works from file://)
      study.json                  `Study`
      media/<16 hex>.mp4, .jpg    clips and portraits, under names that a secret salt makes
    KEY.json                      `Key`: what each clip is; never inside STUDY/

study.json:

    {"format": 1, "id": "9f0c…", "version": "5d21…",           id: of the study; version: changes with any content
     "title": {"en": "…", "zh": "…"}, "about": {"en": "…"},    shown before the consent; "en" is always there
     "contact": "…", "pay": "…", "data_until": "2027-06-30",   may be ""
     "languages": ["en", "zh"],                                of the page, the first is the default
     "scales": ["LS", "IP", "FBN", "FCN"],                     those asked, in this order; "CF" is the fifth
     "ask": ["culture", "native_languages"],                   optional questions about the rater; may be []
     "minutes": 21,                                            how long a session takes, about
     "practice": [TRIAL, …],                                   the same for everybody, first, marked as practice
     "slots": [[TRIAL, …], …]}                                 one list for each rater, in the order to be shown
    TRIAL = {"id": "t41c8…", "clip": "media/….mp4", "portrait": "media/….jpg" or null, "duration_s": 4.0}

A trial's id is unique in the study and says nothing; hidden repeats and traps look like any other trial. The results are in
`avatar.study.results`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avatar.errors import InputError

FORMAT = 1
SCALES: dict[str, str] = {  # the code everything uses, and the name in reports; the page has the anchors' words
    "LS": "lip sync",
    "IP": "identity preservation",
    "FBN": "full-body naturalness",
    "FCN": "facial naturalness",
    "CF": "cultural fit",
}
LOWEST_SCORE, HIGHEST_SCORE = 1, 5
ATTRIBUTES = ("culture", "native_languages")  # what a rater may be asked
PAGE_LANGUAGES = ("en", "zh", "ar")

KINDS = ("generated", "real", "practice", "repeat", "trap")
TRAPS = ("muted", "shifted")


@dataclass(frozen=True)
class Trial:
    """One clip to be rated.

    Attributes:
        id: unique in the study; says nothing.
        clip: the mp4, relative to the study's folder, with "/".
        portrait: the picture to compare the face with, or None.
        duration_s: length of the clip.
    """

    id: str
    clip: str
    portrait: str | None
    duration_s: float


@dataclass(frozen=True)
class Study:
    """study.json; see the module for what each field holds."""

    id: str
    version: str
    title: dict[str, str]
    about: dict[str, str]
    contact: str
    pay: str
    data_until: str
    languages: tuple[str, ...]
    scales: tuple[str, ...]
    ask: tuple[str, ...]
    minutes: int
    practice: tuple[Trial, ...]
    slots: tuple[tuple[Trial, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in study.json."""
        return {"format": FORMAT, **_plain(asdict(self))}

    def trials_of(self, slot: int) -> tuple[Trial, ...]:
        """All that a rater in this slot sees, the practice first.

        Raises:
            InputError: there is no such slot.
        """
        if not 0 <= slot < len(self.slots):
            raise InputError(f"the study {self.id} has slots 0 to {len(self.slots) - 1}, not {slot}")
        return self.practice + self.slots[slot]


@dataclass(frozen=True)
class KeyClip:
    """What a clip is.

    Attributes:
        system: who made it; of a repeat, practice or trap: what it was made from.
        item: what is said by whom.
        kind: one of `KINDS`.
        trap: of a trap: "muted" or "shifted"; else None.
        repeats: of a repeat: the clip that it repeats; else None.
    """

    system: str
    item: str
    kind: str
    trap: str | None = None
    repeats: str | None = None


@dataclass(frozen=True)
class Key:
    """The key file: everything that the folder does not tell.

    Attributes:
        study_id, study_version: of the folder it belongs to.
        seed: of the study file; salt: 64 hex digits, what the names were made with.
        systems: label for reports by the system's name, the real clips included.
        real: the name of the system of real clips; None without.
        items: by item: `{"language": "en", "groups": {"ethnicity": "…", …}}`.
        clips: by clip, as in a trial.
        trials: clip by trial id.
    """

    study_id: str
    study_version: str
    seed: int
    salt: str
    systems: dict[str, str]
    real: str | None
    items: dict[str, dict[str, Any]]
    clips: dict[str, KeyClip]
    trials: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the key file."""
        return {"format": FORMAT, **_plain(asdict(self))}


def read_study(path: str | Path) -> Study:
    """Reads a study's folder, or its study.json.

    Raises:
        InputError: there is none, or it is not one.
    """
    path = Path(path)
    path = path / "study.json" if path.is_dir() else path
    return study_from_json(read_json(path, "study.json"), str(path))


def study_from_json(data: Mapping[str, Any], where: str = "study.json") -> Study:
    """What `Study.to_json` gave.

    Raises:
        InputError: a field is missing or of another kind.
    """
    _check_format(data, where)
    try:
        fields = {name: value for name, value in data.items() if name != "format"}
        for name in ("languages", "scales", "ask"):
            fields[name] = tuple(fields[name])
        fields["practice"] = tuple(Trial(**trial) for trial in fields["practice"])
        fields["slots"] = tuple(tuple(Trial(**trial) for trial in slot) for slot in fields["slots"])
        return Study(**fields)
    except (KeyError, TypeError) as err:
        raise InputError(f"{where} is not a study that `avatar study export` wrote: {err}; export it again") from err


def read_key(path: str | Path) -> Key:
    """Reads the key file.

    Raises:
        InputError: there is none, or it is not one.
    """
    data = read_json(Path(path), "key")
    _check_format(data, str(path))
    try:
        fields = {name: value for name, value in data.items() if name != "format"}
        fields["clips"] = {clip: KeyClip(**what) for clip, what in fields["clips"].items()}
        return Key(**fields)
    except (KeyError, TypeError, AttributeError) as err:
        raise InputError(f"{path} is not a key that `avatar study export` wrote: {err}; give that file") from err


def dump_json(data: Mapping[str, Any]) -> str:
    """JSON with the same bytes for the same content."""
    return json.dumps(data, ensure_ascii=False, indent=1, sort_keys=False) + "\n"


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        InputError: it cannot be read or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise InputError(f"there is no file {path}; give the {kind} that `avatar study export` wrote") from err
    except (OSError, UnicodeError, json.JSONDecodeError) as err:
        raise InputError(f"{path} is not a JSON file that can be read: {err}; give the {kind} file") from err
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}, not the object of a {kind} file")
    return data


def _check_format(data: Mapping[str, Any], where: str) -> None:
    if data.get("format") != FORMAT:
        raise InputError(f"{where} is of format {data.get('format')!r}; this version reads format {FORMAT}")


def _plain(value: Any) -> Any:
    """Tuples to lists, as JSON would have it."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
