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
_WIDE = 4.0  # largest by smallest, above which an axis is logarithmic
_PLOTTED = (  # figures over the epochs, where they were measured
    ("held_out_loss", "held-out loss"),
    ("held_out_sync", "held-out sync loss (0 in time, 3.4 cannot tell)"),
)


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


def plot_reports(reports: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """A page: shares by cell in the last epoch, and loss and sync of each cell over the epochs, from common (blue) to rare (red).

    Where nothing was held out, the loss in training is shown. Of many cells the commonest and the rarest are.

    Args:
        reports: as `read_reports` gives them, at least one.
        path: a PNG file.

    Returns:
        The file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = reports[-1]["cells"]
    shown = plotted_cells(cells)
    panels = {label: course for figure, label in _PLOTTED if (course := _course(reports, figure))}
    panels = panels or {"loss in training (nothing was held out)": _course(reports, "loss")}
    page = Figure(figsize=(6.5 + 5.0 * len(panels), 3.2 + 0.22 * len(shown)), layout="constrained")
    axes = page.subplots(1, 1 + len(panels))
    _plot_shares(axes[0], shown, f"share of clips or draws, epoch {reports[-1]['epoch']}")
    if len(shown) < len(cells):
        axes[0].set_title(f"the {_SHOWN_CELLS // 2} commonest and rarest of {len(cells)} cells", fontsize=9)
    for axis, (label, course) in zip(axes[1:], panels.items(), strict=True):
        _plot_courses(axis, [row["cell"] for row in shown], course, label)
    FigureCanvasAgg(page)
    with staged(path, overwrite=True) as name:
        page.savefig(name, format="png", dpi=110)
    return path


def plotted_cells(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The cells of an epoch from common to rare; of more than can be read, those at both ends."""
    ordered = sorted(rows, key=lambda row: -row["clips"])
    half = _SHOWN_CELLS // 2
    return ordered if len(ordered) <= _SHOWN_CELLS else [*ordered[:half], *ordered[-half:]]


def _plot_shares(axis: Any, rows: Sequence[Mapping[str, Any]], label: str) -> None:
    places = np.arange(len(rows))
    for offset, key, colour in ((-0.27, "natural", "#9aa5b1"), (0, "target", "#2f6f9f"), (0.27, "drawn", "#d9822b")):
        axis.barh(places + offset, [row[f"{key}_share"] for row in rows], height=0.25, label=key, color=colour)
    axis.set_yticks(places, [f"{row['cell']} ({row['clips']:g})" for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.legend(fontsize=8)


def _plot_courses(axis: Any, names: Sequence[str], course: Mapping[str, list[tuple[int, float]]], label: str) -> None:
    """A line for each cell, the commoner half solid, the rarer half dashed."""
    from matplotlib import colormaps

    for k, name in enumerate(names):
        if name in course:
            axis.plot(
                *zip(*course[name], strict=True),
                label=name,
                color=colormaps["turbo"](0.08 + 0.84 * k / max(len(names) - 1, 1)),
                linewidth=1.2,
                linestyle="--" if k >= len(names) / 2 else "-",
            )
    axis.set_xlabel("step")
    axis.set_ylabel(label)
    if axis.lines:
        values = [value for name in names for _, value in course.get(name, [])]
        if 0 < _WIDE * min(values) < max(values):
            axis.set_yscale("log")
        axis.legend(fontsize=6, ncols=2)


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
