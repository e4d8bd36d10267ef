"""Clips to small pictures inside the page: the middle frame, as JPEG in a data URI."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from avatar.data.curation.limits import Limit
from avatar.errors import AvatarError
from avatar.media.video import read_video_frames
from avatar.types import DEFAULT_FPS

SIDE_PX = 176
_QUALITY = 72

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Thumbnail:
    """One clip in the page.

    Attributes:
        clip_id: the clip.
        source_id: the video it is from.
        uri: the picture; None where it cannot be read.
        words: what is said below it.
    """

    clip_id: str
    source_id: str
    uri: str | None
    words: str


def evenly_chosen(rows: Sequence[Row], count: int) -> list[Row]:
    """Some rows, evenly spaced in their order: the same ones each time."""
    places = dict.fromkeys(int(i) for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round())
    return [rows[i] for i in places]


def thumbnail(row: Row, limit: Limit | None) -> Thumbnail:
    """A clip's picture, and the value that a limit rejected it for."""
    window = f"{row['start_s']:.1f} to {row['end_s']:.1f} s" if row.get("end_s") is not None else ""
    words = limit.words(row) if limit is not None else window
    if limit is not None and limit.column == "dup_is_best":
        words = f"{window}, of the group {row['dup_group']}, likeness to the one that stays {row['dup_sim']:.2f}"
    return Thumbnail(str(row["clip_id"]), str(row.get("source_id") or ""), _uri(row), words)


def _uri(row: Row) -> str | None:
    if row.get("source_uri") is None or row.get("end_s") is None:
        return None
    index = round((row["start_s"] + row["end_s"]) / 2 * DEFAULT_FPS)
    try:
        held = read_video_frames(row["source_uri"], [index])
    except AvatarError:  # the page says that there is no picture
        return None
    if index not in held:
        return None
    frame, left = held[index], row.get("crop_left_px")
    if left is not None:
        frame = frame[max(row["crop_top_px"], 0) : row["crop_bottom_px"], max(left, 0) : row["crop_right_px"]]
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((SIDE_PX, SIDE_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
