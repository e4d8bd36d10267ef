"""A training run from its TOML file: every key known, every value of the right kind, nothing changed when it goes on."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from avatar.errors import InputError, OptionError
from avatar.train.config import TrainConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"
Section = TypeVar("Section")


def load_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Reads a run.

    Args:
        path: a TOML file, or the name of a recipe of this package.
        changes: `KEY=VALUE` each, with a dotted key and the value as TOML has it; quotes may be left out.

    Raises:
        InputError: there is no such file, or it is no TOML.
        OptionError: a key that does not exist, with the nearest that does, or a value of another kind.
    """
    file = _recipe(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as err:
        raise InputError(f"{file} cannot be read as TOML: {err}") from err
    for change in changes:
        _change(values, change)
    return from_mapping(values)


def from_mapping(values: Mapping[str, Any]) -> TrainConfig:
    """A run from nested values, as TOML has them; raises as `load_config`."""
    return _section(TrainConfig, values, "")


def check_same(config: TrainConfig, saved: Mapping[str, Any], where: Path) -> None:
    """Checks that a run may go on with a config.

    Raises:
        OptionError: values that decide the result are others than in the checkpoint; all of them are named.
    """
    now = config.deciding()
    differing = [
        f"{name} (was {saved.get(name)!r}, is {now.get(name)!r})"
        for name in sorted({*now, *saved})
        if now.get(name) != saved.get(name)
    ]
    if differing:
        raise OptionError(
            f"{where} was made with another config: {'; '.join(differing)}; set these back, or train into another folder "
            "(out = …), from there if you like (model.init = …)"
        )


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _recipe(path: str | Path) -> Path:
    file = Path(path)
    if file.is_file():
        return file
    if (RECIPES / f"{path}.toml").is_file():
        return RECIPES / f"{path}.toml"
    raise InputError(
        f"there is no file {path}; give a TOML file, or one of the recipes that come with avatar: {', '.join(recipe_names())}"
    )


def _change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals:
        raise OptionError(f"{change!r} is not KEY=VALUE, as in loop.steps=500")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.strip().split(".")
    for name in path:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise OptionError(f"{key!r}: {name} is a value, not a section")
        values = inner
    values[last] = value


def _section(kind: type[Section], values: Mapping[str, Any], prefix: str) -> Section:
    hints = typing.get_type_hints(kind)
    made = {}
    for key, value in values.items():
        if key not in hints:
            raise OptionError(_unknown(f"{prefix}{key}", hints, prefix))
        made[key] = _value(hints[key], value, f"{prefix}{key}")
    return kind(**made)


def _unknown(name: str, hints: Mapping[str, Any], prefix: str) -> str:
    last, everywhere = name.split(".")[-1], TrainConfig().flat()
    elsewhere = [dotted for dotted in everywhere if dotted.split(".")[-1] == last]  # right, and in the wrong section
    near = difflib.get_close_matches(last, hints, 1, cutoff=0.4)
    nearest = (elsewhere or [prefix + key for key in near] or difflib.get_close_matches(name, everywhere, 1, cutoff=0))[
        0
    ]
    there = f"; [{prefix.rstrip('.')}] has {', '.join(hints)}" if prefix and not elsewhere else ""
    return f"there is no key {name!r} in the config; the nearest is {nearest!r}{there}"


def _value(hint: Any, value: Any, name: str) -> Any:
    """The value as its annotation wants it."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise OptionError(f"{name} is a section of the config, [{name}], not a value")
        return _section(typing.cast("type[Any]", hint), value, f"{name}.")
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in inner:
            raise OptionError(f"{name} must be one of {', '.join(map(repr, inner))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise OptionError(f"{name} is a list, not {value!r}; write it as [{value!r}]")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise OptionError(f"{name} is a list of {len(inner)} values, not {value!r}")
        return tuple(_value(inner[0], item, name) for item in value)
    assert not isinstance(hint, types.UnionType)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise OptionError(f"{name} is {_KINDS[hint]}, not {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
