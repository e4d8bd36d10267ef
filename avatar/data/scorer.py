"""What a scorer is, how one is found by its name, and how it is lifted from clips to tables."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from avatar.data.clip_media import ClipMedia
from avatar.data.engines.work import raise_if_nothing_can_be_written
from avatar.data.manifest import table_from_rows
from avatar.errors import OptionError, words_of

ENTRY_POINTS = "avatar.scorers"  # the group under which another package offers scorers


@dataclass(frozen=True)
class WeightSpec:
    """Weights that a scorer loads.

    Attributes:
        name: what they are.
        uri: hub id, URL or path: where they come from.
        license: SPDX name, or the words of whoever gives them.
        num_bytes: size where known.
        sha256: checksum where known.
        is_noncommercial: whether their licence allows non-commercial use only.
    """

    name: str
    uri: str
    license: str
    num_bytes: int | None = None
    sha256: str | None = None
    is_noncommercial: bool = False


class Scorer(Protocol):
    """Looks at one clip and fills columns of the manifest.

    Attributes:
        name: short, lower case: in the sidecar's folder, in `stage_errors` and in the configuration.
        version: changes when a value may change; in the sidecar's folder too.
        columns: what it fills, without clip_id; as a rule `manifest.columns(…)`.
        weights: () when it runs offline as installed.
    """

    name: str
    version: str
    columns: pa.Schema
    weights: tuple[WeightSpec, ...]

    def setup(self) -> None:
        """Loads models; once per worker. Raises MissingDependencyError or WeightsError when it cannot."""
        ...

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """Values by column; a column that is absent or None was not measured. Never 0 for that, never NaN."""
        ...


Factory = Callable[..., Scorer]
_FactoryT = TypeVar("_FactoryT", bound=Factory)
_FACTORIES: dict[str, Factory] = {}


def register(name: str) -> Callable[[_FactoryT], _FactoryT]:
    """Class decorator in a module of `avatar.data.scorers`: makes the scorer known by its name.

    The class is called with the options of `[scorers.NAME]` in the configuration as keyword arguments.
    """

    def keep(factory: _FactoryT) -> _FactoryT:
        _FACTORIES[name] = factory
        return factory

    return keep


def scorer_names() -> list[str]:
    """The names that the configuration's `scorers` may use, sorted."""
    _load_all()
    return sorted(set(_FACTORIES) | {entry.name for entry in entry_points(group=ENTRY_POINTS)})


def create_scorer(name: str, options: Mapping[str, Any] | None = None) -> Scorer:
    """Makes a scorer; its models are not loaded yet.

    Args:
        name: a registered name, one that an installed package offers, or `module:factory`.
        options: keyword arguments of the factory.

    Raises:
        OptionError: no such scorer, or options that it does not have.
    """
    factory, given = _factory(name), dict(options or {})
    try:
        return factory(**given)
    except TypeError as err:
        accepted = ", ".join(inspect.signature(factory).parameters) or "no options"
        raise OptionError(
            f"scorer {name!r} cannot be made with {given or 'no options'}: {err}; [scorer.{name}] takes {accepted}"
        ) from err


def score_clip(scorer: Scorer, clip: ClipMedia) -> tuple[dict[str, Any], str | None]:
    """One scorer on one clip; its values go into `clip.row` for the scorers after it.

    Returns:
        (values by column, None), or (no values, what went wrong).

    Raises:
        OutputError: the disk is full.
    """
    try:
        values = scorer.score(clip)
        _check(scorer, values)
    except Exception as err:  # whatever a scorer stumbles over concerns this clip alone: a run of a million goes on
        raise_if_nothing_can_be_written(err)
        return {}, words_of(err)
    clip.row.update(values)
    return values, None


def score_table(scorer: Scorer, table: pa.Table, root: str | Path = ".") -> pa.Table:
    """A scorer on every row of a table, in this process.

    Args:
        scorer: set up.
        table: clips: clip_id, source_uri, start_s, end_s, and what the scorer reads.
        root: the output folder, where face tracks are.

    Returns:
        clip_id, the scorer's columns, and `error` (null where all went well).
    """
    rows = []
    for row in table.to_pylist():
        values, error = score_clip(scorer, ClipMedia(row, root))
        rows.append({"clip_id": row["clip_id"], **values, "error": error})
    return table_from_rows(rows, sidecar_schema(scorer))


def sidecar_schema(scorer: Scorer) -> pa.Schema:
    """The columns of a scorer's sidecar tables."""
    return pa.schema([pa.field("clip_id", pa.string()), *scorer.columns, pa.field("error", pa.string())])


def _check(scorer: Scorer, values: Mapping[str, Any]) -> None:
    strangers = sorted(set(values) - set(scorer.columns.names))
    if strangers:
        raise OptionError(f"scorer {scorer.name!r} filled {', '.join(strangers)}, which it does not declare")
    for column, value in values.items():
        numbers: Sequence[Any] = value if isinstance(value, (list, tuple)) else (value,)
        if any(isinstance(number, (float, np.floating)) and not math.isfinite(number) for number in numbers):
            raise OptionError(f"scorer {scorer.name!r} gave {value} for {column}; what was not measured is None")
        kind = scorer.columns.field(column).type
        try:
            pa.array([value], kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as err:
            raise OptionError(f"scorer {scorer.name!r} gave {value!r} for {column}, which is {kind}") from err


def _factory(name: str) -> Factory:
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as err:
            raise OptionError(f"scorer {name!r} cannot be found: {err}; it is module:class") from err
    if name not in _FACTORIES:
        _load_all()
    if name in _FACTORIES:
        return _FACTORIES[name]
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            return entry.load()
    raise OptionError(f"no scorer is called {name!r}; accepted: {', '.join(scorer_names())}, or module:class")


def _load_all() -> None:
    """Imports every module of `avatar.data.scorers`, each of which registers what it has; heavy libraries wait for setup."""
    from avatar.data import scorers

    for module in pkgutil.iter_modules(scorers.__path__):
        importlib.import_module(f"{scorers.__name__}.{module.name}")
