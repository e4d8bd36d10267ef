"""Speech and feeling to the whole face."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avatar.codec.mesh.rig import Rig, default_rig
from avatar.data.synthetic.faces import random_face
from avatar.data.synthetic.motion import Performance, expression_weights, perform, speech_weights
from avatar.data.synthetic.phones import CHANNELS
from avatar.data.synthetic.synthesise import Utterance
from avatar.emotion.labels import EMOTIONS
from avatar.face_mesh import INNER_LIP_PAIRS, canonical_vertices

Say = Callable[..., Utterance]
UPPER, LOWER = ([pair[k] for pair in INNER_LIP_PAIRS] for k in (0, 1))


@pytest.fixture(scope="module")
def rig() -> Rig:
    return default_rig()


def _gap(rig: Rig, weights: np.ndarray) -> np.ndarray:
    """(T, 9) height between the inner lips, the fifth at the centre, canonical units; neutral lips just touch."""
    expression = rig.displacement(weights)
    return expression[:, UPPER, 1] - expression[:, LOWER, 1]


def _feeling(name: str, strength: float = 1.0) -> tuple[float, ...]:
    weights = dict.fromkeys(EMOTIONS, 0.0) | {name: strength}
    weights["neutral"] += 1 - sum(weights.values())
    return tuple(weights.values())


def _sentence(say: Say) -> Utterance:
    return say(("sil", 0.3), ("t", 0.08), ("a", 0.2), ("m", 0.08), ("a", 0.2), ("p", 0.09), ("ɑ", 0.2), ("b", 0.07), ("o", 0.2),
               ("sil", 0.4))  # fmt: skip


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_lips_meet_at_every_bilabial_whatever_is_felt(rig: Rig, say: Say, emotion: str) -> None:
    utterance = _sentence(say)
    motion = perform(utterance, rig, Performance(emotion=_feeling(emotion)), np.random.default_rng(0))
    gap = _gap(rig, motion.weights)
    for k in (3, 5, 7):
        first, last = (int(utterance.ends_s[j] * 25) for j in (k - 1, k))
        sealed = gap[max(0, first - 1) : last + 1]
        assert sealed[:, 4].min() <= 0.1, (emotion, k)
        assert sealed.max(axis=1).min() <= 0.2, (emotion, k)  # a sneer lifts the sides a little
    assert gap.max() > 0.6  # and part in between


def test_sealed_curves_seal_the_lips_whatever_the_jaw_does(rig: Rig) -> None:
    curves = np.zeros((3, len(CHANNELS)))
    curves[:, CHANNELS.index("jaw")] = (0.0, 0.3, 0.6)
    curves[:, CHANNELS.index("close")] = 1
    assert _gap(rig, speech_weights(curves, rig)).max() <= 0.15


def test_in_silence_the_lips_rest(rig: Rig, say: Say) -> None:
    motion = perform(say(("sil", 2.0)), rig, Performance(), np.random.default_rng(0))
    assert _gap(rig, motion.weights).max() < 0.1
    assert np.abs(rig.displacement(motion.weights)).max() < 0.2


def test_weights_stay_within_the_rigs_bounds(rig: Rig, say: Say) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        motion = perform(_sentence(say), rig, Performance.sample(rng, 1.2), rng)
        assert (motion.weights >= rig.lower).all() and (motion.weights <= rig.upper).all()
        assert np.degrees(np.abs(motion.rotation)).max() < 15
        assert len(motion.weights) == len(motion.rotation) == len(motion.translation) == len(motion.gaze)


def test_a_feeling_shows_in_the_face(rig: Rig, say: Say) -> None:
    def mean(emotion: str, shape: str) -> float:
        motion = perform(_sentence(say), rig, Performance(emotion=_feeling(emotion)), np.random.default_rng(0))
        return float(motion.weights[:, rig.index(shape)].mean())

    assert mean("happy", "mouth_smile_l") > mean("neutral", "mouth_smile_l") + 0.3
    assert mean("angry", "brow_down_l") > mean("neutral", "brow_down_l") + 0.4
    assert mean("surprised", "eye_wide_r") > mean("neutral", "eye_wide_r") + 0.3


def test_expressions_mix_linearly(rig: Rig) -> None:
    def shown(expression: dict[str, float] | None = None, **emotion: float) -> np.ndarray:
        weights = tuple(emotion.get(name, 0.0) for name in EMOTIONS)
        return expression_weights(Performance(emotion=weights, expression=expression or {}), rig)

    mixed = shown(happy=0.5, surprised=0.25)
    assert np.allclose(mixed, 0.5 * shown(happy=1.0) + 0.25 * shown(surprised=1.0), atol=1e-6)
    assert not shown(neutral=1.0).any()
    nameless = shown({"cheek_puff": 0.4})
    assert nameless[rig.index("cheek_puff")] == pytest.approx(0.4)
    assert (shown({"mouth_smile": 0.9}, happy=1.0) <= rig.upper).all()


def test_stress_is_marked_by_head_and_brows(rig: Rig, say: Say) -> None:
    spoken = [("sil", 0.4), *[("a", 0.25)] * 10, ("sil", 0.4)]
    level = [0.0, *([0.05, 0.05, 0.05, 0.05, 0.5] * 2), 0.0]
    utterance = say(*spoken, level=level)
    for seed in range(4):
        lively, stiff = (
            perform(utterance, rig, Performance(nod=x, brow=x), np.random.default_rng(seed)) for x in (1.5, 0.0)
        )
        assert np.ptp(stiff.rotation[:, 0]) < np.radians(0.1) < np.ptp(lively.rotation[:, 0])
        raised = lively.weights[:, rig.index("brow_inner_up")] - stiff.weights[:, rig.index("brow_inner_up")]
        assert raised.min() >= 0
        if raised.max() > 0.1:
            break
    else:
        pytest.fail("no stress raised the brows")


def test_the_same_chance_gives_the_same_performance(rig: Rig, say: Say) -> None:
    one, same = (
        perform(_sentence(say), rig, Performance(emotion=_feeling("happy")), np.random.default_rng(3)) for _ in range(2)
    )
    assert np.array_equal(one.weights, same.weights) and np.array_equal(one.rotation, same.rotation)


def test_about_half_of_all_performances_have_no_named_feeling_and_mixes_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    emotions = np.array([Performance.sample(rng).emotion for _ in range(400)])
    assert np.allclose(emotions.sum(axis=1), 1) and emotions.min() > -1e-9
    assert 0.45 < (emotions[:, 0] == 1).mean() < 0.65
    assert (emotions[:, 1:].max(axis=0) > 0.8).all()


def test_random_faces_are_people() -> None:
    rng = np.random.default_rng(0)
    faces, amplitudes = zip(*(random_face(rng) for _ in range(50)), strict=True)
    shapes = np.stack(faces)
    assert shapes.shape == (50, 478, 3) and shapes.dtype == np.float32
    assert 0.8 <= min(amplitudes) < max(amplitudes) <= 1.2
    mean = canonical_vertices()
    assert np.abs(shapes.mean(axis=0) - mean).max() < 0.5
    width, height = np.ptp(shapes[:, :468, 0], axis=1), np.ptp(shapes[:, :468, 1], axis=1)
    assert 0.02 < width.std() / width.mean() < 0.12
    assert 0.01 < height.std() / height.mean() < 0.12
    mirror = np.abs(shapes[:, 33, 0] + shapes[:, 263, 0])  # both outer eye corners
    assert mirror.max() < 0.2
