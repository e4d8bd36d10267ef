"""The generator's cache: made in pieces, resumed, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Model

from avatar.audio.encoder import small_encoder_config
from avatar.codec.mesh.rig import default_rig
from avatar.train import motion_cache
from avatar.train.motion_cache import ItemMaker, load_items, prepare


@pytest.fixture(scope="module")
def encoder() -> Wav2Vec2Model:
    torch.manual_seed(0)
    return Wav2Vec2Model(small_encoder_config(64, 1)).eval()


def test_a_cache_is_made_once_and_read_back(
    speech_folder: Path, tmp_path: Path, encoder: Wav2Vec2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion_cache, "ITEMS_PER_SHARD", 2)
    done: list[float] = []
    out = tmp_path / "cache"
    prepare(speech_folder, encoder, out, "train", 2, 0, done.append)
    assert done == [0.5, 1.0]
    items = load_items(out, 2)
    assert len(items) == 4
    for item in items:
        assert item.weights.shape == (len(item.rotation), len(default_rig()))
        assert abs(len(item.features) - 2 * len(item.weights)) <= 2
        assert item.labels.sum() == pytest.approx(1, abs=1e-5)
    motion = out / "motion-0001.npz"
    before, kept = motion.read_bytes(), (out / "motion-0000.npz").stat().st_mtime_ns
    motion.unlink()
    prepare(speech_folder, encoder, out, "train", 2, 0, done.append)
    assert motion.read_bytes() == before  # an item is a function of (seed, number) alone
    assert (out / "motion-0000.npz").stat().st_mtime_ns == kept
    assert not list(out.glob("*.tmp"))


def test_motion_and_features_of_an_item_are_of_the_same_utterance(speech_folder: Path, encoder: Wav2Vec2Model) -> None:
    maker = ItemMaker(speech_folder, "train", 0)
    for index in range(4):
        motion, features = maker.motion(index), maker.features(index, encoder)
        assert abs(len(features) - 2 * len(motion["weights"])) <= 2
        assert np.isfinite(features).all()


def test_seeds_and_splits_differ(speech_folder: Path) -> None:
    one, same, other = (ItemMaker(speech_folder, "train", seed).motion(0) for seed in (0, 0, 1))
    held_out = ItemMaker(speech_folder, "held-out", 0).motion(0)
    assert np.array_equal(one["weights"], same["weights"])
    for different in (other, held_out):
        assert one["weights"].shape != different["weights"].shape or not np.array_equal(
            one["weights"], different["weights"]
        )
