"""Global stage: finds near copies among all clips, groups them, and says which of each group is the best.

Candidates share a key (dedup_candidates.py), each pair is compared (dedup_compare.py), copies of copies are one group.
The result does not depend on the order of the rows, and running it on its own result changes nothing.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from avatar.data.curation.dedup_candidates import candidate_pairs
from avatar.data.curation.dedup_compare import Prints, are_copies, compare
from avatar.data.curation.groups import joined
from avatar.data.manifest import columns, read_table, write_table

VERSION = "2"  # changes when other pairs may be copies
PRINT_COLUMNS = ("phash8", "phash_crops", "motion_fp", "audio_fp", "embedding")
QUALITY_COLUMNS = ("width_px", "height_px", "media_bytes", "aes_score", "duration_s")
COLUMNS = pa.schema([pa.field("clip_id", pa.string()), *columns("dup_group", "dup_is_best", "dup_sim")])

_BATCH_ROWS = 65_536

Quality = Callable[[Mapping[str, Any]], tuple[float, ...]]


def default_quality(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Higher is better: the larger picture, then more bytes (encoded less hard), better looking, longer."""
    side = min(row.get("width_px") or 0, row.get("height_px") or 0)
    return tuple(
        float(v) for v in (side, row.get("media_bytes") or 0, row.get("aes_score") or 0.0, row.get("duration_s") or 0.0)
    )


def find_duplicates(table: pa.Table, quality: Quality = default_quality, cache: Path | None = None) -> pa.Table:
    """Groups near copies.

    Args:
        table: clips: clip_id, any of PRINT_COLUMNS, and what `quality` reads. Rows without prints are alone.
        quality: what the best of a group has most of; ties go to the smallest clip_id.
        cache: a folder that keeps which clips are copies of which: it is what takes long, and depends on prints alone.

    Returns:
        clip_id in the order of the table; dup_group (the smallest clip_id of the group, null where alone), dup_is_best
        (true where it is a copy of no better one that stays: of two neighbours, joined by a third that overlaps both, both
        stay) and dup_sim, the likeness to the one that stays, in [0, 1] (1 for itself, null where alone).
    """
    wanted = ["clip_id", *(name for name in (*PRINT_COLUMNS, *QUALITY_COLUMNS) if name in table.column_names)]
    ordered = table.select(wanted).sort_by("clip_id")
    ids = ordered.column("clip_id").to_pylist()
    copies = _copies(ordered, cache)
    rows = _rows(ordered, {row for pair in copies for row in pair})
    prints = {row: Prints.of_row(values) for row, values in rows.items()}
    found: dict[str, dict[str, Any]] = {}
    for members in _connected(copies):
        kept: list[int] = []
        for row in sorted(members, key=lambda row: (quality(rows[row]), -row), reverse=True):
            better = [one for one in kept if are_copies(prints[row], prints[one])]
            similarity = max((compare(prints[row], prints[one]).similarity for one in better), default=1.0)
            found[ids[row]] = {"dup_group": ids[members[0]], "dup_is_best": not better, "dup_sim": similarity}
            if not better:
                kept.append(row)
    alone = {"dup_group": None, "dup_is_best": True, "dup_sim": None}
    listed = [{"clip_id": clip, **found.get(clip, alone)} for clip in table.column("clip_id").to_pylist()]
    return pa.Table.from_pylist(listed, schema=COLUMNS)


def _copies(ordered: pa.Table, cache: Path | None) -> list[tuple[int, int]]:
    """Pairs of rows that are copies, from the cache where it has them."""
    known = None if cache is None else cache / f"pairs-{_digest(ordered)}.parquet"
    if known is not None and known.exists():
        table = read_table(known)
        return list(zip(table.column("first").to_pylist(), table.column("second").to_pylist(), strict=True))
    pairs = candidate_pairs(ordered).tolist()
    prints = {
        row: Prints.of_row(values) for row, values in _rows(ordered, {row for pair in pairs for row in pair}).items()
    }
    copies = [(first, second) for first, second in pairs if are_copies(prints[first], prints[second])]
    if known is not None:
        for path in known.parent.glob("pairs-*.parquet"):
            path.unlink()
        listed = [{"first": first, "second": second} for first, second in copies]
        write_table(known, pa.Table.from_pylist(listed, pa.schema([("first", pa.int64()), ("second", pa.int64())])))
    return copies


def _rows(table: pa.Table, numbers: set[int]) -> dict[int, dict[str, Any]]:
    chosen = sorted(numbers)
    return dict(zip(chosen, table.take(chosen).to_pylist(), strict=True)) if chosen else {}


def _digest(ordered: pa.Table) -> str:
    """Of all that says which clips are copies, and of how that is decided."""
    sink = _Hashing()
    table = ordered.select([name for name in ordered.column_names if name == "clip_id" or name in PRINT_COLUMNS])
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), table.schema) as stream:
        stream.write_table(table.combine_chunks(), max_chunksize=_BATCH_ROWS)
    return hashlib.sha256(sink.digest.digest() + VERSION.encode()).hexdigest()[:16]


class _Hashing(io.RawIOBase):
    """A file that keeps nothing but the checksum of what is written into it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return len(content)


def _connected(edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The groups that edges join, each sorted."""
    groups = defaultdict(list)
    for node, least in joined(edges).items():
        groups[least].append(node)
    return [sorted(members) for _, members in sorted(groups.items())]
