"""The output folder of a curation: where each table is, and how the sidecars of a stage are read as one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset

from avatar.data.engines.work import sidecar_schema
from avatar.data.manifest import read_table, write_table
from avatar.errors import MediaError, OutputError
from avatar.media.output import staged

try:
    import fcntl
except ImportError:  # Windows has none; two runs at once are then the user's business
    fcntl = None  # type: ignore[assignment]


# What a run writes, and tidies up, in its folder.
_FILES = ("manifest.parquet", "sources.parquet", "clips.parquet", "config.json", "report.html")
_FOLDERS = ("work", "sidecars", "tracks", "duplicates", "shards", "captions")
_LOCK = ".curate.lock"
_OURS = (_LOCK, "sources.parquet", "clips.parquet")  # any of these: an earlier run was here


class CurationFolder:
    """Paths inside an output folder.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    @property
    def manifest(self) -> Path:
        """One row per clip: the result."""
        return self.root / "manifest.parquet"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "report.html"

    @property
    def sources(self) -> Path:
        return self.root / "sources.parquet"

    @property
    def clips(self) -> Path:
        return self.root / "clips.parquet"

    @property
    def settings(self) -> Path:
        """The configuration of the last run."""
        return self.root / "config.json"

    def read_settings(self) -> dict[str, Any]:
        """The configuration of the last run.

        Raises:
            MediaError: there was none.
        """
        try:
            return dict(json.loads(self.settings.read_text(encoding="utf-8")))
        except (OSError, ValueError) as err:
            raise MediaError(f"{self.root} is no output of `avatar curate`: {err}; run it first") from err

    def write_settings(self, values: Mapping[str, Any]) -> None:
        """Keeps the configuration, whole or not at all."""
        with staged(self.settings, overwrite=True) as name:
            Path(name).write_text(json.dumps(values, indent=1), encoding="utf-8")

    @property
    def inbox(self) -> Path:
        """Shards that are being worked on."""
        return self.root / "work"

    def tidy(self) -> None:
        """Removes what a killed run had begun; only while it is locked."""
        shutil.rmtree(self.inbox, ignore_errors=True)
        begun = [path for name in _FILES for path in self.root.glob(f".{name}.*.part")]
        for path in [*begun, *(path for name in _FOLDERS for path in (self.root / name).rglob(".*.part"))]:
            path.unlink(missing_ok=True)

    def forget_failures(self) -> None:
        """Takes what failed out of every stage's files, as if nobody had come to it yet; only while it is locked."""
        for path in sorted((self.root / "sidecars").glob("*/*.parquet")):
            table = read_table(path)
            went_well = table.filter(pa.compute.is_null(table.column("error")))
            if not len(went_well):
                path.unlink()
            elif len(went_well) < len(table):
                write_table(path, went_well)

    @property
    def copies(self) -> Path:
        """Which clips are copies of which, so that other limits need not search again."""
        return self.root / "duplicates"

    @property
    def shards(self) -> Path:
        """The exported tar files."""
        return self.root / "shards"

    def sidecars(self, name: str, version: str, options: Mapping[str, Any] | None = None) -> Path:
        """The folder of a stage's sidecar files: another version or other options are another folder."""
        text = json.dumps(options, sort_keys=True, default=str) if options else ""
        suffix = f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}" if options else ""
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in f"{name}-{version}")
        return self.root / "sidecars" / f"{safe}{suffix}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run out.

        Raises:
            OutputError: another run is at work here, the folder cannot be made, or somebody else's files are where a run
                would put, replace and remove its own.
        """
        if self.root.exists() and not self.root.is_dir():
            raise OutputError(f"{self.root} is not a folder; name another, or one that does not exist yet")
        try:
            taken = [name for name in (*_FILES, *_FOLDERS) if (self.root / name).exists()]
            if taken and not any((self.root / name).exists() for name in _OURS):
                raise OutputError(
                    f"{self.root} holds {', '.join(taken)}, and not from `avatar curate`, which would write over it; "
                    "name another folder, or one that does not exist yet"
                )
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / _LOCK).open("w")
        except OSError as err:
            raise OutputError(f"{self.root} cannot be written: {err.strerror or err}; choose another folder") from err
        with file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as err:
                    raise OutputError(f"another run is at work in {self.root}; wait for it, or stop it") from err
            yield


def read_sidecars(folder: Path, key: str, columns: pa.Schema, only: str | None = None) -> pa.Table:
    """All rows of a stage's files, one per key; where a row was measured twice, the one without an error.

    Args:
        folder: of the stage.
        key: the column that names a row.
        columns: what the stage fills.
        only: the one key whose row is wanted; other files than its own are not read whole.

    Returns:
        The key, the columns, `error` and `cpu_s`, sorted by key.
    """
    schema = sidecar_schema(key, columns)
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return schema.empty_table()
    rows = pa.dataset.dataset(files, schema=schema, format="parquet")
    if only is None:
        table = rows.to_table()
    else:
        is_it = pa.compute.field(key) == only
        found = rows.to_table(columns=["__filename"], filter=is_it).column("__filename").unique().to_pylist()
        table = pa.dataset.dataset(found, schema=schema, format="parquet").to_table(filter=is_it)
    if not len(table):
        return schema.empty_table()
    keys = np.asarray(table.column(key).to_pylist())
    failed = np.asarray(table.column("error").is_valid())
    order = np.lexsort((failed, keys))
    is_first = np.append(True, keys[order][1:] != keys[order][:-1])
    return table.take(pa.array(order[is_first]))


def rows_to_do(table: pa.Table, key: str, done: pa.Table) -> pa.Table:
    """The rows whose key is not in `done`."""
    known = set(done.column(key).to_pylist())
    return table.filter(pa.array([value not in known for value in table.column(key).to_pylist()], pa.bool_()))
