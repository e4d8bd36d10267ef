"""Shots to clips of 3 to 10 s: cut where nobody speaks if there is such a place near, without overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from avatar.data.curation.ingest import SCHEMA_OF_SOURCES
from avatar.data.manifest import SCHEMA, clip_id, table_from_rows
from avatar.types import DEFAULT_FPS

_SLACK = 0.15  # of the longest clip: how far a cut may move to reach a pause
_PASSED_ON = "source_sha256 rotation_deg source_fps is_vfr sample_rate_hz n_channels media_bytes".split()

CLIP_COLUMNS = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("source_key", pa.string()),
        *(
            SCHEMA.field(name)
            for name in [
                *(f.name for f in SCHEMA_OF_SOURCES if f.name in SCHEMA.names),
                *_PASSED_ON,
                *"start_s end_s duration_s fps n_frames width_px height_px media_uri".split(),
            ]
        ),
        pa.field("source_error", pa.string(), metadata={"doc": "stage and words; such a source has one row"}),
    ]
)


def segment(sources: pa.Table, max_s: float) -> pa.Table:
    """The clips table; a shot that is too short for a clip stays one, for a limit to reject.

    Args:
        sources: with the columns of the probe and the shots, and `source_error`.
        max_s: the longest clip.

    Returns:
        One row per clip, by source and time. A source that could not be read is one row without a window.
    """
    rows: list[dict[str, Any]] = []
    copies: dict[tuple[str, float, float], int] = {}
    for source in sources.to_pylist():
        base = {name: source.get(name) for name in CLIP_COLUMNS.names}
        if source["source_error"]:
            rows.append({**base, "clip_id": source["source_key"]})
            continue
        windows = list(_windows(source, max_s))
        if not windows:
            words = "shots: nothing but transitions, no shot is long enough to be looked at"
            rows.append({**base, "clip_id": source["source_key"], "source_error": words})
        base.update(_size(source))
        for start_s, end_s in windows:
            content = (source["source_sha256"], start_s, end_s)
            copy = copies[content] = copies.get(content, -1) + 1
            rows.append(
                {
                    **base,
                    "clip_id": clip_id(source["source_sha256"], start_s, end_s, copy),
                    "start_s": start_s,
                    "end_s": end_s,
                    "duration_s": round(end_s - start_s, 6),
                    "fps": DEFAULT_FPS,
                    "n_frames": round((end_s - start_s) * DEFAULT_FPS),
                    "media_uri": source["source_uri"],
                }
            )
    return table_from_rows(rows, CLIP_COLUMNS)


def cut_points(start_s: float, end_s: float, pauses_s: Sequence[float], max_s: float) -> list[float]:
    """Where to cut a shot so that no piece is longer than `max_s`: evenly, each moved to a pause that is near.

    Args:
        start_s, end_s: the shot, on the frame grid.
        pauses_s: middles of pauses.
        max_s: the longest piece.

    Returns:
        The inner cuts, rising, on the frame grid.
    """
    count = math.ceil((end_s - start_s) / max_s - 1e-9)
    if count < 2:
        return []
    cuts: list[float] = []
    pauses = np.asarray(pauses_s)
    before = start_s
    for k in range(1, count):
        ideal = before + (end_s - before) / (count - k + 1)
        # what follows must fit into the pieces that are left, and this piece into max_s
        low = max(end_s - (count - k) * max_s, ideal - _SLACK * max_s)
        high = min(before + max_s, ideal + _SLACK * max_s)
        near = pauses[(pauses >= low) & (pauses <= high)]
        chosen = float(near[np.argmin(np.abs(near - ideal))]) if len(near) else ideal
        before = _on_grid(chosen, low, high)
        cuts.append(before)
    return cuts


def _on_grid(at_s: float, low: float, high: float) -> float:
    """The nearest frame inside [low, high]."""
    frame = round(at_s * DEFAULT_FPS)
    frame = min(max(frame, math.ceil(low * DEFAULT_FPS - 1e-6)), math.floor(high * DEFAULT_FPS + 1e-6))
    return frame / DEFAULT_FPS


def _windows(source: Mapping[str, Any], max_s: float) -> Iterator[tuple[float, float]]:
    for first, last in zip(source["shot_first_frames"], source["shot_last_frames"], strict=True):
        start_s, end_s = first / DEFAULT_FPS, last / DEFAULT_FPS
        edges = [start_s, *cut_points(start_s, end_s, source["pauses_s"] or [], max_s), end_s]
        yield from zip(edges, edges[1:], strict=False)


def _size(source: Mapping[str, Any]) -> dict[str, int]:
    """Width and height of the clip's picture; a crop is brought inside of it."""
    width, height = source["width_px"], source["height_px"]
    if source.get("crop_left_px") is None:
        return {"width_px": width, "height_px": height}
    left, right = max(source["crop_left_px"], 0), min(source["crop_right_px"], width)
    top, bottom = max(source["crop_top_px"], 0), min(source["crop_bottom_px"], height)
    sides = {"crop_left_px": left, "crop_top_px": top, "crop_right_px": right, "crop_bottom_px": bottom}
    return {**sides, "width_px": right - left, "height_px": bottom - top}
