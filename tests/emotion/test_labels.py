"""How emotions are written, and the expressions they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.codec.mesh.rig import default_rig
from avatar.emotion.labels import EMOTIONS, EXPRESSIONS, EmotionMix
from avatar.errors import OptionError


@pytest.mark.parametrize("label", EMOTIONS)
def test_a_label_alone_is_all_of_it(label: str) -> None:
    mix = EmotionMix.parse(label)
    assert dict(zip(EMOTIONS, mix.weights, strict=True)) == {name: float(name == label) for name in EMOTIONS}


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("happy:0.6", {"happy": 0.6}),
        ("happy:0.5,surprised:0.3", {"happy": 0.5, "surprised": 0.3}),
        (" sad:0.25 , angry:.5 ", {"sad": 0.25, "angry": 0.5}),
        ("happy:0.25,happy:0.25", {"happy": 0.5}),
        ("fearful:0", {}),
        ("contempt:1.0", {"contempt": 1.0}),
    ],
)
def test_strengths_and_mixes(text: str, weights: dict[str, float]) -> None:
    expected = [weights.get(name, 0.0) for name in EMOTIONS]
    assert EmotionMix.parse(text).weights == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hapy", r"unknown emotion 'hapy'; accepted: neutral, happy, .*contempt, each with a strength if wanted"),
        ("", "unknown emotion ''"),
        ("happy,,sad", "unknown emotion ''"),
        ("happy:very", "the strength in 'happy:very' is not a number between 0 and 1"),
        ("happy:1.2", r"the strength in 'happy:1.2' must lie between 0 and 1"),
        ("happy:-0.1", "must lie between 0 and 1"),
        ("happy:nan", "must lie between 0 and 1"),
        ("sad:0.7,angry:0.6", r"the strengths in 'sad:0.7,angry:0.6' add up to 1.3; together they may be 1 at most"),
        ("sad,angry", "add up to 2"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EmotionMix.parse(text)


def test_every_label_has_an_expression() -> None:
    assert set(EXPRESSIONS) == set(EMOTIONS)
    assert EXPRESSIONS["neutral"] == {}


@pytest.mark.parametrize("label", [name for name in EMOTIONS if name != "neutral"])
def test_expressions_name_existing_shapes_within_their_bounds(label: str) -> None:
    rig = default_rig()
    weights = rig.weights(1, **EXPRESSIONS[label])[0]  # an unknown shape raises
    assert weights.any()
    assert (weights >= rig.lower).all() and (weights <= rig.upper).all()


def test_expressions_differ_from_one_another() -> None:
    rig = default_rig()
    shapes = {name: rig.displacement(rig.weights(1, **EXPRESSIONS[name]))[0] for name in EMOTIONS}
    for one in EMOTIONS:
        for other in EMOTIONS:
            if one < other:
                assert np.linalg.norm(shapes[one] - shapes[other], axis=1).max() > 0.15, (one, other)
