"""HDTF (Zhang et al. 2021): 362 talking-face videos, given as lists of addresses, times and crops.

Layout: https://github.com/MRzzm/HDTF, README.md: `HDTF_dataset/*_annotion_time.txt` (their spelling), `*_crop_wh.txt`, and
either the whole videos (`AnnWagner.mp4`) or clips cut at those times (`AnnWagner_0.mp4`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import needed_file, seconds, videos_by_stem
from avatar.errors import MediaError
from avatar.media import probe_video
from avatar.types import BBox


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of the listed clips that are on disk, whole videos by their windows and crops."""
    needed_file(root, "*_annotion_time.txt", "HDTF's lists of times")
    found = videos_by_stem(root)
    crops = {parts[0]: [float(value) for value in parts[1:5]] for parts in _lines(root, "*_crop_wh.txt")}
    for name, *windows in _lines(root, "*_annotion_time.txt"):
        stem = Path(name).stem
        for index, window in enumerate(windows):
            clip = f"{stem}_{index}"
            declared = {"identity": f"hdtf/{_person(stem)}"}
            if clip in found:
                yield SourceRecord(clip, found[clip], declared=declared)
            elif stem in found:
                start_s, end_s = (seconds(stamp) for stamp in window.split("-"))
                crop = _crop(crops.get(f"{clip}.mp4"), found[stem])
                yield SourceRecord(clip, found[stem], start_s, end_s, crop, declared=declared)


def _lines(root: Path, pattern: str) -> Iterator[list[str]]:
    for path in sorted(root.rglob(pattern)):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.split():
                yield line.split()


def _person(stem: str) -> str:
    """AdamKinzinger0 and AdamKinzinger1 are one person; so, to be safe, are all Radio videos, which name nobody."""
    return re.sub(r"\d+$", "", stem)


def _crop(values: list[float] | None, path: Path) -> BBox | None:
    """min x, width, min y, height of the video at its highest definition; None where the one on disk is smaller."""
    if values is None:
        return None
    left, width, top, height = values
    try:
        info = probe_video(path)
    except MediaError:  # curation says what is wrong with the file
        return None
    fits = left + width <= info.width and top + height <= info.height
    return BBox(left, top, left + width, top + height) if fits else None
