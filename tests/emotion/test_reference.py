"""What the caller said about emotion, understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.emotion.labels import EMOTIONS
from avatar.emotion.reference import EmotionReference, felt_expression, read_emotion
from avatar.errors import OptionError
from avatar.types import Waveform

SILENCE = Waveform(np.zeros(16_000, np.float32))


def _no_picture(path: Path) -> np.ndarray:
    raise AssertionError(f"{path} was taken for a picture")


def _label_weights(reference: EmotionReference) -> dict[str, float]:
    assert reference.labels is not None and reference.expression is None
    return {name: weight for name, weight in zip(EMOTIONS, reference.labels.weights, strict=True) if weight}


def test_a_label_is_a_label_and_the_rest_is_neutral() -> None:
    assert _label_weights(read_emotion("happy", SILENCE, _no_picture)) == {"happy": 1}
    assert _label_weights(read_emotion("happy:0.6", SILENCE, _no_picture)) == pytest.approx(
        {"happy": 0.6, "neutral": 0.4}
    )
    assert _label_weights(read_emotion("neutral:0.5", SILENCE, _no_picture)) == {"neutral": 1}
    mixed = read_emotion("happy:0.5,surprised:0.3", SILENCE, _no_picture)
    assert _label_weights(mixed) == pytest.approx({"happy": 0.5, "surprised": 0.3, "neutral": 0.2})


def test_auto_asks_the_voice() -> None:
    assert _label_weights(read_emotion("auto", SILENCE, _no_picture)) == {"neutral": 1}


def test_an_existing_file_is_a_picture_as_text_and_as_path(tmp_path: Path) -> None:
    picture = tmp_path / "smile.png"
    picture.touch()
    seen = []

    def expression_of(path: Path) -> np.ndarray:
        seen.append(path)
        return np.array([0.9, 0.0], np.float32)

    for said in (picture, str(picture)):
        reference = read_emotion(said, SILENCE, expression_of)
        assert reference.labels is None and reference.expression is not None
        assert reference.expression.tolist() == pytest.approx([0.9, 0.0])
    assert seen == [picture, picture]


def test_a_file_that_is_called_like_a_label_is_reached_by_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("happy").touch()
    asked = []
    read_emotion(Path("happy"), SILENCE, lambda path: asked.append(path) or np.zeros(3, np.float32))
    assert asked == [Path("happy")]
    assert _label_weights(read_emotion("happy", SILENCE, _no_picture)) == {"happy": 1}


@pytest.mark.parametrize("text", ["hapy", "Happy", "", "smile.png", "auto:0.5", "x" * 5000])
def test_nonsense_is_neither(text: str) -> None:
    with pytest.raises(OptionError, match="is neither an emotion nor a picture; accepted: neutral, happy, .* or auto"):
        read_emotion(text, SILENCE, _no_picture)


def test_a_bad_strength_is_not_taken_for_a_file() -> None:
    with pytest.raises(OptionError, match="must lie between 0 and 1"):
        read_emotion("happy:2", SILENCE, _no_picture)
    with pytest.raises(OptionError, match="unknown emotion 'glad'"):
        read_emotion("happy:0.5,glad", SILENCE, _no_picture)


def test_tensors_for_the_encoder() -> None:
    labels, expression = read_emotion("sad", SILENCE, _no_picture).as_tensors("cpu")
    assert labels is not None and labels.shape == (1, 1, 8) and labels[0, 0, EMOTIONS.index("sad")] == 1
    assert expression is None
    labels, expression = EmotionReference(None, np.ones(41, np.float32)).as_tensors("cpu")
    assert labels is None and expression is not None and expression.shape == (1, 1, 41)


def test_what_is_felt_is_left_of_an_expression() -> None:
    names = ["mouth_smile_l", "mouth_smile_r", "brow_inner_up", "jaw_open", "nose_sneer_l"]
    felt = felt_expression(np.array([1.0, 0.2, 0.3, 0.9, 0.6], np.float32), names)
    assert felt.dtype == np.float32
    assert felt[0] == 1  # all of a full smile
    assert felt[1] == felt[2] == 0  # faces at rest show that much
    assert felt[3] == 0  # an open jaw is speech
    assert 0.3 < felt[4] < 0.6
    neutral = felt_expression(np.zeros(5, np.float32), names)
    assert not neutral.any()


def test_stronger_is_felt_more_strongly() -> None:
    felt = [float(felt_expression(np.array([w], np.float32), ["brow_down_l"])[0]) for w in (0.2, 0.5, 0.8, 1.0)]
    assert felt == sorted(felt) and felt[0] < felt[1] < felt[3] == 1
