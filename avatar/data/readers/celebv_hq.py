"""CelebV-HQ (Zhu et al. 2022): 35,666 clips of 15,653 people with 83 attributes, given as a list of addresses.

Layout: https://github.com/CelebV-HQ/CelebV-HQ, README.md: `celebvhq_info.json`, and either the whole videos
(`raw/M2Ohb0FAaJU.mp4`) or the clips cut out of them (`processed/M2Ohb0FAaJU_1.mp4`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import emotion_word, needed_file, videos_by_stem
from avatar.errors import MediaError
from avatar.media import probe_video
from avatar.types import BBox

_MARGIN = 0.02  # of the picture, about the box: what the authors' own script adds


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of the listed clips that are on disk, whole videos by their windows and square crops."""
    path = needed_file(root, "celebvhq_info.json", "CelebV-HQ's annotations")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        clips, appearance = info["clips"], info["meta_info"]["appearance_mapping"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise MediaError(f"{path} is not CelebV-HQ's annotations ({err}); download it again") from err
    found = videos_by_stem(root)
    for clip, entry in sorted(clips.items()):
        declared = _labels(entry.get("attributes") or {}, appearance)
        video = str(entry["ytb_id"])
        if clip in found:
            yield SourceRecord(clip, found[clip], declared=declared)
        elif video in found:
            window, crop = entry["duration"], _crop(entry["bbox"], found[video])
            yield SourceRecord(clip, found[video], window["start_sec"], window["end_sec"], crop, declared=declared)


def _labels(attributes: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Sex as annotators saw it, and the emotion where the clip has one only."""
    flags = dict(zip(names, attributes.get("appearance") or (), strict=False))
    emotion = attributes.get("emotion") or {}
    label = emotion.get("labels")
    return {
        "sex": None if "Male" not in flags else "male" if flags["Male"] else "female",
        "emotion": emotion_word(label) if isinstance(label, str) else None,
    }


def _crop(box: dict[str, float], path: Path) -> BBox | None:
    """The square about the box; parts of the picture's sides to px."""
    try:
        info = probe_video(path)
    except MediaError:  # curation says what is wrong with the file
        return None
    top, bottom = max(box["top"] - _MARGIN, 0) * info.height, min(box["bottom"] + _MARGIN, 1) * info.height
    left, right = max(box["left"] - _MARGIN, 0) * info.width, min(box["right"] + _MARGIN, 1) * info.width
    half = min(bottom - top, right - left) // 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return BBox(round(x - half), round(y - half), round(x + half), round(y + half))
