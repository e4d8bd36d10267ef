"""The configuration of a curation: TOML over the defaults, checked key by key."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from avatar.data.curation.limits import Limit, parse_limits
from avatar.errors import OptionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULTS = Path(__file__).with_name("defaults.toml")
_OPEN = ("limits", "scorer")  # tables whose keys are the user's
_KINDS = {
    dict: "a table", list: "a list", str: "text", bool: "true or false", int: "a whole number", float: "a number"
}  # fmt: skip
# (least, most) of what would otherwise go wrong late
_RANGES: dict[str, tuple[float, float]] = {
    "shots.threshold": (0, math.inf),
    "shots.min_content": (0, math.inf),
    "shots.min_shot_frames": (1, math.inf),
    "shots.trim_frames": (0, math.inf),
    "segments.max_s": (1.0, math.inf),
    "engine.timeout_s": (1.0, math.inf),
    "split.val": (0.0, 1.0),
    "split.test": (0.0, 1.0),
    "export.shard_clips": (1, math.inf),
    "export.crf": (0, 51),
}
_MEDIA = ("encode", "reference", "none")


@dataclass(frozen=True)
class CurationConfig:
    """All settings; the keys are those of `defaults.toml`.

    Attributes:
        values: the whole configuration, defaults filled in.
        limits: in the order in which they are reported.
    """

    values: Mapping[str, Any]
    limits: tuple[Limit, ...]

    @classmethod
    def load(cls, *layers: str | Path | Mapping[str, Any] | None) -> CurationConfig:
        """Reads a configuration over the defaults.

        Args:
            layers: TOML files, or what would be in them; a later one wins; None: nothing.

        Raises:
            OptionError: it cannot be read, or has a key or a kind of value that is not accepted.
        """
        defaults = tomllib.loads(DEFAULTS.read_text(encoding="utf-8"))
        defaults.setdefault("scorer", {})
        values: Mapping[str, Any] = defaults
        for layer in layers:
            values = _merged(values, _read(layer), "")
        _check_ranges(values)
        return cls(values, parse_limits(values["limits"]))

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def scorer_options(self, name: str) -> dict[str, Any]:
        """The options of `[scorer.NAME]`."""
        return dict(self.values["scorer"].get(name, {}))

    @property
    def hash(self) -> str:
        """16 hex digits of all that can change a manifest; how it is computed is left out."""
        parts = {key: value for key, value in self.values.items() if key not in ("engine", "export")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _read(layer: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if not isinstance(layer, (str, Path)):
        return layer or {}
    try:
        return tomllib.loads(Path(layer).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise OptionError(f"the configuration {layer} cannot be read: {err}; it is a TOML file") from err


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`given` over `defaults`, table by table."""
    merged = dict(defaults)
    for key, value in given.items():
        at = f"{where}.{key}" if where else key
        is_open = where.partition(".")[0] in _OPEN
        if key not in defaults and not is_open:
            near = get_close_matches(key, defaults, 1)
            which = f"did you mean {near[0]}? Accepted" if near else "accepted"
            raise OptionError(f"the configuration has no {at}; {which} here: {', '.join(defaults)}")
        before = defaults.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(before, value, at)
            continue
        if before is not None and not is_open and not _is_alike(before, value):
            raise OptionError(f"{at} is {value!r}; it is {_KINDS[type(before)]}, such as {before!r}")
        merged[key] = value
    return merged


def _is_alike(before: Any, value: Any) -> bool:
    if isinstance(before, bool) or isinstance(value, bool):
        return isinstance(before, bool) and isinstance(value, bool)
    if isinstance(before, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(before))


def _check_ranges(values: Mapping[str, Any]) -> None:
    for name, (least, most) in _RANGES.items():
        table, _, key = name.partition(".")
        if not least <= values[table][key] <= most:
            accepted = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
            raise OptionError(f"{name} is {values[table][key]!r}; accepted: {accepted}")
    if values["split"]["val"] + values["split"]["test"] > 1:
        raise OptionError("split.val and split.test are more than 1 together; what they leave is for training")
    if values["export"]["media"] not in _MEDIA:
        raise OptionError(f"export.media is {values['export']['media']!r}; accepted: {', '.join(_MEDIA)}")
    for name in ("scorers", "late_scorers"):
        if not all(isinstance(one, str) for one in values[name]):
            raise OptionError(f"{name} is {values[name]!r}; it is a list of names")
    for name, options in values["scorer"].items():
        if not isinstance(options, Mapping):
            raise OptionError(f"scorer.{name} is {options!r}; options of a scorer are a table, [scorer.{name}]")
