"""A folder, read by a corpus recipe or as it is, to the table of its videos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from avatar.data.manifest import DECLARABLE, SCHEMA, SourceRecord, table_from_rows
from avatar.data.readers import folder, read_corpus
from avatar.data.readers.layout import VIDEO_SUFFIXES
from avatar.errors import MediaError, OptionError
from avatar.media import probe_video

_CROP = tuple(f"crop_{side}_px" for side in ("left", "top", "right", "bottom"))

SCHEMA_OF_SOURCES = pa.schema(
    [
        pa.field("source_key", pa.string(), metadata={"doc": "changes when the file does"}),
        *(SCHEMA.field(name) for name in ("source_id", "source_uri", "recipe", "license", "consent")),
        pa.field("window_start_s", pa.float64()),
        pa.field("window_end_s", pa.float64()),
        *(SCHEMA.field(name) for name in _CROP),
        *(SCHEMA.field(name) for name in DECLARABLE),
        pa.field("label_source", pa.string()),
    ]
)


def ingest(source: Path, recipe: str | None, skipped: Path) -> pa.Table:
    """The videos of a folder, by source_id.

    Args:
        source: the folder, or one video.
        recipe: how the corpus is laid out and what it declares; None: every video in the folder, at any depth, with
            the labels of `labels.csv` where there is one.
        skipped: the output folder, which may lie inside of the source, and not the other way round.

    Raises:
        MediaError: there is no such folder, or no video in it; or it is one file that is no video.
        OptionError: no such recipe, two records with one source_id, or the source lies in the output folder.
    """
    if not source.exists():
        raise MediaError(f"there is no folder {source}; name one with videos")
    ours = skipped.resolve()
    if ours in (source.resolve(), *source.resolve().parents):
        raise OptionError(
            f"the videos of {source} lie in the output folder {skipped}; name another folder for the results"
        )
    if source.is_file():
        probe_video(source)
        records: Iterable[SourceRecord] = [SourceRecord(source.name, source)]
    else:
        records = folder.read(source) if recipe is None else read_corpus(recipe, source)
    outside = (record for record in records if ours not in record.path.resolve().parents)
    rows = sorted((_row(record, recipe) for record in outside), key=lambda row: str(row["source_id"]))
    if not rows:
        raise MediaError(f"{source} holds no video; accepted: {', '.join(sorted(VIDEO_SUFFIXES))}")
    for row, following in zip(rows, rows[1:], strict=False):
        if row["source_id"] == following["source_id"]:
            raise OptionError(
                f"two videos are called {row['source_id']!r}; the recipe, or labels.csv, must tell them apart"
            )
    return table_from_rows(rows, SCHEMA_OF_SOURCES)


def as_text(name: str) -> str:
    """A file's name as tables hold it: bytes that are no UTF-8 become `\\xe9` and the like, so that no two names become one."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _row(record: SourceRecord, recipe: str | None) -> dict[str, object]:
    path = record.path.absolute()
    try:
        stat = path.stat()
        state = f"{stat.st_size}|{stat.st_mtime_ns}"
    except OSError:
        state = "missing"  # the probe says so
    crop = (
        None
        if record.crop is None
        else tuple(round(value) for value in (record.crop.left, record.crop.top, record.crop.right, record.crop.bottom))
    )
    key = f"{record.source_id}|{path}|{state}|{record.start_s}|{record.end_s}|{crop}"
    return {
        "source_key": hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "source_id": as_text(record.source_id),
        "source_uri": as_text(str(path)),
        "recipe": recipe,
        "license": record.license,
        "consent": record.consent,
        "window_start_s": record.start_s,
        "window_end_s": record.end_s,
        **({} if crop is None else dict(zip(_CROP, crop, strict=True))),
        **record.declared,
        "label_source": "declared" if record.declared else None,
    }
