"""Training of the audio-lip model, on sound that is the lips themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from avatar.data.scorers.sync import sync_of
from avatar.data.sync.model import SyncModel, SyncModelConfig
from avatar.train.sync import SyncItem, SyncRecipe, as_tracked, contrastive_loss, fit_components, train_sync

CONFIG = SyncModelConfig(sound_dim=12, sound_components=12, width=24, embedding=16)


@pytest.fixture(scope="module")
def items() -> list[SyncItem]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(24):
        lips = gaussian_filter1d(rng.normal(size=(110, 12)), 1.5, axis=0).astype(np.float32)
        made.append(SyncItem(lips.astype(np.float16), lips))
    return made


def test_a_short_training_finds_planted_offsets(items: list[SyncItem]) -> None:
    model = train_sync(items[:20], CONFIG, SyncRecipe(steps=60, batch_size=6))
    for item, early in zip(items[20:], (-9, -2, 0, 6), strict=True):
        sound = np.roll(item.sound.astype(np.float32), -early, axis=0)
        result = sync_of(model, sound, item.lips, np.ones(len(item.lips), bool))
        assert result is not None and abs(result.offset_frames - early) <= 1


def test_tracked_lips_keep_their_length_and_have_no_mean(items: list[SyncItem]) -> None:
    for seed in range(20):
        lips, found = as_tracked(items[0].lips, items[1].lips, np.random.default_rng(seed))
        assert lips.shape == items[0].lips.shape and found.shape == lips.shape[:1]
        assert np.isfinite(lips).all() and np.abs(lips.mean(axis=0)).max() < 1e-3
        assert found[0] == 1 and set(np.unique(found)) <= {0.0, 1.0}


def test_the_first_layer_gives_components_without_mean(items: list[SyncItem]) -> None:
    model = SyncModel(CONFIG)
    fit_components(model, items)
    features = torch.from_numpy(np.concatenate([item.sound for item in items]).astype(np.float32))
    components = model.components(features)
    covariance = torch.cov(components.T)
    assert components.mean(dim=0).abs().max() < 1e-3
    assert (covariance - torch.diag(torch.diag(covariance))).abs().max() < 1e-2
    assert not model.components.weight.requires_grad


def test_a_clip_is_no_negative_of_its_own(items: list[SyncItem]) -> None:
    """Alone in its batch and silent, every shift is as good as any other: log 31."""
    torch.manual_seed(0)
    model = SyncModel(CONFIG).eval()
    lips = torch.from_numpy(items[0].lips)[None]
    model.sound[0].weight.data.zero_()  # type: ignore[operator, union-attr]
    for block in list(model.sound)[1:4]:
        block.time.weight.data.zero_()
    loss = contrastive_loss(model, torch.zeros(1, 110, 12), lips, torch.ones(1, 110), SyncRecipe(), 9)
    assert loss.item() == pytest.approx(np.log(31), abs=1e-3)
