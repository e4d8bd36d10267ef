"""Exported shards, read at random: which clips there are, and any file of any of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from avatar.data.manifest import read_table
from avatar.errors import MediaError, OptionError

INDEX_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("shard", pa.string(), metadata={"doc": "tar file beside the index"}),
        pa.field("ending", pa.string(), metadata={"doc": "json, mp4, wav or npz"}),
        pa.field("offset", pa.int64(), metadata={"doc": "of the content, bytes from the start of the tar"}),
        pa.field("size", pa.int64(), metadata={"doc": "bytes"}),
    ]
)


class ShardReader:
    """The shards of a curation, or of one split of it.

    Attributes:
        clip_ids: in the order of the shards.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        """Reads the index.

        Args:
            folder: the output folder of `curate`, or its `shards`.
            split: "train", "val" or "test"; None: all.

        Raises:
            MediaError: there is no index.
        """
        folder = Path(folder)
        self.folder = folder / "shards" if (folder / "shards").is_dir() else folder
        self._places: dict[str, dict[str, tuple[str, int, int]]] = {}
        for row in read_table(self.folder / "index.parquet").to_pylist():
            if split is None or row["shard"].startswith(f"{split}-"):
                self._places.setdefault(row["clip_id"], {})[row["ending"]] = row["shard"], row["offset"], row["size"]
        self.clip_ids = list(self._places)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def endings(self, clip_id: str) -> tuple[str, ...]:
        """Which files a clip has."""
        return tuple(self._of(clip_id))

    def read(self, clip_id: str, ending: str) -> bytes:
        """One file of a clip; nothing else of the shard is read.

        Raises:
            OptionError: no such clip, or it has no such file.
            MediaError: the shard is shorter than the index says.
        """
        places = self._of(clip_id)
        if ending not in places:
            raise OptionError(f"clip {clip_id} has no {ending}; it has {', '.join(places)}")
        shard, offset, size = places[ending]
        with (self.folder / shard).open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise MediaError(f"{self.folder / shard} is truncated; run `avatar curate` again")
        return content

    def sample(self, clip_id: str) -> dict[str, Any]:
        """The clip's row, as its json has it."""
        return dict(json.loads(self.read(clip_id, "json")))

    def _of(self, clip_id: str) -> dict[str, tuple[str, int, int]]:
        if clip_id not in self._places:
            raise OptionError(f"there is no clip {clip_id} in {self.folder}; it has {len(self._places)} clips")
        return self._places[clip_id]
