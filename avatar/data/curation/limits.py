"""Limits: which values of which column reject a clip, row by row in the workers and column by column in the decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avatar.errors import OptionError

DERIVED = {"short_side_px": ("width_px", "height_px")}  # the least of these


@dataclass(frozen=True)
class Limit:
    """Rejects a clip under a name.

    Attributes:
        reason: the name, one of `reject_reasons` where it rejects.
        column: of the manifest, or `short_side_px`.
        min, max, max_abs: the accepted range, ends included.
        none_of: values that reject.
        key: where the column is a map (`mllm_flags`), whose value is meant.
        when: column to value: the limit is for such clips only, as for one backend of several.
        unless: other limits: where one of them rejects a clip, this one says nothing true of it (no face is found where nothing
            can be seen) and is not among its reasons.
        required: whether a clip that nobody measured is rejected too.
    """

    reason: str
    column: str
    min: float | None = None
    max: float | None = None
    max_abs: float | None = None
    none_of: tuple[Any, ...] = ()
    key: str | None = None
    when: Mapping[str, Any] = field(default_factory=dict)
    unless: tuple[str, ...] = ()
    required: bool = False

    def __post_init__(self) -> None:
        for name in ("min", "max", "max_abs"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
                raise OptionError(f"limit {self.reason!r} has {name} = {value!r}; it is a number")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise OptionError(
                f"limit {self.reason!r} has min = {self.min:g} and max = {self.max:g}, which nothing can meet"
            )
        if self.min is None and self.max is None and self.max_abs is None and not self.none_of and not self.required:
            raise OptionError(
                f"limit {self.reason!r} rejects nothing; give it min, max, max_abs, none_of or required = true"
            )

    def rejects(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is rejected by what has been measured of it; `required` is for the decision alone."""
        if any(row.get(column) != value for column, value in self.when.items()):
            return False
        value = _value(row, self.column, self.key)
        if value is None:
            return False
        if self.none_of and value in self.none_of:
            return True
        return bool(
            (self.min is not None and value < self.min)
            or (self.max is not None and value > self.max)
            or (self.max_abs is not None and abs(value) > self.max_abs)
        )

    def mask(self, table: pa.Table) -> np.ndarray:
        """(N,) bool: the rows that are rejected, missing values included where the limit is required."""
        values = _values(table, self.column, self.key)
        bad = np.zeros(len(table), bool)
        if values is not None:
            tests = []
            if self.min is not None:
                tests.append(pc.less(values, self.min))
            if self.max is not None:
                tests.append(pc.greater(values, self.max))
            if self.max_abs is not None:
                tests.append(pc.greater(pc.abs(values), self.max_abs))
            if self.none_of:
                tests.append(pc.is_in(values, pa.array(list(self.none_of), values.type)))
            for test in tests:
                bad |= _bools(test)
        if self.required:
            bad |= np.ones(len(table), bool) if values is None else _bools(pc.is_null(values))
        for column, value in self.when.items():
            bad &= _bools(pc.equal(table.column(column), value)) if column in table.column_names else False
        return bad

    def words(self, row: Mapping[str, Any]) -> str:
        """What the limit asks for and what the row has, for people."""
        value = _value(row, self.column, self.key)
        shown = "not measured" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        asked = [
            f"{name} {getattr(self, name):g}" for name in ("min", "max", "max_abs") if getattr(self, name) is not None
        ]
        asked += [f"none of {', '.join(map(str, self.none_of))}"] if self.none_of else []
        asked += ["required"] if self.required else []
        return f"{self.column} {shown} ({', '.join(asked)})"


def parse_limits(tables: Mapping[str, Any]) -> tuple[Limit, ...]:
    """Limits from the configuration's `[limits.NAME]`.

    Raises:
        OptionError: a key that a limit does not have, or none that it must have.
    """
    known = [name for name in Limit.__dataclass_fields__ if name != "reason"]
    limits = []
    for reason, values in tables.items():
        if values is False:
            continue
        _check_keys(reason, values, known, tables)
        lists = {name: tuple(_listed(reason, name, values.get(name, ()))) for name in ("none_of", "unless")}
        if strangers := sorted(set(lists["unless"]) - set(tables)):
            raise OptionError(
                f"limit {reason!r} is not asked unless {', '.join(strangers)}, which is no limit; there are {', '.join(tables)}"
            )
        limits.append(Limit(reason, **{**values, **lists}))
    return tuple(limits)


def check_columns(limits: Iterable[Limit], fields: Iterable[pa.Field]) -> None:
    """Raises OptionError where a limit reads a column that is not among these, or asks of it what its values cannot be."""
    known = {**{field.name: field.type for field in fields}, **dict.fromkeys(DERIVED, pa.int32())}
    for limit in limits:
        for column in (limit.column, *limit.when):
            if column not in known:
                near = ", ".join(get_close_matches(column, known)) or ", ".join(sorted(known))
                raise OptionError(f"limit {limit.reason!r} reads {column}, which no stage fills; did you mean {near}?")
        _check_kind(limit, limit.column, known[limit.column])
        for column, value in limit.when.items():
            if not _are_of([value], known[column]):
                raise OptionError(f"limit {limit.reason!r} is for {column} = {value!r}; its values are {known[column]}")


def _check_keys(reason: str, values: Any, known: Sequence[str], tables: Mapping[str, Any]) -> None:
    """What a limit's table must look like."""
    if not isinstance(values, Mapping):
        raise OptionError(
            f"limit {reason!r} is {values!r}; it is false, or a table with column and what is asked of it"
        )
    if strangers := sorted(set(values) - set(known)):
        raise OptionError(f"limit {reason!r} has {', '.join(strangers)}; accepted: {', '.join(known)}")
    if "column" not in values:
        near = [name for name in get_close_matches(reason, tables) if name != reason]
        which = f"did you mean [limits.{near[0]}]? " if near else ""
        raise OptionError(f"limit {reason!r} is none of the defaults: {which}A new one is a table with column")
    for name, kind, words in (("column", str, "text"), ("key", str, "text"), ("when", Mapping, "a table")):
        if name in values and not isinstance(values[name], kind):
            raise OptionError(f"limit {reason!r} has {name} = {values[name]!r}; it is {words}")


def _check_kind(limit: Limit, column: str, kind: pa.DataType) -> None:
    is_map = pa.types.is_map(kind)
    if is_map != (limit.key is not None):
        words = f"a map; name one of its keys, key = {'…'!r}" if is_map else "no map; it has no keys"
        raise OptionError(f"limit {limit.reason!r} reads {column}, which is {words}")
    kind = kind.item_type if is_map else kind
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not is_number and not (limit.min is None and limit.max is None and limit.max_abs is None):
        raise OptionError(f"limit {limit.reason!r} asks for min or max of {column}, which is {kind}; use none_of")
    if not _are_of(limit.none_of, kind):
        raise OptionError(
            f"limit {limit.reason!r} has none_of = {list(limit.none_of)!r}; values of {column} are {kind}"
        )


def _are_of(values: Sequence[Any], kind: pa.DataType) -> bool:
    try:
        pa.array(list(values), kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _listed(reason: str, name: str, values: Any) -> Iterable[Any]:
    if not isinstance(values, (list, tuple)):
        raise OptionError(f"limit {reason!r} has {name} = {values!r}; it is a list")
    return values


def first_reason(limits: Iterable[Limit], row: Mapping[str, Any]) -> str | None:
    """The first limit that rejects a row by what has been measured so far."""
    return next((limit.reason for limit in limits if limit.rejects(row)), None)


def _value(row: Mapping[str, Any], column: str, key: str | None) -> Any:
    if column in DERIVED:
        parts = [part for name in DERIVED[column] if (part := row.get(name)) is not None]
        return min(parts) if len(parts) == len(DERIVED[column]) else None
    value = row.get(column)
    return dict(value).get(key) if key is not None and value is not None else value


def _values(table: pa.Table, column: str, key: str | None) -> pa.ChunkedArray | None:
    if column in DERIVED:
        return pc.min_element_wise(*(table.column(name) for name in DERIVED[column]), skip_nulls=False)
    if column not in table.column_names:
        return None
    values = table.column(column)
    return pc.map_lookup(values, key, "first") if key is not None else values


def _bools(values: Any) -> np.ndarray:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)
