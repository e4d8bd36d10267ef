"""Results and the key to a folder with the report: everything the analysis does, in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avatar.errors import OutputError
from avatar.study.analysis.agreement import agreement
from avatar.study.analysis.compare import friedman, pairwise
from avatar.study.analysis.describe import break_down, describe, gaps
from avatar.study.analysis.metrics import correlations, read_metrics
from avatar.study.analysis.mixed import MixedFit, mixed_pairs
from avatar.study.analysis.order import order_effects
from avatar.study.analysis.screening import screen
from avatar.study.analysis.table import GROUP_PREFIX, rated, ratings_table, require_study_packages
from avatar.study.analysis.verdict import (
    Verdict,
    friedman_words,
    metric_words,
    order_words,
    robustness,
    verdicts,
)
from avatar.study.formats import Key, read_key
from avatar.study.results import Session, read_sessions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Findings:
    """The tests on one set of raters.

    Attributes:
        described, omnibus, pairs, mixed: tables, see `describe`, `friedman`, `pairwise`, `mixed_pairs`.
        fits: the models by scale.
        verdicts: for each pair and scale.
    """

    described: pd.DataFrame
    omnibus: pd.DataFrame
    pairs: pd.DataFrame
    mixed: pd.DataFrame
    fits: Mapping[str, MixedFit]
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Analysis:
    """All that was found.

    Attributes:
        key: of the study.
        table: everything that was answered; kept: without the raters left out.
        screened: see `screening.screen`.
        findings: after the screening; everybody: before.
        agreement, order: after the screening.
        breakdown, gaps: by language, group and culture; may be empty.
        metrics: correlations; None where no metrics were given.
        sentences: what follows, the most important first.
    """

    key: Key
    table: pd.DataFrame
    kept: pd.DataFrame
    screened: pd.DataFrame
    findings: Findings
    everybody: Findings
    agreement: pd.DataFrame
    order: pd.DataFrame
    breakdown: pd.DataFrame
    gaps: pd.DataFrame
    metrics: pd.DataFrame | None
    sentences: Sequence[str]


def analyze_study(
    results: Sequence[str | Path],
    key: str | Path,
    out: str | Path | None = None,
    *,
    metrics: str | Path | None = None,
    seed: int = 0,
) -> Analysis:
    """From files to the report.

    Args:
        results: session files (.json), tables (.csv), or folders of either.
        key: the key file of the export.
        out: folder for index.html, the CSV tables and table.tex; made if absent; None writes nothing.
        metrics: CSV table of automatic metrics, see `read_metrics`.
        seed: of the bootstrap.

    Raises:
        InputError: results, key or metrics cannot be read or do not belong together.
        MissingDependencyError: the extra `study` is not installed.
        OutputError: the folder cannot be written.
    """
    require_study_packages()
    known = read_key(Path(key))
    analysis = analyze_sessions(read_sessions(results), known, metrics=metrics, seed=seed)
    if out is not None:
        from avatar.study.analysis.report import write_report

        write_report(analysis, _made(Path(out)))
    return analysis


def analyze_sessions(
    sessions: Sequence[Session], key: Key, *, metrics: str | Path | None = None, seed: int = 0
) -> Analysis:
    """The same from sessions in memory; writes nothing."""
    import pandas as pd

    require_study_packages()
    table = ratings_table(sessions, key)
    screened = screen(table)
    left_out = set(screened[screened["reasons"] != ""]["rater"])
    kept = table[~table["rater"].isin(left_out)]
    if rated(kept).empty:  # nobody would be left: then nobody can be called careless by comparison
        kept, left_out = table, set()
    everybody = _find(table, key, seed)
    findings = _find(kept, key, seed) if left_out else everybody
    columns = ["language", *(name for name in table.columns if name.startswith(GROUP_PREFIX)), "culture"]
    broken = [break_down(rated(kept), name, seed) for name in columns if table[name].fillna("").nunique() > 1]
    breakdown = pd.concat(broken, ignore_index=True) if broken else pd.DataFrame()
    order = order_effects(kept)
    related = correlations(rated(kept), read_metrics(metrics, key), seed) if metrics is not None else None
    sentences = [
        *(verdict.sentence for verdict in findings.verdicts),
        *(friedman_words(row) for row in findings.omnibus.itertuples()),
        robustness(findings.verdicts, everybody.verdicts, len(left_out)),
        *order_words(order),
        *(metric_words(related) if related is not None else ()),
    ]
    return Analysis(
        key=key,
        table=table,
        kept=kept,
        screened=screened,
        findings=findings,
        everybody=everybody,
        agreement=agreement(kept),
        order=order,
        breakdown=breakdown,
        gaps=gaps(breakdown),
        metrics=related,
        sentences=sentences,
    )


def _find(table: pd.DataFrame, key: Key, seed: int) -> Findings:
    part = rated(table)
    systems = [system for system in key.systems if (part["system"] == system).any()]
    pairs = pairwise(part, systems, seed)
    mixed, fits = mixed_pairs(part, systems)
    return Findings(
        described=describe(part, seed),
        omnibus=friedman(part, systems),
        pairs=pairs,
        mixed=mixed,
        fits=fits,
        verdicts=verdicts(pairs, mixed, key.systems),
    )


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as err:
        raise OutputError(f"the folder {folder} cannot be made: {err.strerror or err}; name another") from err
    return folder
