"""From a config to tasks: who is held out, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatar.data.clip_dataset import ClipEntry, ClipStore
from avatar.data.clip_sources import SourceClip
from avatar.errors import OptionError
from avatar.pipeline import debug_pipeline
from avatar.train.assemble import left_out, make_tasks
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping
from avatar.train.prepare import prepare_clips


def store_of(lengths: list[int], source: ClipStore, cache: Path) -> ClipStore:
    """Clips of a store again, as if they were so long."""
    store = ClipStore(cache / "clips")
    tensors = {name: source.read(0, name) for name in source.names(0)}
    for k, frames in enumerate(lengths):
        store.add(replace(source.entries[0], clip_id=f"c{k}", person=f"p{k}", num_frames=frames), tensors)
    store.refuse("silent", "it has no sound")
    return store


def config_of(out: Path) -> TrainConfig:
    return from_mapping({"out": str(out), "data": {"latent_frames": 5, "context_frames": 2, "held_out_share": 0.5}})


def test_clips_too_short_for_a_crop_are_left_out_and_nobody_of_them_is_held_out(
    clip_store: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path)
    store = store_of([60, 10, 10, 10, 10, 60], ClipStore(clip_store), tmp_path / "cache")
    assert left_out(config, store, None) == {
        "silent": "it has no sound",
        **{f"c{k}": "it has 10 frames; a crop has up to 25 (data.latent_frames)" for k in (1, 2, 3, 4)},
    }
    task, held_out = make_tasks(config, debug_pipeline(), (store, None))
    assert held_out is not None
    assert sorted(entry.clip_id for part in (task, held_out) for entry in part.entries) == ["c0", "c5"]
    assert task.sample(0, np.random.default_rng(0), training=True)["latents"].shape[1] == 5


def test_a_store_of_short_clips_alone_is_refused(clip_store: Path, tmp_path: Path) -> None:
    store = store_of([10, 24], ClipStore(clip_store), tmp_path / "cache")
    with pytest.raises(OptionError, match=r"no clip of .* is as long as a crop \(25 frames, 1.0 s\)"):
        make_tasks(config_of(tmp_path), debug_pipeline(), (store, None))


class Stub:
    """Prepares nothing, and remembers which clips it was given."""

    def __init__(self, reads: tuple[str, ...] = ()) -> None:
        self.reads, self.given = reads, list[str]()

    def settings(self) -> dict[str, int]:
        return {}

    def prepare(self, clip: SourceClip) -> tuple[ClipEntry, dict[str, np.ndarray]]:
        self.given.append(clip.clip_id)
        return ClipEntry(clip.clip_id, 60, clip.person, clip.split, labels=dict(clip.labels)), {"x": np.zeros(1)}


def labelled(folder: Path, rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        (folder / f"{name}.mp4").touch()
    (folder / "manifest.csv").write_text(f"path,emotion,identity\n{rows}")
    return folder


def test_labels_that_are_told_later_count_and_nothing_is_prepared_again(tmp_path: Path) -> None:
    folder, first = labelled(tmp_path / "in", "a.mp4,,\nb.mp4,sad,bo\n"), Stub()
    prepare_clips([folder], tmp_path / "cache", lambda: first)
    again = Stub()
    store = prepare_clips([labelled(folder, "a.mp4,happy,ann\nb.mp4,sad,bo\n")], tmp_path / "cache", lambda: again)
    assert first.given == ["a", "b"] and again.given == []
    assert [(entry.person, entry.labels["emotion"]) for entry in store.entries] == [("ann", "happy"), ("bo", "sad")]


def test_clips_that_the_folders_no_longer_have_are_not_trained_on(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "in", "a.mp4,sad,ann\nb.mp4,sad,bo\n")
    prepare_clips([folder], tmp_path / "cache", Stub)
    store = prepare_clips([labelled(folder, "b.mp4,sad,bo\nc.mp4,sad,cy\n")], tmp_path / "cache", Stub)
    assert [entry.clip_id for entry in store.entries] == ["b", "c"]


def test_a_clip_is_prepared_again_where_its_tensors_depend_on_the_label(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "in", "a.mp4,sad,ann\nb.mp4,sad,bo\n")
    prepare_clips([folder], tmp_path / "cache", Stub)
    stub = Stub(reads=("emotion",))
    store = prepare_clips([labelled(folder, "a.mp4,happy,ann\nb.mp4,sad,bo\n")], tmp_path / "cache", lambda: stub)
    assert stub.given == ["a"]
    assert [entry.clip_id for entry in store.entries] == ["a", "b"]
    assert ClipStore(tmp_path / "cache").entries == store.entries
