"""What engines are given, shards of rows, and what they leave behind: one Parquet file per output and shard, written whole."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from avatar.data.manifest import read_table, table_from_rows, write_table
from avatar.errors import OutputError

MAX_SHARD_ROWS = 256
_SHARDS_PER_WORKER = 4  # so that workers end at about the same time, and a kill costs little


@dataclass(frozen=True)
class Piece:
    """What one output says of one row.

    Attributes:
        output: its name.
        values: by column; {} where it failed.
        error: what went wrong; None where all went well.
        cpu_s: processor time of the worker.
    """

    output: str
    values: Mapping[str, Any]
    error: str | None = None
    cpu_s: float = 0.0


class RowWork(Protocol):
    """A stage, as a function of one row; made in the driver, pickled, set up in every worker."""

    @property
    def key(self) -> str:
        """The column that names a row."""
        ...

    @property
    def outputs(self) -> Mapping[str, pa.Schema]:
        """What it may yield, in that order, each with its columns."""
        ...

    def setup(self) -> None:
        """Once per worker. What it raises ends the run: it would go wrong for every row."""
        ...

    def run(self, row: Mapping[str, Any]) -> Iterator[str | Piece]:
        """For each output that the row needs its name, before the work on it begins, and then its piece.

        Raises:
            AvatarError: it would go wrong for every row; the run ends.
        """
        ...


@dataclass(frozen=True)
class Shard:
    """Some rows to work on.

    Attributes:
        path: Parquet with the rows.
        targets: output name to the file that it becomes.
        num_rows: how many.
    """

    path: Path
    targets: Mapping[str, Path]
    num_rows: int


Progress = Callable[[int], None]  # told how many more rows are done


class Engine(Protocol):
    """Runs a stage over shards."""

    num_workers: int

    def run(self, work: RowWork, shards: Sequence[Shard], *, timeout_s: float, progress: Progress) -> None:
        """Makes every target file of every shard.

        Args:
            work: the stage.
            shards: in any order; a shard whose last target exists is not in here.
            timeout_s: for one row; what takes longer is killed and noted as that row's error.
            progress: told the number of rows of each shard that is done.

        Raises:
            AvatarError: whatever `work.setup` or `work.run` raises in a worker.
        """
        ...

    def close(self) -> None:
        """Gives back what is held between stages."""
        ...


def cut_shards(
    table: pa.Table, folders: Mapping[str, Path], inbox: Path, key: str, num_workers: int
) -> Iterator[Shard]:
    """Cuts rows into shards of at most 256 and writes each as Parquet.

    Args:
        table: the rows that need work.
        folders: output name to the folder of its files.
        inbox: folder for the shards' rows.
        key: the column that names a row.
        num_workers: with few rows the shards are smaller, so that every worker has some.
    """
    size = max(1, min(MAX_SHARD_ROWS, -(-len(table) // (num_workers * _SHARDS_PER_WORKER))))
    for start in range(0, len(table), size):
        part = table.slice(start, size)
        name = hashlib.sha256("|".join([*folders, *part.column(key).to_pylist()]).encode()).hexdigest()[:24]
        path = write_table(inbox / f"{name}.parquet", part)
        yield Shard(path, {output: folder / f"{name}.parquet" for output, folder in folders.items()}, len(part))


def run_shard(run_row: Callable[[Mapping[str, Any]], Sequence[Piece]], work: RowWork, shard: Shard) -> None:
    """Works through a shard and writes its files; an output that no row came to gets none."""
    collected: dict[str, list[dict[str, Any]]] = {output: [] for output in work.outputs}
    for row in read_table(shard.path).to_pylist():
        for piece in run_row(row):
            collected[piece.output].append(
                {work.key: row[work.key], **piece.values, "error": piece.error, "cpu_s": piece.cpu_s}
            )
    for output, rows in collected.items():
        if rows:
            write_table(shard.targets[output], table_from_rows(rows, sidecar_schema(work.key, work.outputs[output])))


def raise_if_nothing_can_be_written(err: Exception) -> None:
    """A full or read-only disk is nothing to write down as one row's error.

    Raises:
        OutputError: `err` is of that kind.
    """
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise OutputError(
            f"nothing more can be written: {err}; free some space and run the same command again"
        ) from err


def sidecar_schema(key: str, columns: pa.Schema) -> pa.Schema:
    """The columns of a sidecar file: the key, the values, `error`, and `cpu_s` (processor seconds, for the report)."""
    return pa.schema(
        [pa.field(key, pa.string()), *columns, pa.field("error", pa.string()), pa.field("cpu_s", pa.float64())]
    )
