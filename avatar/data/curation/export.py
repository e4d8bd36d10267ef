"""Kept clips to WebDataset-compatible tar shards with an index of where in them each file is."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import tarfile
import wave
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avatar.data.clip_media import ClipMedia
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder
from avatar.data.curation.pieces import piece_of
from avatar.data.engines.work import Engine, Piece, Shard, cut_shards
from avatar.data.manifest import read_table, write_table
from avatar.data.shards import INDEX_SCHEMA
from avatar.media import read_video, write_video
from avatar.types import DEFAULT_FPS, Waveform

LOG = logging.getLogger(__name__)
_NOT_IN_JSON = {"phash8", "phash_crops", "motion_fp", "audio_fp", "embedding", "keep", "reject_reasons", "stage_errors"}
_NOT_IN_JSON |= {"config_hash"}  # limits that keep the same clips leave the shards alone
_BLOCK_FRAMES = 25
# Of film grain at 1080p and crf 18 x264's "medium" takes 2.7 times the time for 10 % more bytes and 0.8 dB.
_PRESET = "veryfast"
_COLUMNS = pa.schema([pa.field("parts", pa.list_(pa.string()), metadata={"doc": "endings of the files made"})])


@dataclass(frozen=True)
class ExportWork:
    """Writes the files of one clip into the folder of parts.

    Attributes:
        root: the output folder.
        parts: where the files go.
        media: "encode" or "reference".
        crf: H.264 quality.
        shift_from_ms: sound that is off by this much or more is moved; None: never.
    """

    root: Path
    parts: Path
    media: str
    crf: int
    shift_from_ms: float | None
    key: str = "clip_id"

    @property
    def outputs(self) -> Mapping[str, pa.Schema]:
        return {"export": _COLUMNS}

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, row: Mapping[str, Any]) -> Iterator[str | Piece]:
        yield "export"
        yield piece_of("export", lambda: {"parts": self._write(row)})

    def _write(self, row: Mapping[str, Any]) -> list[str]:
        clip, name = ClipMedia(row, self.root), str(row["clip_id"])
        shift_ms = self._shift_ms(row)
        sample = {key: value for key, value in row.items() if key not in _NOT_IN_JSON and value is not None}
        sample["sound_delayed_ms"] = shift_ms
        endings = ["json"]
        self.parts.mkdir(parents=True, exist_ok=True)
        if self.media == "encode":
            sound = clip.waveform(delayed_s=shift_ms / 1000)
            frames = read_video(clip.path, DEFAULT_FPS, start_s=row["start_s"], end_s=row["end_s"])
            blocks = _even_blocks(clip.cropped(frame) for frame in frames)
            path = self.parts / f"{name}.mp4"
            write_video(path, blocks, fps=DEFAULT_FPS, speech=sound, overwrite=True, crf=self.crf, preset=_PRESET)
            endings.append("mp4")
            if sound is not None:
                (self.parts / f"{name}.wav").write_bytes(wav_bytes(sound))
                endings.append("wav")
        if row.get("track_uri"):
            shutil.copyfile(self.root / row["track_uri"], self.parts / f"{name}.npz")
            endings.append("npz")
        text = json.dumps(sample, sort_keys=True, ensure_ascii=False, default=dict)
        (self.parts / f"{name}.json").write_text(text, encoding="utf-8")
        return sorted(endings)

    def _shift_ms(self, row: Mapping[str, Any]) -> float:
        offset_ms = row.get("sync_offset_ms")
        if self.shift_from_ms is None or offset_ms is None or abs(offset_ms) < self.shift_from_ms:
            return 0.0
        return float(offset_ms)


def export(
    manifest: pa.Table,
    config: CurationConfig,
    folder: CurationFolder,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> Path | None:
    """Writes the shards of every split, `shards/SPLIT-000000.tar`, and `shards/index.parquet`.

    A shard that is there with the same clips and settings is left alone; ones that no longer belong are removed.

    Returns:
        The index; None where `media = "none"`.
    """
    settings = config["export"]
    if settings["media"] == "none":
        return None
    kept = manifest.filter(manifest.column("keep")).sort_by([("split", "ascending"), ("clip_id", "ascending")])
    planned = dict(_planned(kept, settings))
    missing = {name: part for name, part in planned.items() if not _is_there(folder, name, part, settings)}
    old = [path for path in folder.shards.glob("*.tar") if path.stem not in planned]
    if missing or old:
        (folder.shards / "index.parquet").unlink(missing_ok=True)  # it would name what is not there
    _make(missing, config, folder, engine, progress)
    for path in old:
        path.unlink()
        _index_of(folder, path.stem).unlink(missing_ok=True)
    indices = [read_table(_index_of(folder, name)).replace_schema_metadata() for name in planned]
    return write_table(folder.shards / "index.parquet", pa.concat_tables(indices or [INDEX_SCHEMA.empty_table()]))


def _make(
    missing: Mapping[str, pa.Table],
    config: CurationConfig,
    folder: CurationFolder,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> None:
    """Writes tars by their names; each is packed as soon as the parts of its clips are there."""
    settings = config["export"]
    target, parts = folder.inbox / "export", folder.inbox / f"parts-{os.getpid()}"
    shutil.rmtree(target, ignore_errors=True)
    shift_ms = settings["shift_sound_from_ms"] if settings["shift_sound"] else None
    work = ExportWork(folder.root, parts, settings["media"], settings["crf"], shift_ms)
    shards = {
        name: list(cut_shards(part, {"export": target}, folder.inbox, "clip_id", engine.num_workers))
        for name, part in missing.items()
    }
    total, done, waiting = sum(map(len, missing.values())), 0, deque(missing)

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        while waiting and all(shard.targets["export"].exists() for shard in shards[waiting[0]]):
            name = waiting.popleft()
            _pack(name, missing[name], shards[name], parts, folder, settings)
        progress(done, total)

    every = [shard for listed in shards.values() for shard in listed]
    engine.run(work, every, timeout_s=config["engine"]["timeout_s"], progress=tell)
    assert not waiting, "an engine has left out a shard"
    shutil.rmtree(parts, ignore_errors=True)


def wav_bytes(sound: Waveform) -> bytes:
    """16-bit PCM."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate_hz)
        file.writeframes((np.clip(sound.samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def _planned(kept: pa.Table, settings: Mapping[str, Any]) -> Iterator[tuple[str, pa.Table]]:
    splits = np.asarray(kept.column("split").to_pylist())
    for split in sorted(set(splits)):
        rows = kept.filter(pa.array(splits == split))
        for number, start in enumerate(range(0, len(rows), settings["shard_clips"])):
            yield f"{split}-{number:06d}", rows.slice(start, settings["shard_clips"])


def _key(part: pa.Table, settings: Mapping[str, Any]) -> str:
    """What a shard is made of: the clips, what is written of them, and how."""
    columns = [name for name in part.column_names if name not in _NOT_IN_JSON]
    words = [json.dumps(settings, sort_keys=True), json.dumps(part.select(columns).to_pylist(), default=str)]
    return hashlib.sha256("|".join(words).encode()).hexdigest()[:16]


def _is_there(folder: CurationFolder, name: str, part: pa.Table, settings: Mapping[str, Any]) -> bool:
    index = _index_of(folder, name)
    if not index.exists() or not (folder.shards / f"{name}.tar").exists():
        return False
    return (read_table(index).schema.metadata or {}).get(b"key", b"").decode() == _key(part, settings)


def _index_of(folder: CurationFolder, name: str) -> Path:
    return folder.shards / f"{name}.index.parquet"


def _pack(
    name: str,
    clips: pa.Table,
    shards: Sequence[Shard],
    parts: Path,
    folder: CurationFolder,
    settings: Mapping[str, Any],
) -> None:
    """The parts of some clips to a tar and its index, which appear whole; a clip whose export failed is left out."""
    written = {row["clip_id"]: row for shard in shards for row in read_table(shard.targets["export"]).to_pylist()}
    for clip, row in written.items():
        if row["error"]:
            LOG.warning("clip %s could not be exported and is in no shard: %s", clip, row["error"])
    path, rows = folder.shards / f"{name}.tar", []
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    ids = clips.column("clip_id").to_pylist()
    with tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in ids:
            for ending in written[clip]["parts"] or []:
                content = (parts / f"{clip}.{ending}").read_bytes()
                header = tarfile.TarInfo(f"{clip}.{ending}")  # no time and no owner: the same clips give the same bytes
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
                start = tar.offset - (-(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
                rows.append(
                    {"clip_id": clip, "shard": path.name, "ending": ending, "offset": start, "size": len(content)}
                )
                (parts / f"{clip}.{ending}").unlink()
    _index_of(folder, name).unlink(missing_ok=True)  # never the index of what the tar was before
    os.replace(beside, path)
    is_whole = all(written[clip]["parts"] for clip in ids)  # else it is tried again next time
    key = {"key": _key(clips, settings)} if is_whole else None
    write_table(_index_of(folder, name), pa.Table.from_pylist(rows, INDEX_SCHEMA).replace_schema_metadata(key))


def _even_blocks(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """(T, H, W, 3) blocks with even sides, as H.264 needs them: an odd last row or column is cut off."""
    block: list[np.ndarray] = []
    for frame in frames:
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
        block.append(frame[:height, :width])
        if len(block) == _BLOCK_FRAMES:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)
