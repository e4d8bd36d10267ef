"""Figures and the laws they must keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from avatar.evaluate.tables import markdown_table


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured.
        value: the number; NaN keeps no law.
        at_least, at_most: the law; without either the figure is there to compare with.
    """

    name: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def law(self) -> str:
        """As it is written in a table."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def verdict(self) -> str:
        """`pass`, `fail`, or nothing where there is no law."""
        if not self.law:
            return ""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return "pass" if low <= self.value <= high else "fail"


def figures_table(figures: Sequence[Figure]) -> str:
    """One line a figure; Markdown."""
    lines = [[figure.name, _digits(figure.value), figure.law, figure.verdict] for figure in figures]
    return markdown_table(["figure", "value", "law", ""], lines)


def _digits(value: float) -> str:
    """Three digits, so that a figure just short of its law does not look as if it kept it."""
    return "–" if math.isnan(value) else f"{value:.3g}"
