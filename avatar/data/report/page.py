"""Figures and thumbnails to the page: one HTML file without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from avatar.data.curation.folder import CurationFolder
from avatar.data.curation.limits import Limit, parse_limits
from avatar.data.manifest import SCHEMA, read_manifest
from avatar.data.report import figures
from avatar.data.report.figures import Histogram, Row, Share, Total
from avatar.data.report.thumbnails import Thumbnail, evenly_chosen, thumbnail
from avatar.errors import MissingDependencyError
from avatar.media.output import staged

NUM_KEPT_SHOWN, NUM_REJECTED_SHOWN = 12, 6
_NOT_READ = {"phash8", "phash_crops", "motion_fp", "audio_fp", "embedding", "transcript"}
_LABELS = {"age_group": "age", "ethnicity": "ethnicity", "language": "language", "sex": "sex", "emotion": "emotion"}
_PLOT = (360, 120)  # px of a histogram's bars


@dataclass(frozen=True)
class Gallery:
    """Clips of one reason, or the kept ones."""

    title: str
    count: int
    thumbnails: list[Thumbnail]


@dataclass(frozen=True)
class Plot:
    """A histogram as SVG coordinates: bars (x, y, width, height) of kept and rejected clips, and lines (x, words)."""

    histogram: Histogram
    width: int
    height: int
    kept: list[tuple[float, float, float, float]]
    rejected: list[tuple[float, float, float, float]]
    lines: list[tuple[float, str]]
    words: str


def write_report(out: str | Path) -> Path:
    """Writes `report.html` into an output folder.

    Args:
        out: the output folder of a curation.

    Returns:
        The page's path; it appears whole.

    Raises:
        MediaError: there is no manifest, or no configuration of the run.
        MissingDependencyError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError as err:
        raise MissingDependencyError('the report is made with Jinja; pip install "avatar[curate]"') from err
    folder = CurationFolder(out)
    table = read_manifest(folder.manifest)
    rows = table.select([name for name in table.column_names if name not in _NOT_READ]).to_pylist()
    limits = parse_limits(folder.read_settings()["limits"])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("avatar.data.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"hours": _hours, "duration": _duration, "count": lambda n: f"{n:,}", "plain": _plain}
    page = environment.get_template("page.html.jinja").render(**_content(rows, limits, folder))
    with staged(folder.report, overwrite=True) as name:
        Path(name).write_text(page, encoding="utf-8")
    return folder.report


def _content(rows: list[Row], limits: tuple[Limit, ...], folder: CurationFolder) -> dict[str, Any]:
    steps = figures.funnel(rows, limits)
    balances = {_LABELS[name]: figures.balance(rows, name) for name in figures.BALANCED}
    opinions = {name: figures.apparent(rows, column) for name, column in figures.APPARENT.items()}
    splits = {
        name: Total.of(r for r in rows if r["keep"] and r.get("split") == name) for name in ("train", "val", "test")
    }
    return {
        "seen": Total.of(rows),
        "kept": Total.of(row for row in rows if row["keep"]),
        "sources": len({row["source_id"] for row in rows}),
        "steps": steps,
        "plots": [_plot(one) for one in figures.histograms(rows, limits)],
        "galleries": _galleries(rows, limits),
        "balances": {name: shares for name, shares in balances.items() if _says_something(shares)},
        "undeclared": [name for name, shares in balances.items() if not _says_something(shares)],
        "opinions": {name: found for name, found in opinions.items() if found},
        "smallest": figures.SMALLEST_CELL,
        "splits": splits,
        "times": figures.stage_times(folder.root / "sidecars"),
        "conflicts": sum(row.get("caption_check") == "conflict" for row in rows),
        "checked": sum(row.get("caption_check") in ("conflict", "consistent") for row in rows),
        "backends": _backends(rows),
        "config_hash": next((row["config_hash"] for row in rows), ""),
        "version": next((row["pipeline_version"] for row in rows), ""),
    }


def _says_something(shares: list[Share]) -> bool:
    return any(share.value != figures.UNDECLARED for share in shares)


def _galleries(rows: list[Row], limits: tuple[Limit, ...]) -> list[Gallery]:
    """The kept clips, then those of each reason, in the order of the funnel."""
    by_name = {limit.reason: limit for limit in limits}
    kept = [row for row in rows if row["keep"]]
    shown = [thumbnail(row, None) for row in evenly_chosen(kept, NUM_KEPT_SHOWN)]
    galleries = [Gallery("kept", len(kept), shown)]
    for step in figures.funnel(rows, limits):
        members = [row for row in rows if step.reason in (row["reject_reasons"] or ())]
        if members:
            chosen = evenly_chosen(members, NUM_REJECTED_SHOWN)
            shown = [thumbnail(row, by_name.get(step.reason)) for row in chosen]
            galleries.append(Gallery(step.reason, len(members), shown))
    return galleries


def _plot(histogram: Histogram) -> Plot:
    width, height = _PLOT
    low, high = histogram.edges[0], histogram.edges[-1]
    most = max(a + b for a, b in zip(histogram.kept, histogram.rejected, strict=True))
    step = width / len(histogram.kept)
    kept, rejected = [], []
    for i, (a, b) in enumerate(zip(histogram.kept, histogram.rejected, strict=True)):
        tall_a, tall_b = a / most * height, b / most * height
        if a:
            kept.append((i * step, height - tall_a, step - 1, tall_a))
        if b:
            rejected.append((i * step, height - tall_a - tall_b, step - 1, tall_b))
    lines = [(histogram.place(value) * width, words) for words, value in histogram.thresholds]
    count = sum(histogram.kept) + sum(histogram.rejected)
    words = f"{histogram.column} of {count} clips, {low:.3g} to {high:.3g}; thresholds: " + ", ".join(
        w for _, w in lines
    )
    return Plot(histogram, width, height, kept, rejected, lines, words)


def _backends(rows: list[Row]) -> dict[str, list[str]]:
    names = [name for name in SCHEMA.names if name.endswith("_backend") or name == "caption_model"]
    found = {name: sorted({str(row[name]) for row in rows if row.get(name)}) for name in names}
    return {name: values for name, values in found.items() if values}


def _hours(total: Total) -> str:
    return f"{total.hours:,.1f} h" if total.hours >= 1 else f"{total.hours * 60:.1f} min"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else str(timedelta(seconds=round(seconds)))


def _plain(name: str) -> str:
    return name.replace("_", " ")
