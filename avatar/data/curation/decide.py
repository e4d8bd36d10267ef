"""Scores to a decision: duplicates among what is left, `keep`, and the reasons of everything that is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from avatar import __version__
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.dedup import default_quality, find_duplicates
from avatar.data.curation.limits import Limit
from avatar.data.curation.scoring import DONE, FAILED
from avatar.data.manifest import join_sidecars

_DUPLICATE_COLUMNS = ("dup_group", "dup_is_best", "dup_sim")


def decide(table: pa.Table, config: CurationConfig, expected: Sequence[str]) -> pa.Table:
    """Fills keep, reject_reasons, stage_errors, pipeline_version and config_hash.

    Args:
        table: clips joined with all sidecars (`scoring.joined`).
        config: whose limits apply.
        expected: scorers that a kept clip must have been through.

    Returns:
        The same rows in the same order.
    """
    reasons = reject_reasons(table, config.limits, expected)
    errors = [dict(failed) for failed in table.column(FAILED).to_pylist()]
    for row, words in enumerate(table.column("source_error").to_pylist()):
        if words:
            stage, _, what = words.partition(": ")
            errors[row] = {stage: what}
    filled = {
        "keep": pa.array([not listed for listed in reasons], pa.bool_()),
        "reject_reasons": pa.array(reasons, pa.list_(pa.string())),
        "stage_errors": pa.array([list(e.items()) or None for e in errors], pa.map_(pa.string(), pa.string())),
        "pipeline_version": pa.array([__version__] * len(table), pa.string()),
        "config_hash": pa.array([config.hash] * len(table), pa.string()),
    }
    for name, values in filled.items():
        table = table.set_column(table.column_names.index(name), table.schema.field(name), values)
    return table


def reject_reasons(table: pa.Table, limits: Sequence[Limit], expected: Sequence[str] = ()) -> list[list[str]]:
    """Why each row is rejected; [] where it is kept. In the order: what failed, limits, what was never measured."""
    reasons: list[list[str]] = []
    sources = table.column("source_error").to_pylist()
    for source, failed in zip(sources, table.column(FAILED).to_pylist(), strict=True):
        names = [source.partition(": ")[0]] if source else [name for name, _ in failed]
        reasons.append([f"error:{name}" for name in names])
    readable = np.array([not source for source in sources], bool)
    masks = {limit.reason: limit.mask(table) for limit in limits}
    for limit in limits:
        moot = np.logical_or.reduce([masks[other] for other in limit.unless if other in masks] or [~readable])
        for row in np.flatnonzero(masks[limit.reason] & readable & ~moot):
            reasons[row].append(limit.reason)
    for row, done in enumerate(table.column(DONE).to_pylist()):
        missing = [name for name in expected if name not in done]
        if missing and not reasons[row]:
            reasons[row].append(f"unmeasured:{missing[0]}")
    return reasons


def with_duplicates(table: pa.Table, limits: Sequence[Limit], cache: Path | None = None) -> pa.Table:
    """Fills the duplicate columns; the best of a group is one that nothing else rejects, where there is one.

    Args:
        table: as for `decide`.
        limits: of the configuration.
        cache: of `find_duplicates`.
    """
    others = [limit for limit in limits if limit.column not in _DUPLICATE_COLUMNS]
    rejected = reject_reasons(table, others)
    kept = {clip for clip, listed in zip(table.column("clip_id").to_pylist(), rejected, strict=True) if not listed}
    found = find_duplicates(table, lambda row: (float(row["clip_id"] in kept), *default_quality(row)), cache)
    plain = table.drop_columns([name for name in _DUPLICATE_COLUMNS if name in table.column_names])
    return join_sidecars(plain, [found])
