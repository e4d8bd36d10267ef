"""The estimator is fitted to what the lips of the training data do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar.audio.alignment import audio_windows
from avatar.audio.opening import OpeningEstimator
from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.evaluate.correlation import correlation
from avatar.train.motion_cache import MotionItem
from avatar.train.opening import fit_opening

FRAMES, DIM = 81, 6
WEIGHT, BIAS = torch.eye(DIM)[0], torch.tensor(0.1)


def spoken(seed: int, smile: float) -> tuple[MotionItem, MeshMotion]:
    """Features whose first number is the jaw; a smile halves how far it opens."""
    rng, rig = np.random.default_rng(seed), default_rig()
    jaw = 0.5 + 0.5 * np.sin(np.arange(FRAMES) / 2.3 + seed)
    shapes = {
        "jaw_open": jaw * (1 - smile / 2),
        "mouth_smile_l": np.full(FRAMES, smile),
        "mouth_smile_r": np.full(FRAMES, smile),
    }
    weights = rig.weights(FRAMES, **shapes).astype(np.float16)
    features = rng.normal(size=(2 * FRAMES, DIM)).astype(np.float16)
    features[:, 0] = np.repeat(jaw, 2) - 0.1
    expression = rig.weights(1, mouth_smile_l=smile, mouth_smile_r=smile)[0, : rig.num_named]
    still = np.zeros((FRAMES, 3), np.float16)
    item = MotionItem(features, weights, still, np.zeros(8), expression, np.zeros((4, 4)))
    return item, MeshMotion(
        rig.displacement(weights.astype(np.float32)), *(still.astype(np.float32),) * 2, still[:, :2]
    )


@pytest.fixture(scope="module")
def estimator() -> OpeningEstimator:
    return fit_opening([spoken(k, smile)[0] for k in range(4) for smile in (0.0, 0.5, 1.0)], WEIGHT, BIAS)


@torch.no_grad()
@pytest.mark.parametrize("smile", [0.0, 0.7])
def test_the_opening_is_heard_under_each_expression(estimator: OpeningEstimator, smile: float) -> None:
    item, motion = spoken(9, smile)
    numbers = GeometryLatent().encode(motion).permute(1, 0, 2, 3).flatten(1)
    features = torch.from_numpy(item.features.astype(np.float32))
    windows = audio_windows(features, 0, len(numbers), temporal_stride=4, margin_features=4)
    heard = estimator.estimate(windows, torch.from_numpy(item.expression)[None]).flatten()[4:].numpy()
    truth = (numbers @ estimator.gap).flatten()[4:].numpy()
    assert correlation(heard, truth) > 0.98
    assert np.abs(heard - truth).mean() < 0.15 * truth.mean()


def test_what_is_added_to_the_opening_is_what_the_opening_gains(estimator: OpeningEstimator) -> None:
    gained = estimator.direction @ estimator.gap
    torch.testing.assert_close(gained, torch.eye(4), atol=1e-3, rtol=0)
