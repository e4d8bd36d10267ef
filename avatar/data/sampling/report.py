"""What was drawn and how each cell fares: a table per epoch, lines for machines, and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.data.sampling.cells import Cells
from avatar.media.output import staged

_SHOWN_CELLS = 40  # of a plot; more cannot be read


@dataclass(frozen=True)
class CellReport:
    """One cell in one epoch; shares are of all clips or draws, None is not measured.

    Attributes:
        cell: its name.
        clips: expected number of clips.
        natural_share, target_share, drawn_share: of clips, of the plan, of the draws.
        weight: draws of a clip, in multiples of natural sampling.
        figures: by name, such as `loss`, `held_out_loss`, `sync_conf`.
    """

    cell: str
    clips: float
    natural_share: float
    target_share: float
    drawn_share: float
    weight: float
    figures: dict[str, float | None]


def cell_reports(
    cells: Cells, target: np.ndarray, drawn: np.ndarray, figures: Mapping[str, np.ndarray] | None = None
) -> list[CellReport]:
    """The rows of one epoch.

    Args:
        cells: the clips.
        target: (C,) planned share of the draws.
        drawn: (n,) clips that were drawn, each as often as it was.
        figures: by name, (C,) each; NaN is not measured.
    """
    natural = cells.sizes / cells.sizes.sum()
    counts = cells.per_cell(np.bincount(drawn, minlength=cells.num_clips).astype(np.float64))
    shares = counts / max(len(drawn), 1)
    return [
        CellReport(
            name,
            round(float(cells.sizes[k]), 3),
            float(natural[k]),
            float(target[k]),
            float(shares[k]),
            float(target[k] / natural[k]),
            {key: _measured(values[k]) for key, values in (figures or {}).items()},
        )
        for k, name in enumerate(cells.names)
    ]


def mean_by_cell(cells: Cells, clips: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over what was seen of each cell, (C,), NaN where nothing was.

    Args:
        cells: the clips.
        clips: (n,) clips seen, repeated as they were.
        values: (n,) a figure of each.
    """
    total = cells.per_cell(np.asarray(values, np.float64), clips)
    weight = cells.per_cell(np.ones(len(clips)), clips)
    return np.divide(total, weight, out=np.full(len(cells), np.nan), where=weight > 1e-9)


def append_report(path: Path, epoch: int, step: int, rows: Sequence[CellReport]) -> None:
    """One line of JSON for an epoch."""
    line: dict[str, Any] = {"epoch": epoch, "step": step, "cells": [asdict(row) for row in rows]}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_reports(path: Path) -> list[dict[str, Any]]:
    """What `append_report` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(rows: Sequence[CellReport]) -> str:
    """The epoch as text, rarest cell first."""
    names = list(rows[0].figures) if rows else []
    head = ["cell", "clips", "natural", "target", "drawn", "weight", *names]
    lines = [head]
    for row in sorted(rows, key=lambda row: row.clips):
        figures = ["-" if (value := row.figures[name]) is None else f"{value:.4g}" for name in names]
        shares = [f"{share:.2%}" for share in (row.natural_share, row.target_share, row.drawn_share)]
        lines.append([row.cell, f"{row.clips:g}", *shares, f"{row.weight:.2f}", *figures])
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(w) if k == 0 else text.rjust(w) for k, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def plot_reports(reports: Sequence[Mapping[str, Any]], path: Path, figure: str = "held_out_loss") -> Path:
    """A page: shares by cell in the last epoch, and a figure of each cell over the epochs, from common (blue) to rare (red).

    Args:
        reports: as `read_reports` gives them, at least one.
        path: a PNG file.
        figure: which one is drawn over the epochs; where it was never measured, the loss in training.

    Returns:
        The file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    last = sorted(reports[-1]["cells"], key=lambda row: -row["clips"])[:_SHOWN_CELLS]
    page = Figure(figsize=(11, 3.2 + 0.22 * len(last)), layout="constrained")
    shares, courses = page.subplots(1, 2)
    places = np.arange(len(last))
    for offset, key, colour in ((-0.27, "natural", "#9aa5b1"), (0, "target", "#2f6f9f"), (0.27, "drawn", "#d9822b")):
        shares.barh(places + offset, [row[f"{key}_share"] for row in last], height=0.25, label=key, color=colour)
    shares.set_yticks(places, [f"{row['cell']} ({row['clips']:g})" for row in last], fontsize=7)
    shares.invert_yaxis()
    shares.set_xlabel(f"share of clips or draws, epoch {reports[-1]['epoch']}")
    shares.legend(fontsize=8)
    shown = figure if _course(reports, figure) else "loss"
    every = _course(reports, shown)
    for k, row in enumerate(last):
        if known := every.get(row["cell"]):
            shade = colormaps["turbo"](0.08 + 0.84 * k / max(len(last) - 1, 1))
            is_rare = k >= len(last) / 2
            courses.plot(
                *zip(*known, strict=True),
                label=row["cell"],
                color=shade,
                linewidth=1.2,
                linestyle="--" if is_rare else "-",
            )
    courses.set_xlabel("step")
    courses.set_ylabel(
        figure.replace("_", " ") if shown == figure else "loss in training (none was measured on held-out clips)"
    )
    if courses.lines:
        courses.set_yscale("log")
        courses.legend(fontsize=6, ncols=2)
    FigureCanvasAgg(page)
    with staged(path, overwrite=True) as name:
        page.savefig(name, format="png", dpi=110)
    return path


def _course(reports: Sequence[Mapping[str, Any]], figure: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of a figure by cell, where it was measured."""
    found: dict[str, list[tuple[int, float]]] = {}
    for report in reports:
        for cell in report["cells"]:
            if (value := cell["figures"].get(figure)) is not None:
                found.setdefault(cell["cell"], []).append((report["step"], value))
    return found


def _measured(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
