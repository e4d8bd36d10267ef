from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from avatar.data.scorer import create_scorer, score_clip
from avatar.errors import MissingDependencyError, OptionError

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}


class StillClip:
    """Enough of a ClipMedia for a scorer that looks at frames."""

    def __init__(self, frames: np.ndarray) -> None:
        self.row: dict[str, object] = {}
        self._frames = frames

    def frames(self) -> np.ndarray:
        return self._frames


@pytest.fixture(params=["dinov2", "clip"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    if request.param == "dinov2":
        model = Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2))
    else:
        text = {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 50,
            "intermediate_size": 16,
        }
        model = CLIPModel(
            CLIPConfig(text_config=text, vision_config=SIZES | {"intermediate_size": 32}, projection_dim=16)
        )
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 56}, "image_mean": [0.5] * 3,
                    "image_std": [0.5] * 3})
    )  # fmt: skip
    return tmp_path


def test_a_tiny_model_of_the_real_class_gives_a_unit_vector_that_tells_pictures_apart(folder: Path) -> None:
    scorer = create_scorer("embedding", {"model": str(folder)})
    scorer.setup()
    rng = np.random.default_rng(0)
    one = np.repeat(rng.integers(0, 255, (1, 60, 80, 3), dtype=np.uint8), 6, axis=0)
    vectors = []
    for frames in (one, one + 1, rng.integers(0, 255, (6, 60, 80, 3), dtype=np.uint8)):
        values, error = score_clip(scorer, StillClip(frames))  # type: ignore[arg-type]
        assert error is None
        vectors.append(np.array(values["embedding"]))
    assert np.isclose(np.linalg.norm(vectors[0]), 1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_a_model_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    scorer = create_scorer("embedding", {"model": str(tmp_path / "absent")})
    with pytest.raises(MissingDependencyError, match="hf download"):
        scorer.setup()


def test_no_frames_is_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        create_scorer("embedding", {"model": "x", "num_frames": 0})
