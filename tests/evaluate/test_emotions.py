"""The classifier of emotions on examples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.codec.mesh.rig import default_rig
from avatar.evaluate.emotions import EmotionClassifier, clip_features, confusion, expression_measures


def _examples(seed: int, num: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 3
    mixing = np.array([[1.0, 0.9, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 5.0]])
    means = np.array([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, -2.0, 0.0]])  # apart where correlated noise hides it
    return means[labels] + rng.normal(size=(num, 3)) @ mixing, labels


def test_correlated_noise_that_hides_the_labels_from_plain_distance_is_seen_through() -> None:
    features, labels = _examples(0, 300)
    fresh, truth = _examples(1, 300)
    classifier = EmotionClassifier.fit(features, labels)
    assert (classifier.predict(fresh) == truth).mean() > 0.97
    nearest = np.linalg.norm(fresh[:, None] - classifier.means, axis=2).argmin(axis=1)
    assert (nearest == truth).mean() < 0.9


def test_strength_is_zero_at_neutral_one_at_the_label_and_linear() -> None:
    classifier = EmotionClassifier.fit(*_examples(0))
    halves = np.stack([classifier.means[0], classifier.means[[0, 1]].mean(axis=0), classifier.means[1]])
    np.testing.assert_allclose(classifier.strength(halves, 1), [0, 0.5, 1], atol=1e-9)


def test_confusion_counts_true_labels_in_rows() -> None:
    assert confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("name", ["brow_inner_up", "brow_down_l", "eye_wide", "nose_sneer", "cheek_squint", "mouth_smile_r",
                                  "mouth_frown", "mouth_stretch"])  # fmt: skip
def test_every_shape_that_emotions_are_made_of_is_measured(name: str) -> None:
    rig = default_rig()
    measures = expression_measures(rig.displacement(rig.weights(1, **{name: 1.0})))
    assert np.abs(measures).max() > 0.1


def test_features_begin_after_the_expression_has_settled() -> None:
    motion = np.zeros((40, 478, 3))
    motion[:20] = 9.0
    assert not clip_features(motion).any()
