"""Koala-36M (Wang et al. 2024): captions, scores and times of 36 million clips, given as lists of addresses.

Layout: `Koala_36M_1.csv` … with the columns videoID, url, timestamp, …, and either the whole videos named by their address
(`xED6jYxWaGg.mp4`) or the clips named by videoID (`xED6jYxWaGg_26.mp4`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import needed_file, seconds, table_rows, videos_by_stem
from avatar.errors import MediaError


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of the listed clips that are on disk; it declares no labels."""
    needed_file(root, "Koala_36M*.csv", "Koala-36M's lists")
    found = videos_by_stem(root)
    for path in sorted(root.rglob("Koala_36M*.csv")):
        for row in table_rows(path):
            clip = row.get("videoID", "")
            video = clip.rpartition("_")[0]
            if clip in found:
                yield SourceRecord(clip, found[clip])
            elif video in found:
                start_s, end_s = _window(row.get("timestamp", ""), path)
                yield SourceRecord(clip, found[video], start_s, end_s)


def _window(text: str, path: Path) -> tuple[float, float]:
    """ "['0:00:01.100', '0:00:04.200']" in seconds."""
    try:
        start, end = ast.literal_eval(text)
        return seconds(start), seconds(end)
    except (ValueError, SyntaxError, TypeError) as err:
        raise MediaError(f"{path}: the timestamp {text!r} is not a pair of times; download the list again") from err
