"""The manifest, the limits and the sidecars to the figures of the report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from avatar.data.curation.limits import DERIVED, Limit

UNDECLARED = "not declared"
SMALLEST_CELL = 10  # clips: smaller totals of what people are are not shown
PERSONAL = ("emotion", "ethnicity", "sex", "age_group")
BALANCED = ("emotion", "ethnicity", "language", "sex", "age_group")
APPARENT = {"ethnicity": "apparent_ethnicity_probs", "age_group": "apparent_age_probs", "sex": "apparent_sex_probs"}
_BINS = 30
_LONG_TAIL = 8.0  # the 98th percentile over the median: such values are shown on a logarithmic axis
_TAILS = (0.5, 99.5)  # percentiles: a histogram shows what lies between, and its thresholds

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Total:
    """Clips and their hours."""

    clips: int
    hours: float

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Total:
        listed = list(rows)
        return cls(len(listed), sum(row["duration_s"] or 0.0 for row in listed) / 3600)


@dataclass(frozen=True)
class Step:
    """One step of the funnel.

    Attributes:
        reason: what rejects.
        rejected: clips whose first reason this is.
        left: clips that nothing has rejected up to here.
        in_all: clips that have this reason, first or not.
    """

    reason: str
    rejected: Total
    left: Total
    in_all: int


@dataclass(frozen=True)
class Histogram:
    """Values of one column.

    Attributes:
        column: of the manifest.
        edges: (bins + 1,) of the bins; what lies outside counts in the first and the last.
        kept, rejected: clips per bin.
        thresholds: (name, value) of the limits on this column.
        missing: clips without a value.
        is_log: whether the bins are even on a logarithmic axis.
    """

    column: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    rejected: tuple[int, ...]
    thresholds: tuple[tuple[str, float], ...]
    missing: int
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies on the axis, 0 at its left end and 1 at its right."""
        scaled = math.log if self.is_log else float
        low, high = scaled(self.edges[0]), scaled(self.edges[-1])
        return (scaled(value) - low) / (high - low)


@dataclass(frozen=True)
class Share:
    """One value of a label: of all clips and of the kept ones; None where too few to be shown."""

    value: str
    all: Total | None
    kept: Total | None


@dataclass(frozen=True)
class StageTime:
    """Processor time of one stage."""

    stage: str
    rows: int
    failed: int
    cpu_s: float

    @property
    def per_hour(self) -> float | None:
        """Rows an hour on one core."""
        return self.rows / self.cpu_s * 3600 if self.cpu_s > 0 else None


def funnel(rows: Sequence[Row], limits: Sequence[Limit]) -> list[Step]:
    """Steps in the order in which reasons are given: failures, the limits, what was never measured."""
    firsts = Counter(row["reject_reasons"][0] for row in rows if row["reject_reasons"])
    in_all = Counter(reason for row in rows for reason in row["reject_reasons"] or ())
    named = [limit.reason for limit in limits]
    failures = sorted(reason for reason in in_all if reason.startswith("error:"))
    others = sorted(reason for reason in in_all if reason not in named and not reason.startswith("error:"))
    left, steps = list(rows), []
    for reason in [*failures, *named, *others]:
        gone = [row for row in left if row["reject_reasons"] and row["reject_reasons"][0] == reason]
        left = [row for row in left if not (row["reject_reasons"] and row["reject_reasons"][0] == reason)]
        assert len(gone) == firsts[reason]
        steps.append(Step(reason, Total.of(gone), Total.of(left), in_all[reason]))
    return steps


def histograms(rows: Sequence[Row], limits: Sequence[Limit]) -> list[Histogram]:
    """One for each column that a limit reads and that has two values or more."""
    thresholds: dict[str, list[tuple[str, float]]] = {}
    for limit in limits:
        if limit.when and not any(all(row.get(name) == value for name, value in limit.when.items()) for row in rows):
            continue  # a limit for another backend than the one that ran
        bounds = [("least", limit.min), ("most", limit.max)]
        if limit.max_abs is not None:
            bounds += [("least", -limit.max_abs), ("most", limit.max_abs)]
        found = [(f"{limit.reason}: {kind} {value:g}", float(value)) for kind, value in bounds if value is not None]
        thresholds.setdefault(limit.column, []).extend(found)
    made = (_histogram(column, rows, found) for column, found in thresholds.items() if found)
    return [one for one in made if one is not None]


def balance(rows: Sequence[Row], column: str) -> list[Share]:
    """How a label is spread, most frequent first; of personal labels only totals of SMALLEST_CELL clips and more."""
    values = sorted({str(row[column]) for row in rows if row.get(column) is not None})
    shares = []
    for value in [*values, None]:
        members = [row for row in rows if row.get(column) == value]
        if members:
            hides = column in PERSONAL and value is not None
            kept = [row for row in members if row["keep"]]
            shares.append(
                Share(UNDECLARED if value is None else str(value), _shown(members, hides), _shown(kept, hides))
            )
    return sorted(shares, key=lambda one: (one.value == UNDECLARED, -(one.all.clips if one.all else 0), one.value))


def apparent(rows: Sequence[Row], column: str) -> tuple[int, tuple[float, ...]] | None:
    """How many kept clips have a model's opinion, and its mean; None under SMALLEST_CELL clips."""
    probs = [row[column] for row in rows if row["keep"] and row.get(column)]
    if len(probs) < SMALLEST_CELL:
        return None
    return len(probs), tuple(float(value) for value in np.mean(probs, axis=0))


def stage_times(sidecars: Path) -> list[StageTime]:
    """Of every stage, dearest first; of one that ran with several versions or options, the last that did."""
    latest: dict[str, tuple[float, list[Path]]] = {}
    for folder in sorted(path for path in sidecars.glob("*") if path.is_dir()):
        if files := sorted(folder.glob("*.parquet")):
            stage, written = folder.name.split("-")[0], max(file.stat().st_mtime for file in files)
            if stage not in latest or written >= latest[stage][0]:
                latest[stage] = written, files
    times = []
    for stage, (_, files) in latest.items():
        table = ds.dataset(files, format="parquet").to_table(["cpu_s", "error"])
        failed = len(table) - table.column("error").null_count
        times.append(StageTime(stage, len(table), failed, float(np.nansum(table.column("cpu_s").to_numpy()))))
    return sorted(times, key=lambda one: -one.cpu_s)


def value_of(row: Row, column: str) -> float | None:
    """A number of a row, also of a column that limits derive."""
    if column in DERIVED:
        parts = [row.get(name) for name in DERIVED[column]]
        numbers = [float(part) for part in parts if part is not None]
        return min(numbers) if len(numbers) == len(parts) else None
    value = row.get(column)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _histogram(column: str, rows: Sequence[Row], thresholds: list[tuple[str, float]]) -> Histogram | None:
    pairs = [(value, bool(row["keep"])) for row in rows if (value := value_of(row, column)) is not None]
    values = np.array([value for value, _ in pairs])
    if len(np.unique(values)) < 2:
        return None
    low, high = np.percentile(values, _TAILS)
    low, high = min(low, *(t for _, t in thresholds)), max(high, *(t for _, t in thresholds))
    is_log = bool(values.min() > 0 < low) and bool(np.percentile(values, 98) > _LONG_TAIL * np.median(values))
    if is_log:
        edges = np.geomspace(low / 1.1, high * 1.1, _BINS + 1)
    else:
        margin = (high - low) * 0.03 or 1.0
        edges = np.linspace(max(low - margin, 0.0) if low >= 0 else low - margin, high + margin, _BINS + 1)
    kept = np.array([keep for _, keep in pairs])
    inside = np.clip(values, edges[0], math.nextafter(edges[-1], -math.inf))
    counts = [tuple(int(n) for n in np.histogram(inside[which], edges)[0]) for which in (kept, ~kept)]
    missing = len(rows) - len(pairs)
    bins = tuple(float(edge) for edge in edges)
    return Histogram(column, bins, counts[0], counts[1], tuple(thresholds), missing, is_log)


def _shown(rows: Sequence[Row], hides: bool) -> Total | None:
    return None if hides and 0 < len(rows) < SMALLEST_CELL else Total.of(rows)
