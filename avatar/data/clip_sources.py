"""Where training clips come from: shards that `avatar curate` exported, or plain folders of videos.

A *shard* is a tar file as WebDataset reads it: for each clip `KEY.mp4` and `KEY.json`, whose values are columns of the
manifest. A *plain folder* holds videos, and beside them at will a `manifest.csv` with a column `path` and labels.
"""

from __future__ import annotations

import csv
import json
import math
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avatar.emotion.labels import EmotionMix
from avatar.errors import InputError, OptionError

MANIFEST = "manifest.csv"
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
_NO_LABELS = {"path", "text", "transcript", "split", "duration_s", "seed", "clip_id", "source_uri", "media_uri"}
_PEOPLE = ("identity", "person", "speaker", "portrait", "source_id")  # who is seen, the first that is told
_SPLITS = {"held-out": "val", "validation": "val"}


@dataclass(frozen=True)
class SourceClip:
    """One video to train on.

    Attributes:
        clip_id: unique; a file name.
        path: the video, or the shard that holds it.
        member: name inside the shard; None for a file.
        person, split, labels: as for `ClipEntry`.
        caption: what is seen and said.
    """

    clip_id: str
    path: Path
    member: str | None = None
    person: str = ""
    split: str | None = None
    labels: dict[str, str | dict[str, float]] = field(default_factory=dict)
    caption: str = ""

    @contextmanager
    def file(self) -> Iterator[Path]:
        """The video as a file, for as long as this is open."""
        if self.member is None:
            yield self.path
            return
        with TemporaryDirectory() as folder, tarfile.open(self.path) as shard:
            content = shard.extractfile(self.member)
            if content is None:
                raise InputError(f"{self.path} has no file {self.member}")
            path = Path(folder) / Path(self.member).name
            path.write_bytes(content.read())
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
        shards = sorted(folder.rglob("*.tar"))
        found = [clip for shard in shards for clip in _in_shard(shard)] if shards else list(_in_folder(folder))
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
        if key not in _NO_LABELS and isinstance(value, str) and value and len(value) < 80:
            labels[key] = _emotion(value) if key == "emotion" else value
    names = str(values.get("emotion_label_set") or "").replace(";", ",").split(",")
    probabilities = values.get("emotion_probs")
    if probabilities and len(names) == len(probabilities) and values.get("label_source") != "declared":
        labels["emotion"] = _mix(names, probabilities)
    return labels


def _in_folder(folder: Path) -> Iterator[SourceClip]:
    rows = _manifest(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    for path in paths if rows is None else sorted(folder / name for name in rows):
        name = path.relative_to(folder).as_posix()
        values = {} if rows is None else rows[name]
        if not path.is_file():
            raise InputError(f"{folder / MANIFEST} names {name}, which is not there")
        yield _clip(name.rsplit(".", 1)[0].replace("/", "_"), path, None, values)


def _manifest(folder: Path) -> dict[str, dict[str, str]] | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "path" not in rows[0]:
        raise InputError(f"{path} has no column path; it has {', '.join(rows[0])}")
    return {row["path"]: row for row in rows}


def _in_shard(shard: Path) -> Iterator[SourceClip]:
    try:
        with tarfile.open(shard) as tar:
            members = {member.name: member for member in tar.getmembers() if member.isfile()}
            for name in sorted(members):
                stem, _, suffix = name.rpartition(".")
                if f".{suffix.lower()}" in VIDEO_SUFFIXES:
                    told = tar.extractfile(members[f"{stem}.json"]) if f"{stem}.json" in members else None
                    values = json.loads(told.read()) if told else {}
                    yield _clip(stem.replace("/", "_"), shard, name, values)
    except (tarfile.TarError, json.JSONDecodeError) as err:
        raise InputError(f"{shard} cannot be read as a shard: {err}") from err


def _clip(clip_id: str, path: Path, member: str | None, values: Mapping[str, Any]) -> SourceClip:
    split = str(values.get("split") or "") or None
    person = next((str(values[key]) for key in _PEOPLE if values.get(key)), "")
    caption = next((str(values[key]) for key in ("caption_video", "caption_object") if values.get(key)), "")
    return SourceClip(clip_id, path, member, person, _SPLITS.get(split or "", split), labels_of(values), caption)


def _emotion(text: str) -> str | dict[str, float]:
    """A label, or a mix whose missing part is neutral."""
    if ":" not in text:
        return text
    mix = EmotionMix.parse(text)
    from avatar.emotion.labels import EMOTIONS

    weights = dict(zip(EMOTIONS, mix.weights, strict=True))
    weights["neutral"] += 1 - sum(mix.weights)
    return {name: weight for name, weight in weights.items() if weight > 0}


def _mix(names: Sequence[str], probabilities: Sequence[float]) -> dict[str, float]:
    return {
        name.strip(): float(share)
        for name, share in zip(names, probabilities, strict=True)
        if share is not None and math.isfinite(share) and share > 0
    }


def _unique(clips: list[SourceClip]) -> list[SourceClip]:
    seen: dict[str, Path] = {}
    for clip in clips:
        if clip.clip_id in seen:
            raise InputError(f"two clips are called {clip.clip_id}: in {seen[clip.clip_id]} and in {clip.path}")
        seen[clip.clip_id] = clip.path
    return clips
