"""Prepared clips on disk: an index with labels, and a file of tensors per clip of which a window can be read.

A store is a folder with `index.jsonl` and `clips/<clip_id>.safetensors`. A clip is there when its line is in the index; the line
is written after the tensors, so that a killed preparation leaves nothing half made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from avatar.data.sampling.cells import Cells, Labels, turns
from avatar.errors import InputError, OptionError
from avatar.media.output import staged

INDEX = "index.jsonl"
MADE_FROM = "made_from"  # a label that clips of `avatar.data.augmentation` have


@dataclass(frozen=True)
class ClipEntry:
    """One line of the index.

    Attributes:
        clip_id: unique in the store; a file name.
        num_frames: video frames at 25 fps.
        person: who is seen, as far as known; people are kept apart when clips are split.
        split: as curated: `"train"`, `"val"` or `"test"`; None where nobody has decided.
        shape: (frames, height, width) of what a batch has to agree on.
        labels: by column: a name, or probabilities by name; what is not there is unknown.
        source: where the clip came from.
    """

    clip_id: str
    num_frames: int
    person: str = ""
    split: str | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    labels: dict[str, str | dict[str, float]] = field(default_factory=dict)
    source: str = ""


class ClipStore:
    """Reads and adds prepared clips.

    Args:
        folder: of the store; made when the first clip is added.
        settings: how clips are prepared; a store made in another way is refused.

    Raises:
        OptionError: the store was made with other settings, which are named.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self._settings = dict(settings) if settings is not None else None
        self.entries: list[ClipEntry] = []
        self.refused: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._is_open = False
        path = self.folder / INDEX
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        lines = text[: text.rfind("\n") + 1].splitlines()  # a last line without its end was being written
        made_with = json.loads(lines[0])["settings"] if lines else {}
        if self._settings is not None and lines and made_with != json.loads(json.dumps(self._settings)):
            now = json.loads(json.dumps(self._settings))
            names = sorted(key for key in {*made_with, *now} if made_with.get(key) != now.get(key))
            raise OptionError(
                f"{self.folder} was prepared with other values of {', '.join(names)}; set them back, or name another data.cache"
            )
        entries: dict[str, ClipEntry] = {}
        for line in lines[1:]:  # the last line of a clip counts
            values = json.loads(line)
            if "refused" in values:
                self.refused[values["clip_id"]] = values["refused"]
            else:
                entries[values["clip_id"]] = ClipEntry(**{**values, "shape": tuple(values["shape"])})
        self.select(list(entries.values()))

    def __len__(self) -> int:
        return len(self.entries)

    def known(self) -> set[str]:
        """Clips that are done: prepared, or refused."""
        return {entry.clip_id for entry in self.entries} | set(self.refused)

    def select(self, entries: list[ClipEntry]) -> None:
        """From now on the store shows these entries alone; its files stay as they are."""
        self.entries, self._places = entries, {entry.clip_id: k for k, entry in enumerate(entries)}

    def add(self, entry: ClipEntry, tensors: Mapping[str, np.ndarray]) -> None:
        """Writes a clip, then its line; one that is there is replaced."""
        path = self._path(entry.clip_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged(path, overwrite=True) as name:
            Path(name).write_bytes(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))
        self._append(asdict(entry))
        place = self._places.setdefault(entry.clip_id, len(self.entries))
        self.entries[place : place + 1] = [entry]

    def refuse(self, clip_id: str, reason: str) -> None:
        """Remembers that a clip cannot be used, and why."""
        self._append({"clip_id": clip_id, "refused": reason})
        self.refused[clip_id] = reason

    def read(self, index: int, name: str, window: slice | None = None) -> np.ndarray:
        """A tensor of a clip, or a window of it along its first axis; only that is read.

        Raises:
            InputError: the file is gone or damaged.
        """
        path = self._path(self.entries[index].clip_id)
        try:
            with safe_open(path, framework="np") as file:
                if window is None:
                    return file.get_tensor(name)
                part = file.get_slice(name)
                start, stop, _ = window.indices(part.get_shape()[0])
                return part[start:stop] if stop > start else part[:1][:0]
        except (OSError, SafetensorError) as err:
            raise InputError(f"{path} cannot be read ({err}); prepare the clips again") from err

    def length(self, index: int, name: str) -> int:
        """How long a tensor of a clip is along its first axis."""
        with safe_open(self._path(self.entries[index].clip_id), framework="np") as file:
            return int(file.get_slice(name).get_shape()[0])

    def names(self, index: int) -> set[str]:
        """The tensors that a clip has."""
        with safe_open(self._path(self.entries[index].clip_id), framework="np") as file:
            return set(file.keys())

    def _path(self, clip_id: str) -> Path:
        return self.folder / "clips" / f"{clip_id}.safetensors"

    def _append(self, line: Mapping[str, Any]) -> None:
        path = self.folder / INDEX
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"settings": self._settings or {}}) + "\n", encoding="utf-8")
        if not self._is_open:  # what a kill left of a line is cut off
            with path.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
            self._is_open = True
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def cells_of(entries: Sequence[ClipEntry], keys: Sequence[str], *, may_lack: bool = False) -> Cells:
    """Clips to cells by some of their labels.

    Args:
        entries: the clips.
        keys: the labels.
        may_lack: whether a label that no clip has is unknown of all of them, instead of an error.

    Raises:
        OptionError: a label that no clip has, with those there are.
    """
    there = sorted({key for entry in entries for key in entry.labels})
    labels = {}
    for key in keys:
        if key not in there and not may_lack:
            raise OptionError(
                f"no clip has a label {key!r} to balance by; there are: {', '.join(there) or 'none'}; name one of these in "
                "balance.by ([] for none), or add the column to manifest.csv or labels.csv beside the videos"
            )
        labels[key] = _labels([entry.labels.get(key) for entry in entries])
    return Cells.of(labels or {"all": Labels.certain(["all"] * len(entries))})


def buckets_of(entries: Sequence[ClipEntry]) -> np.ndarray | None:
    """(N,) int: which clips can be in one batch; None where all can."""
    shapes, codes = np.unique(np.array([entry.shape for entry in entries]), axis=0, return_inverse=True)
    return None if len(shapes) == 1 else codes.ravel().astype(np.int32)


def split_entries(entries: Sequence[ClipEntry], held_out_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Which clips are for training and which for validation: as curated, or whole people at random.

    Args:
        entries: all clips.
        held_out_share: of the clips for training, where none was curated for validation.
        seed: of the choice.

    Returns:
        Indices of both. Clips of the split `"test"` are in neither, nor are clips that were made from one that is held out.
    """
    training = [k for k, entry in enumerate(entries) if entry.split in ("train", None)]
    held_out = [k for k, entry in enumerate(entries) if entry.split in ("val", "held-out", "validation")]
    if held_out:
        return training, held_out
    clips_of: dict[str, list[int]] = {}
    for k in training:
        clips_of.setdefault(entries[k].person or entries[k].clip_id, []).append(k)
    people = sorted(clips_of)
    for k in np.random.default_rng((seed, 13)).permutation(len(people)):
        clips = clips_of[people[k]]
        if len(held_out) >= held_out_share * len(training) or len(held_out) + len(clips) >= len(training):
            break
        held_out += clips
    left = set(held_out)
    return [k for k in training if k not in left], sorted(k for k in left if MADE_FROM not in entries[k].labels)


def spread_over_cells(cells: Cells, count: int, seed: int) -> np.ndarray:
    """`count` clips at most, in turns from every cell, so that rare ones are measured too."""
    shuffled = np.random.default_rng((seed, 17)).permutation(cells.num_clips)
    home = cells.home[shuffled]
    return np.sort(shuffled[np.lexsort((home, turns(home)))[:count]])


def _labels(values: Sequence[str | dict[str, float] | None]) -> Labels:
    if not any(isinstance(value, dict) for value in values):
        return Labels.certain([value if isinstance(value, str) else None for value in values])
    levels = sorted({name for value in values if value for name in ([value] if isinstance(value, str) else value)})
    column = {name: k for k, name in enumerate(levels)}
    probabilities = np.zeros((len(values), len(levels)), np.float32)
    for row, value in zip(probabilities, values, strict=True):
        for name, share in ({value: 1.0} if isinstance(value, str) else value or {}).items():
            row[column[name]] = share
    return Labels.soft(levels, probabilities)
