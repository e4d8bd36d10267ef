"""Clips to train, val and test, so that no person, no source and no near copy is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from avatar.data.curation.groups import joined

SPLITS = ("train", "val", "test")
_COLUMNS = ("clip_id", "source_id", "source_sha256", "identity", "dup_group")


def with_splits(table: pa.Table, val: float, test: float, seed: int) -> pa.Table:
    """Fills `split`.

    Clips that share a source, an identity or a group of duplicates, directly or through others, go together. Which way a
    group goes depends on the seed and its smallest content checksum alone: new clips elsewhere change nothing.

    Args:
        table: clips.
        val, test: shares of the groups; the rest is for training.
        seed: another one is another split.
    """
    rows = table.select(_COLUMNS).to_pylist()
    groups = joined((next(_ties(row)), other) for row in rows for other in _ties(row))
    least: dict[str, str] = {}
    for row in rows:
        group, content = groups[next(_ties(row))], row["source_sha256"] or row["clip_id"]
        least[group] = min(least.get(group, content), content)
    splits = [_split_of(least[groups[next(_ties(row))]], val, test, seed) for row in rows]
    return table.set_column(table.column_names.index("split"), "split", pa.array(splits, pa.string()))


def _ties(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"source|{row['source_id']}"
    yield f"content|{row['source_sha256'] or row['clip_id']}"
    if row["identity"]:
        yield f"identity|{row['identity']}"
    if row["dup_group"]:
        yield f"copies|{row['dup_group']}"


def _split_of(content: str, val: float, test: float, seed: int) -> str:
    share = int(hashlib.sha256(f"{seed}|{content}".encode()).hexdigest()[:12], 16) / 16**12
    return "test" if share < test else "val" if share < test + val else "train"
