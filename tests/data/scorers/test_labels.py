"""Labels by tiny random classifiers of real classes; what is declared wins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar import face_mesh
from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers.labels import LabelScorer, main_faces
from avatar.errors import MissingDependencyError, OptionError, WeightsError
from avatar.types import Waveform

BASIS = "art. 9(2)(a), consent of the people shown"


class LabelledClip(ClipMedia):
    """Ten frames with a mean face that looks ahead, and a second of sound."""

    def __init__(self, has_face: bool = True, has_sound: bool = True, **declared: Any) -> None:
        super().__init__({"clip_id": "ef56", "source_uri": "none.mp4", "start_s": 0.0, "end_s": 0.4} | declared)
        rng = np.random.default_rng(0)
        self._pictures = rng.integers(0, 255, (10, 200, 200, 3), dtype=np.uint8)
        face = face_mesh.to_picture_axes(face_mesh.canonical_vertices() * 6) + np.float32((100, 100, 0))
        self._tracks = [FaceTrack(np.arange(10, dtype=np.int32), np.repeat(face[None], 10, 0))] if has_face else []
        self._waveform = Waveform(rng.standard_normal(16_000).astype(np.float32) * 0.1) if has_sound else None
        self._has_read_sound = True

    def full_frames(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [self._pictures[i] for i in indices]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    import torch
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    classes = {"emotion": ["neutral", "happy", "sad"], "sex": ["female", "male"], "unnamed": None}
    for kind, names in classes.items():
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=len(names or "ab"))
        if names:
            config.id2label = dict(enumerate(names))
        ResNetForImageClassification(config).save_pretrained(folder / kind)
        (folder / kind / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8), conv_stride=(5, 4),
        conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, id2label={0: "en", 1: "cy"},
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder / "language")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "language")
    return {path.name: str(path) for path in folder.iterdir()}


def labelled(clip: ClipMedia, **options: Any) -> dict[str, Any]:
    scorer = create_scorer("labels", options)
    scorer.setup()
    values, error = score_clip(scorer, clip)
    assert error is None
    return values


def test_with_no_model_named_nothing_is_said() -> None:
    scorer = LabelScorer()
    assert scorer.weights == ()
    assert labelled(LabelledClip()) == {}


def test_a_models_opinion_is_a_vector_of_probabilities(models: dict[str, str]) -> None:
    named = {kind: models[kind] for kind in ("emotion", "sex", "language")}
    values = labelled(LabelledClip(), models=named, legal_basis=BASIS)
    assert sum(values["emotion_probs"]) == pytest.approx(1) and len(values["emotion_probs"]) == 3
    assert values["emotion_label_set"] == "neutral|happy|sad"
    assert values["emotion"] in ("neutral", "happy", "sad")
    assert sum(values["apparent_sex_probs"]) == pytest.approx(1)
    assert "sex" not in values
    assert values["language"] in ("en", "cy") and 0.5 <= values["language_prob"] <= 1
    assert values["label_source"] == "model"
    assert f"sex={models['sex']} (female|male)" in values["label_backend"] and BASIS in values["label_backend"]


def test_what_the_corpus_declares_wins(models: dict[str, str]) -> None:
    named = {kind: models[kind] for kind in ("emotion", "sex", "language")}
    clip = LabelledClip(emotion="sad", sex="female", language="mi", label_source="declared")
    assert labelled(clip, models=named, legal_basis=BASIS) == {}
    beside = labelled(clip, models=named, legal_basis=BASIS, replace_declared=True)
    assert "emotion_probs" in beside and "apparent_sex_probs" in beside
    assert not {"emotion", "language"} & set(beside)  # probabilities stand beside the declared label
    assert beside["label_source"] == "declared"


def test_a_feeling_that_a_model_names_is_not_called_declared_because_another_label_is(models: dict[str, str]) -> None:
    values = labelled(LabelledClip(language="mi", label_source="declared"), models={"emotion": models["emotion"]})
    assert values["emotion"] in ("neutral", "happy", "sad")
    assert values["label_source"] == "declared and model"


def test_without_a_face_or_sound_there_is_no_opinion(models: dict[str, str]) -> None:
    clip = LabelledClip(has_face=False, has_sound=False)
    assert labelled(clip, models={"emotion": models["emotion"], "language": models["language"]}) == {}


def test_faces_are_cut_upright_at_the_models_size() -> None:
    faces = main_faces(LabelledClip(), 5, 32)
    assert [face.shape for face in faces] == [(32, 32, 3)] * 5


@pytest.mark.parametrize("kind", ["age", "sex", "ethnicity"])
def test_opinions_on_what_people_are_need_a_legal_basis(kind: str) -> None:
    with pytest.raises(OptionError, match="legal_basis"):
        create_scorer("labels", {"models": {kind: "some/model"}})


def test_labels_that_do_not_exist_and_models_that_cannot_be_used_are_named(
    models: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="no label is called beauty"):
        create_scorer("labels", {"models": {"beauty": "x"}})
    with pytest.raises(OptionError, match="one of emotion, emotion_voice"):
        create_scorer("labels", {"models": {"emotion": "x", "emotion_voice": "y"}})
    with pytest.raises(MissingDependencyError, match="hf download"):
        labelled(LabelledClip(), models={"emotion": str(tmp_path / "absent")})
    with pytest.raises(WeightsError, match="id2label"):
        labelled(LabelledClip(), models={"emotion": models["unnamed"]})
