"""An analysis to files: a page that needs nothing else, CSV tables, a LaTeX table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatar import __version__
from avatar.errors import OutputError
from avatar.study.analysis.describe import NUM_BOOTSTRAP
from avatar.study.analysis.figures import means_figure, pairs_figure, raters_figure, scores_figure
from avatar.study.analysis.latex import latex_table
from avatar.study.analysis.table import GROUP_PREFIX, rated
from avatar.study.formats import SCALES

if TYPE_CHECKING:
    import pandas as pd

    from avatar.study.analysis.run import Analysis

Cell = Callable[[Any], str]
_P_COLUMNS = ("p", "p_holm")
_COUNTS = "n raters items answers traps traps_failed repeats points".split()


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Writes index.html, table.tex and a CSV table for each part of the analysis.

    Returns:
        The files.

    Raises:
        OutputError: one cannot be written.
    """
    kept = int(rated(analysis.kept)["rater"].nunique())
    tex = latex_table(analysis.findings.described, analysis.key.systems, analysis.key.real, kept)
    texts = {"index.html": report_page(analysis, tex), "table.tex": tex}
    texts |= {f"{name}.csv": table.to_csv(index=False, lineterminator="\n") for name, table in tables(analysis).items()}
    written = []
    for name, text in texts.items():
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError as err:
            raise OutputError(f"{folder / name} cannot be written: {err.strerror or err}; name another folder") from err
        written.append(folder / name)
    return written


def tables(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """All tables that have rows, by the name of their file; those before the screening end in `_everybody`."""
    found = {
        "ratings": analysis.table,
        "means": analysis.findings.described,
        "friedman": analysis.findings.omnibus,
        "pairs": analysis.findings.pairs,
        "mixed_model": analysis.findings.mixed,
        "means_everybody": analysis.everybody.described,
        "pairs_everybody": analysis.everybody.pairs,
        "mixed_model_everybody": analysis.everybody.mixed,
        "raters": analysis.screened,
        "agreement": analysis.agreement,
        "order": analysis.order,
        "breakdown": analysis.breakdown,
        "gaps": analysis.gaps,
        "metrics": analysis.metrics,
    }
    return {name: table for name, table in found.items() if table is not None and len(table)}


def report_page(analysis: Analysis, tex: str) -> str:
    """The page, with its pictures inside."""
    import jinja2

    labels = analysis.key.systems
    source = files("avatar.study.analysis").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    findings = analysis.findings
    left_out = analysis.screened[analysis.screened["reasons"] != ""]
    spreads = [
        {"scale": scale, **{name: f"{value:.2f}" for name, value in fit.spreads.items()}}
        for scale, fit in findings.fits.items()
    ]
    return environment.from_string(source).render(
        study=analysis.key.study_id,
        version=analysis.key.study_version,
        tool=__version__,
        scales=SCALES,
        labels=labels,
        real=analysis.key.real,
        num_bootstrap=NUM_BOOTSTRAP,
        num_raters=analysis.table["rater"].nunique(),
        num_kept=analysis.kept["rater"].nunique(),
        num_ratings=len(rated(analysis.kept)),
        verdicts=findings.verdicts,
        sentences=analysis.sentences[len(findings.verdicts) :],
        left_out=left_out.to_dict("records"),
        means=_cells(findings.described, labels),
        means_everybody=_cells(analysis.everybody.described, labels) if len(left_out) else None,
        omnibus=_cells(findings.omnibus, labels),
        pairs=_cells(findings.pairs, labels),
        mixed=_cells(findings.mixed, labels),
        pairs_everybody=_cells(analysis.everybody.pairs, labels) if len(left_out) else None,
        spreads=spreads,
        agreement=_cells(analysis.agreement, labels),
        raters=_cells(analysis.screened, labels),
        order=_cells(analysis.order, labels),
        breakdown=_cells(analysis.breakdown, labels),
        gaps=_cells(analysis.gaps, labels),
        metrics=_cells(analysis.metrics, labels) if analysis.metrics is not None else None,
        tex=tex,
        figures={
            "means": means_figure(findings.described, labels),
            "pairs": pairs_figure(findings.mixed, labels) if len(findings.mixed) else "",
            "scores": scores_figure(analysis.kept, labels),
            "raters": raters_figure(analysis.screened),
        },
    )


def _cells(table: pd.DataFrame, labels: Mapping[str, str]) -> dict[str, list[Any]]:
    """A table's heads, and its rows as texts."""
    names = list(table.columns)
    rows = [
        [_cell(name, value, labels) for name, value in zip(names, row, strict=True)] for row in table.to_numpy(object)
    ]
    return {"heads": [name.replace("_", " ") for name in names], "rows": rows}


def _cell(name: str, value: Any, labels: Mapping[str, str]) -> str:
    if name in ("system", "one", "other"):
        return labels.get(value, str(value))
    if name == "group":
        return {"language": "language of the item", "culture": "culture of the rater"}.get(
            value, value.removeprefix(GROUP_PREFIX)
        )
    if isinstance(value, bool):
        return "yes" if value else ""
    if name in _COUNTS:
        return f"{int(value)}"
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        return ("< 0.001" if value < 0.001 else f"{value:.3f}") if name in _P_COLUMNS else f"{value:.2f}"
    return str(value)
