"""From a config to tasks: who is held out, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatar.data.clip_dataset import ClipStore
from avatar.errors import OptionError
from avatar.pipeline import debug_pipeline
from avatar.train.assemble import left_out, make_tasks
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping


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
    task, held_out = make_tasks(config, debug_pipeline())
    assert held_out is not None
    assert sorted(entry.clip_id for part in (task, held_out) for entry in part.entries) == ["c0", "c5"]
    assert task.sample(0, np.random.default_rng(0), training=True)["latents"].shape[1] == 5


def test_a_store_of_short_clips_alone_is_refused(clip_store: Path, tmp_path: Path) -> None:
    store_of([10, 24], ClipStore(clip_store), tmp_path / "cache")
    with pytest.raises(OptionError, match=r"no clip of .* is as long as a crop \(25 frames, 1.0 s\)"):
        make_tasks(config_of(tmp_path), debug_pipeline())
