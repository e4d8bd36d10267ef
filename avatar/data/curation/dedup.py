"""Global stage: finds near copies among all clips, groups them, and says which of each group is the best.

Candidates share a key (dedup_candidates.py), each pair is compared (dedup_compare.py), copies of copies are one group.
The result does not depend on the order of the rows, and running it on its own result changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from avatar.data.curation.dedup_candidates import candidate_pairs
from avatar.data.curation.dedup_compare import Prints, compare
from avatar.data.curation.groups import joined
from avatar.data.manifest import columns

PRINT_COLUMNS = ("phash8", "phash_crops", "motion_fp", "audio_fp", "embedding")
QUALITY_COLUMNS = ("width_px", "height_px", "media_bytes", "aes_score", "duration_s")
COLUMNS = pa.schema([pa.field("clip_id", pa.string()), *columns("dup_group", "dup_is_best", "dup_sim")])

Quality = Callable[[Mapping[str, Any]], tuple[float, ...]]


def default_quality(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Higher is better: the larger picture, then more bytes (encoded less hard), better looking, longer."""
    side = min(row.get("width_px") or 0, row.get("height_px") or 0)
    return tuple(
        float(v) for v in (side, row.get("media_bytes") or 0, row.get("aes_score") or 0.0, row.get("duration_s") or 0.0)
    )


def find_duplicates(table: pa.Table, quality: Quality = default_quality) -> pa.Table:
    """Groups near copies.

    Args:
        table: clips: clip_id, any of PRINT_COLUMNS, and what `quality` reads. Rows without prints are alone.
        quality: what the best of a group has most of; ties go to the smallest clip_id.

    Returns:
        clip_id in the order of the table; dup_group (the smallest clip_id of the group, null where alone), dup_is_best
        (true where alone) and dup_sim, the likeness to the best of the group in [0, 1] (1 for itself, null where alone).
    """
    wanted = ["clip_id", *(name for name in (*PRINT_COLUMNS, *QUALITY_COLUMNS) if name in table.column_names)]
    ordered = table.select(wanted).sort_by("clip_id")
    ids = ordered.column("clip_id").to_pylist()
    pairs = candidate_pairs(ordered)
    needed = sorted({int(row) for pair in pairs for row in pair})
    rows = dict(zip(needed, ordered.take(needed).to_pylist(), strict=True)) if needed else {}
    prints = {row: Prints.of_row(values) for row, values in rows.items()}
    copies = [(int(a), int(b)) for a, b in pairs if compare(prints[int(a)], prints[int(b)]).is_copy]
    found: dict[str, dict[str, Any]] = {}
    for members in _connected(copies):
        best = max(members, key=lambda row: (quality(rows[row]), -row))
        for row in members:
            similarity = 1.0 if row == best else compare(prints[row], prints[best]).similarity
            found[ids[row]] = {"dup_group": ids[members[0]], "dup_is_best": row == best, "dup_sim": similarity}
    alone = {"dup_group": None, "dup_is_best": True, "dup_sim": None}
    listed = [{"clip_id": clip, **found.get(clip, alone)} for clip in table.column("clip_id").to_pylist()]
    return pa.Table.from_pylist(listed, schema=COLUMNS)


def _connected(edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The groups that edges join, each sorted."""
    groups = defaultdict(list)
    for node, least in joined(edges).items():
        groups[least].append(node)
    return [sorted(members) for _, members in sorted(groups.items())]
