"""The study file: TOML to dataclasses, every path found, every unknown key refused by name.

    title = "Two ways to move the lips"        # or {en = "…", zh = "…"}
    seed = 7
    raters = 30                                # slots to prepare
    clips_per_rater = 30                       # rated ones; left out: as many as fit into max_minutes
    scales = ["LS", "IP", "FBN", "FCN"]        # "CF" is the fifth
    contact = "study@example.org"

    [[system]]
    name = "ours"
    folder = "clips/ours"                      # ITEM.mp4 for each item
    [[system]]
    name = "embedded"
    preset = "embedded"                        # made on the spot from portrait and speech
    options = {seed = 3}
    [[system]]
    name = "real"
    folder = "clips/real"
    real = true                                # the hidden reference

    [[item]]
    id = "anna-1"
    portrait = "portraits/anna.jpg"
    speech = "speech/anna-1.wav"
    language = "en"
    groups = {ethnicity = "…"}

Paths are relative to the study file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from avatar.errors import InputError, OptionError
from avatar.study.formats import ATTRIBUTES, PAGE_LANGUAGES, SCALES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Part = TypeVar("_Part")
NAME_RULE = "letters, digits, '-', '_' and '.', at most 64, not beginning with '.'"


@dataclass(frozen=True)
class MediaSpec:
    """How all clips are written.

    Attributes:
        size_px: longer side.
        fps: frames per second.
        crf: H.264 quality; 16 is visually lossless.
        loudness_lufs: integrated loudness of every clip.
        sound: "speech": the item's speech for every system; "own": each clip's own sound.
        max_scale: how far a clip's side may differ from another system's of the same item before that is a tell-tale.
    """

    size_px: int = 512
    fps: float = 25.0
    crf: int = 16
    loudness_lufs: float = -23.0
    sound: str = "speech"
    max_scale: float = 1.5

    def __post_init__(self) -> None:
        _check(64 <= self.size_px <= 2160 and self.size_px % 2 == 0, "media.size_px", self.size_px, "even, 64 to 2160")
        _check(10 <= self.fps <= 60, "media.fps", self.fps, "10 to 60")
        _check(0 <= self.crf <= 30, "media.crf", self.crf, "0 (lossless) to 30")
        _check(-40 <= self.loudness_lufs <= -10, "media.loudness_lufs", self.loudness_lufs, "-40 to -10")
        _check(self.sound in ("speech", "own"), "media.sound", self.sound, '"speech" or "own"')
        _check(self.max_scale >= 1, "media.max_scale", self.max_scale, "1 or more")


@dataclass(frozen=True)
class SystemSpec:
    """One system: a folder of mp4 files, or a preset that makes them.

    Attributes:
        name: in file names and tables; label: in reports.
        folder: with ITEM.mp4 for each item; None where a preset is given.
        preset: what `avatar animate --preset` takes; None where a folder is given.
        options: of the preset, as the options of `avatar animate` with underscores.
        real: whether these are recordings of people.
    """

    name: str
    label: str = ""
    folder: Path | None = None
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    real: bool = False

    def __post_init__(self) -> None:
        _check_name("system.name", self.name)
        _check(
            (self.folder is None) != (self.preset is None), f"system {self.name}", "both or none", "folder or preset"
        )
        _check(
            not (self.options and self.preset is None), f"system {self.name}: options", self.options, "with a preset"
        )
        _check(not (self.real and self.preset), f"system {self.name}: real", True, "with a folder only")

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.label or self.name


@dataclass(frozen=True)
class ItemSpec:
    """What every system shows: one person saying one thing.

    Attributes:
        id: name of the clips' files.
        portrait: shown beside the question of identity; None without.
        speech: the sound.
        language: BCP-47, for the breakdown.
        groups: further breakdowns of the report, such as ethnicity (of the portrait) or emotion.
        practice: for practice only, never rated.
    """

    id: str
    portrait: Path | None = None
    speech: Path | None = None
    language: str = "und"
    groups: dict[str, str] = field(default_factory=dict)
    practice: bool = False

    def __post_init__(self) -> None:
        _check_name("item.id", self.id)
        for name, value in self.groups.items():
            _check(isinstance(value, str), f"item {self.id}: groups.{name}", value, "text")


@dataclass(frozen=True)
class StudySpec:
    """A whole study file.

    Attributes:
        systems, items: as above.
        raters: slots to prepare.
        clips_per_rater: rated clips of a session, without repeats and traps; None: as many as fit.
        practice, repeats, traps: clips of each kind in a session.
        max_minutes: longest session.
        ask: optional questions about the rater: "culture", "native_languages".
        about, contact, pay, data_until: for the page's first screen.
    """

    title: dict[str, str]
    systems: tuple[SystemSpec, ...]
    items: tuple[ItemSpec, ...]
    seed: int = 0
    raters: int = 30
    clips_per_rater: int | None = None
    practice: int = 3
    repeats: int = 2
    traps: int = 2
    max_minutes: float = 25.0
    scales: tuple[str, ...] = ("LS", "IP", "FBN", "FCN")
    languages: tuple[str, ...] = ("en", "zh")
    ask: tuple[str, ...] = ATTRIBUTES
    about: dict[str, str] = field(default_factory=dict)
    contact: str = ""
    pay: str = ""
    data_until: str = ""
    media: MediaSpec = field(default_factory=MediaSpec)

    def __post_init__(self) -> None:
        _check(len(self.systems) >= 2, "systems", len(self.systems), "two or more (real clips count)")
        _check(len(self.rated_items) >= 2, "items", len(self.rated_items), "two or more that are not for practice")
        _check_unique("system", [system.name for system in self.systems])
        _check_unique("item", [item.id for item in self.items])
        _check(sum(system.real for system in self.systems) <= 1, "real systems", "several", "one at most")
        _check_words("scales", self.scales, tuple(SCALES))
        _check_words("languages", self.languages, PAGE_LANGUAGES)
        _check_words("ask", self.ask, ATTRIBUTES, may_be_empty=True)
        _check(0 <= self.seed < 2**63, "seed", self.seed, "0 or more")
        _check(1 <= self.raters <= 10_000, "raters", self.raters, "1 to 10,000")
        _check(5 <= self.max_minutes <= 120, "max_minutes", self.max_minutes, "5 to 120; people tire after 25")
        for name in ("practice", "repeats", "traps"):
            _check(0 <= getattr(self, name) <= 10, name, getattr(self, name), "0 to 10")
        if self.traps and "LS" not in self.scales:
            raise OptionError(
                "traps are noticed on the scale LS, which this study does not ask; set traps = 0, or add LS"
            )
        if "IP" in self.scales:
            bare = [item.id for item in self.items if item.portrait is None]
            _check(
                not bare, "items without a portrait", ", ".join(bare), "a portrait for each, since the scale IP asks"
            )

    @property
    def rated_items(self) -> tuple[ItemSpec, ...]:
        """Those that are not for practice."""
        return tuple(item for item in self.items if not item.practice)

    @property
    def real(self) -> SystemSpec | None:
        """The system of real clips."""
        return next((system for system in self.systems if system.real), None)


def read_spec(path: str | Path) -> StudySpec:
    """Reads a study file.

    Raises:
        InputError: it cannot be read or is not TOML.
        OptionError: a key is unknown or missing, or a value is not accepted.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise InputError(f"there is no file {path}; give a study file, see docs/user-study.md") from err
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as err:
        raise InputError(f"{path} is not a TOML file that can be read: {err}") from err
    return spec_from_dict(data, path.parent)


def spec_from_dict(data: Mapping[str, Any], folder: Path) -> StudySpec:
    """The same from what TOML holds.

    Args:
        data: keys as in the study file.
        folder: what relative paths start from.

    Raises:
        OptionError: a key is unknown or missing, or a value is not accepted.
    """
    data = dict(data)
    systems = tuple(_part(SystemSpec, part, "system", folder) for part in _list(data, "system"))
    items = tuple(_part(ItemSpec, part, "item", folder) for part in _list(data, "item"))
    media = _part(MediaSpec, data.pop("media", {}), "media", folder)
    for name in ("title", "about"):
        if isinstance(data.get(name), str):
            data[name] = {"en": data[name]}
        if name in data and (not isinstance(data[name], dict) or "en" not in data[name]):
            raise OptionError(
                f"{name} is a text, or a table of texts by language with en among them, not {data[name]!r}"
            )
    for name in ("scales", "languages", "ask"):
        if name in data:
            data[name] = tuple(data[name])
    return _part(StudySpec, {**data, "systems": systems, "items": items, "media": media}, "the study file", folder)


def _list(data: dict[str, Any], name: str) -> list[Mapping[str, Any]]:
    parts = data.pop(name, [])
    if not isinstance(parts, list):
        raise OptionError(f"each {name} is written [[{name}]], with two brackets on either side")
    return parts


def _part(kind: type[_Part], data: Mapping[str, Any], where: str, folder: Path) -> _Part:
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    where = f"{where} {data.get('name') or data.get('id') or ''}".rstrip()
    surplus = [name for name in data if name not in known]
    if surplus:
        accepted = ", ".join(_in_file(name) for name in known)
        raise OptionError(f"{where} has no {', '.join(surplus)}; it takes {accepted}")
    lacking = [
        name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING and name not in data
    ]
    if lacking:
        raise OptionError(f"{where} lacks {', '.join(map(_in_file, lacking))}")
    values: dict[str, Any] = {}
    for name, value in data.items():
        values[name] = _typed(value, str(known[name].type), f"{where}: {name}", folder)
    return kind(**values)


def _typed(value: Any, annotation: str, where: str, folder: Path) -> Any:
    """The value, if it is of the kind that the field declares; paths are taken from the study file's folder."""
    kinds: tuple[type, ...] = {
        "int": (int,),
        "int | None": (int,),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
        "str | None": (str,),
        "Path | None": (str,),
    }.get(annotation, (object,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds and object not in kinds):
        raise OptionError(f"{where} is a {kinds[0].__name__}, not {value!r}")
    return Path(folder, str(value)) if annotation.startswith("Path") else value


def _in_file(name: str) -> str:
    return {"systems": "[[system]]", "items": "[[item]]"}.get(name, name)


def _check(is_fine: bool, name: str, value: object, accepted: str) -> None:
    if not is_fine:
        raise OptionError(f"{name} is {value}; accepted: {accepted}")


def _check_name(what: str, name: str) -> None:
    letters = name.replace("-", "").replace("_", "").replace(".", "")
    _check(0 < len(name) <= 64 and letters.isalnum() and name[0] != ".", what, repr(name), NAME_RULE)


def _check_unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    _check(not twice, f"{what} given twice", ", ".join(twice), "each name once")


def _check_words(name: str, words: tuple[str, ...], known: tuple[str, ...], may_be_empty: bool = False) -> None:
    _check(bool(words) or may_be_empty, name, "empty", ", ".join(known))
    unknown = [str(word) for word in words if word not in known]
    _check(
        not unknown and len(set(words)) == len(words),
        name,
        ", ".join(map(str, words)),
        f"each once of {', '.join(known)}",
    )
