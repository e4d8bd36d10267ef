"""Figures to tables: Markdown to read, CSV to go on with."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Head, rule and lines, one below the other."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def mean_of(rows: Sequence[Mapping[str, float]], key: str) -> float:
    """The mean of a column over the rows that have a number there; NaN if none has."""
    values = [row[key] for row in rows if not math.isnan(row[key])]
    return sum(values) / len(values) if values else math.nan


def mean_lines(rows: Sequence[Mapping[str, Any]], by: str, keys: Sequence[str]) -> list[list[str]]:
    """Of every value of the column `by`, in order: itself, how many rows have it, and the means of some columns."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[by]].append(row)
    return [
        [value, str(len(some)), *(number(mean_of(some, key)) for key in keys)] for value, some in sorted(groups.items())
    ]


def number(value: float) -> str:
    """A figure with the digits that are worth reading; a dash for NaN."""
    if math.isnan(value):
        return "–"
    if isinstance(value, int) or value == 0:
        return f"{value:g}"
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.2f}"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same keys as a CSV file; the first row's keys are the head."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
