"""Where training clips come from: shards that `avatar curate` exported, or plain folders of videos.

Shards without an index, made by somebody else, are read as WebDataset reads them: for each clip `KEY.mp4` and `KEY.json`, whose
values are columns of the manifest. A *plain folder* holds videos, and beside them at will a `manifest.csv` with a column `path` and
labels, which names the videos to take; or a `labels.csv`, as `avatar curate` reads it, which says something of some of them.
"""

from __future__ import annotations

import csv
import json
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avatar.data.readers.folder import LABELS
from avatar.data.readers.layout import emotion_word
from avatar.data.shards import ShardReader
from avatar.emotion.labels import EMOTIONS, EmotionMix
from avatar.errors import InputError, OptionError

MANIFEST = "manifest.csv"
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
_NO_LABELS = {"path", "text", "transcript", "split", "duration_s", "seed", "clip_id", "source_uri", "media_uri"}
_NO_LABEL_ENDS = (
    "_backend",
    "_hash",
    "_key",
    "_sha256",
    "_uri",
    "_version",
    "source_id",
)  # columns of curation's bookkeeping
_PEOPLE = ("identity", "person", "speaker", "portrait", "source_id")  # who is seen, the first that is told
APPARENT = ("ethnicity", "age_group", "sex")
_SPLITS = {"held-out": "val", "validation": "val"}


@dataclass(frozen=True)
class SourceClip:
    """One video to train on.

    Attributes:
        clip_id: unique; a file name.
        path: the video, or the shard or folder of shards that holds it.
        content: reads it from there; None for a file.
        person, split, labels: as for `ClipEntry`.
        caption: what is seen and said.
    """

    clip_id: str
    path: Path
    content: Callable[[], bytes] | None = field(default=None, compare=False)
    person: str = ""
    split: str | None = None
    labels: dict[str, str | dict[str, float]] = field(default_factory=dict)
    caption: str = ""

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The video as a file, for as long as this is open."""
        if self.content is None:
            yield self.path
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.clip_id}.mp4"
            path.write_bytes(self.content())
            yield path


def find_clips(folders: Sequence[str | Path]) -> list[SourceClip]:
    """All clips of some folders, by name.

    Raises:
        InputError: a folder that is not there or holds no clip, or a manifest that does not fit it.
        OptionError: no folder.
    """
    if not folders:
        raise OptionError("data.sources names no folder; give folders of videos, or what `avatar curate` exported")
    clips: list[SourceClip] = []
    for name in folders:
        folder = Path(name)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give a folder of videos, or what `avatar curate` exported")
        found = list(_found(folder))
        if not found and any((place / "index.parquet").is_file() for place in (folder / "shards", folder)):
            raise InputError(
                f"{folder} was exported without a single clip: `avatar curate` kept none; its report says why"
            )
        if not found:
            raise InputError(f"{folder} holds neither shards (*.tar) nor videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
        clips += found
    return _unique(clips)


def labels_of(values: Mapping[str, Any]) -> dict[str, str | dict[str, float]]:
    """Columns of a manifest to labels.

    Probabilities (`emotion_probs` with `emotion_label_set`, `apparent_ethnicity_probs`) come in where nobody declared a label; an
    emotion may be a mix (`happy:0.6`).
    """
    labels: dict[str, str | dict[str, float]] = {}
    for key, value in values.items():
        if key in _NO_LABELS or key.endswith(_NO_LABEL_ENDS):
            continue
        if isinstance(value, str) and value and (len(value) < 80 or key == "emotion"):
            labels[key] = _emotion(value) if key == "emotion" else value
    names, probabilities = str(values.get("emotion_label_set") or "").split("|"), values.get("emotion_probs")
    if probabilities and len(names) == len(probabilities) and values.get("label_source") != "declared":
        labels["emotion"] = _mix([emotion_word(name) or name for name in names], probabilities)
    for key in APPARENT:  # whose classes have no names in the manifest
        probabilities = values.get(f"apparent_{key.removesuffix('_group')}_probs")
        if probabilities and key not in labels:
            labels[key] = _mix([f"apparent {k}" for k in range(len(probabilities))], probabilities)
    return labels


def _found(folder: Path) -> Iterator[SourceClip]:
    for place in (folder / "shards", folder):
        if (place / "index.parquet").is_file():
            yield from _exported(place)
            return
    shards = sorted(folder.rglob("*.tar"))
    for shard in shards:
        yield from _in_shard(shard)
    if not shards:
        yield from _in_folder(folder)


def _exported(folder: Path) -> Iterator[SourceClip]:
    """Clips that `avatar curate` exported."""
    reader = ShardReader(folder)
    for clip_id in reader.clip_ids:
        if "mp4" not in reader.endings(clip_id):
            raise InputError(f'{folder} was exported without videos; curate again with export.media = "encode"')
        yield _clip(clip_id, folder, partial(reader.read, clip_id, "mp4"), reader.sample(clip_id))


def _in_folder(folder: Path) -> Iterator[SourceClip]:
    table = next((name for name in (MANIFEST, LABELS) if (folder / name).is_file()), None)
    rows = _rows(folder / table) if table else {}
    for name in rows:
        if not (folder / name).is_file():
            raise InputError(f"{folder / str(table)} names {name}, which is not there")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    for path in sorted(folder / name for name in rows) if table == MANIFEST else paths:
        name = path.relative_to(folder).as_posix()
        values = rows.get(name, {})
        yield _clip(name.rsplit(".", 1)[0].replace("/", "_"), path, None, values)


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """A table of labels, by the videos' paths."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeError, csv.Error, OSError) as err:
        raise InputError(f"{path} cannot be read as a table: {err}; save it as CSV in UTF-8") from err
    if rows and "path" not in rows[0]:
        raise InputError(f"{path} has no column path; it has {', '.join(rows[0])}")
    if any(row.get("start_s") or row.get("end_s") for row in rows):
        raise InputError(f"{path} names parts of videos (start_s, end_s); let `avatar curate` cut them first")
    return {row["path"]: row for row in rows}


def _in_shard(shard: Path) -> Iterator[SourceClip]:
    try:
        with tarfile.open(shard) as tar:
            members = {member.name: member for member in tar.getmembers() if member.isfile()}
    except tarfile.TarError as err:
        raise InputError(
            f"{shard} cannot be read as a shard: {str(err).splitlines()[0]}; make it again, or take it out"
        ) from err
    for name in sorted(members):
        stem, _, suffix = name.rpartition(".")
        if f".{suffix.lower()}" in VIDEO_SUFFIXES:
            told = members.get(f"{stem}.json")
            values = json.loads(_member(shard, told)) if told else {}
            yield _clip(stem.replace("/", "_"), shard, partial(_member, shard, members[name]), values)


def _member(shard: Path, member: tarfile.TarInfo) -> bytes:
    with shard.open("rb") as file:
        file.seek(member.offset_data)
        return file.read(member.size)


def _clip(clip_id: str, path: Path, content: Callable[[], bytes] | None, values: Mapping[str, Any]) -> SourceClip:
    split = str(values.get("split") or "") or None
    person = next((str(values[key]) for key in _PEOPLE if values.get(key)), "")
    caption = next((str(values[key]) for key in ("caption_video", "caption_object") if values.get(key)), "")
    return SourceClip(clip_id, path, content, person, _SPLITS.get(split or "", split), labels_of(values), caption)


def _emotion(text: str) -> str | dict[str, float]:
    """A label in our words where we know it, or a mix whose missing part is neutral."""
    if ":" not in text:
        return emotion_word(text) or text
    mix = EmotionMix.parse(text)
    weights = dict(zip(EMOTIONS, mix.weights, strict=True))
    weights["neutral"] += 1 - sum(mix.weights)
    return {name: weight for name, weight in weights.items() if weight > 0}


def _mix(names: Sequence[str], probabilities: Sequence[float]) -> dict[str, float]:
    mix: dict[str, float] = {}
    for name, share in zip(names, probabilities, strict=True):
        if share is not None and math.isfinite(share) and share > 0:
            mix[name] = mix.get(name, 0.0) + float(share)
    return mix


def _unique(clips: list[SourceClip]) -> list[SourceClip]:
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.clip_id in seen:
            raise InputError(f"two clips are called {clip.clip_id}: in {seen[clip.clip_id]} and in {clip.path}")
        seen[clip.clip_id] = clip.path
    return clips
