"""Aesthetic scorers: the offline one prefers what it says it does; NIMA and LAION run on tiny models of the real classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    MobileNetV1Config,
    MobileNetV1ForImageClassification,
)

from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers.aesthetics import colourfulness
from avatar.data.scorers.nima import mean_rating
from avatar.errors import MissingDependencyError, WeightsError

ASTRONAUT = Path(__file__).resolve().parents[3] / "examples" / "astronaut.png"
PREPROCESSOR = {
    "image_processor_type": "X",
    "size": {"shortest_edge": 32},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


class StillClip:
    """Enough of a ClipMedia for a scorer that looks at frames."""

    scale = 1.0

    def __init__(self, frames: np.ndarray) -> None:
        self.row: dict[str, object] = {}
        self._frames = frames

    def frames(self) -> np.ndarray:
        return self._frames

    def tracks(self) -> list[object]:
        return []


def _score(name: str, frames: np.ndarray, **options: Any) -> dict[str, Any]:
    scorer = create_scorer(name, options)
    scorer.setup()
    values, error = score_clip(scorer, StillClip(frames))  # type: ignore[arg-type]
    assert error is None
    return values


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack([cv2.resize(cv2.imread(str(ASTRONAUT))[..., ::-1], (192, 192), interpolation=cv2.INTER_AREA)] * 3)


def test_dark_blurred_grey_and_noisy_pictures_score_lower(frames: np.ndarray) -> None:
    whole = _score("aesthetics", frames)
    assert whole["aes_backend"] == whole["iqa_backend"] == "heuristic-2"
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames])
    grey = np.repeat(frames.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 30, frames.shape)
    for worse in (frames // 6, blurred, grey):
        assert _score("aesthetics", worse)["aes_score"] < whole["aes_score"] - 0.5
    for worse in (frames // 20, blurred, np.clip(frames + noise, 0, 255).astype(np.uint8)):
        assert _score("aesthetics", worse)["iqa_score"] < whole["iqa_score"] - 5


def test_a_grey_picture_has_no_colour() -> None:
    assert colourfulness(np.full((8, 8, 3), 90, np.uint8)) == 0


def test_mean_and_spread_of_ratings_are_those_of_the_distribution() -> None:
    shares = np.eye(10)[[0, 9]]
    shares = np.concatenate([shares, np.full((1, 10), 0.1)])
    mean, spread = mean_rating(shares)
    np.testing.assert_allclose(mean, [1, 10, 5.5])
    np.testing.assert_allclose(spread, [0, 0, np.sqrt(8.25)], atol=1e-9)


@pytest.fixture
def nima(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = MobileNetV1Config(image_size=32, depth_multiplier=0.25, min_depth=4, num_labels=10)
    MobileNetV1ForImageClassification(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return tmp_path


def test_nima_rates_between_one_and_ten_and_says_who_did(nima: Path, frames: np.ndarray) -> None:
    values = _score("nima", frames, model=str(nima))
    assert 1 <= values["aes_score"] <= 10 and 0 < values["aes_std"] < 5
    assert values["aes_backend"] == f"nima:{nima}"


def test_a_classifier_without_ten_classes_is_no_nima(tmp_path: Path) -> None:
    config = MobileNetV1Config(image_size=32, depth_multiplier=0.25, min_depth=4, num_labels=3)
    MobileNetV1ForImageClassification(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    with pytest.raises(WeightsError, match="ten classes"):
        create_scorer("nima", {"model": str(tmp_path)}).setup()


@pytest.fixture
def laion(tmp_path: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=24,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "clip")
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    sizes, state = (24, 12, 8, 6, 4, 1), {}
    for layer, (size, next_size) in zip((0, 2, 4, 6, 7), zip(sizes, sizes[1:], strict=False), strict=True):
        linear = torch.nn.Linear(size, next_size)
        state |= {f"layers.{layer}.weight": linear.weight.data, f"layers.{layer}.bias": linear.bias.data}
    torch.save(state, tmp_path / "head.pth")
    return {"head": tmp_path / "head.pth", "clip": str(tmp_path / "clip")}


def test_laion_is_its_layers_on_clips_unit_vector(laion: dict[str, Any], frames: np.ndarray) -> None:
    values = _score("laion", frames, **laion, num_frames=1)
    model = CLIPVisionModelWithProjection.from_pretrained(laion["clip"]).eval()
    small = cv2.resize(frames[0], (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) / 127.5 - 1
    with torch.no_grad():
        x = model(pixel_values=torch.from_numpy(small.transpose(2, 0, 1)[None])).image_embeds
        x = x / x.norm()
        state = torch.load(laion["head"])
        for layer in (0, 2, 4, 6, 7):
            x = x @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
    assert abs(values["aes_score"] - x.item()) < 1e-4
    assert values["aes_backend"] == f"laion:{laion['clip']}"


def test_a_head_for_another_clip_is_refused(laion: dict[str, Any]) -> None:
    torch.save({f"layers.{k}.{part}": torch.zeros(3, 5) if part == "weight" else torch.zeros(3)
                for k in (0, 2, 4, 6, 7) for part in ("weight", "bias")}, laion["head"])  # fmt: skip
    with pytest.raises(WeightsError, match="the head takes 5 numbers"):
        create_scorer("laion", laion).setup()


def test_missing_weights_are_named_with_what_to_fetch(tmp_path: Path, laion: dict[str, Any]) -> None:
    with pytest.raises(MissingDependencyError, match="improved-aesthetic-predictor"):
        create_scorer("laion").setup()
    with pytest.raises(MissingDependencyError, match="hf download"):
        create_scorer("laion", laion | {"clip": str(tmp_path / "nothing")}).setup()
    with pytest.raises(MissingDependencyError, match="hf download"):
        create_scorer("nima", {"model": str(tmp_path / "nothing")}).setup()
