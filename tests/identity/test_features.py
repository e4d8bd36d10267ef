"""Identity features are the same for the same face, whatever the picture, and differ between faces."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from avatar import face_mesh
from avatar.identity.features import (
    FEATURE_DIM,
    NUM_FEATURE_TOKENS,
    NUM_GEOMETRY_TOKENS,
    appearance_features,
    canonical_samples,
    close_lips,
    geometry_features,
    identity_features,
    with_unknown_appearance,
)
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.types import Face, Portrait

FaceMaker = Callable[..., Face]


def _portrait(detector: MediaPipeFaces, image: np.ndarray) -> Portrait:
    return Portrait(image, detector.detect(image)[0])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_features_have_their_shape_and_about_unit_scale(portrait: Portrait) -> None:
    features = identity_features(portrait)
    assert features.shape == (NUM_FEATURE_TOKENS, FEATURE_DIM)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 4
    assert (features.std(axis=1) > 0.1).all()
    np.testing.assert_array_equal(features, identity_features(portrait))


def test_the_mean_face_has_no_geometry() -> None:
    np.testing.assert_allclose(geometry_features(face_mesh.canonical_vertices()), 0, atol=1e-6)


def test_geometry_does_not_depend_on_the_head_s_pose(make_face: FaceMaker) -> None:
    picture = np.zeros((600, 600, 3), np.uint8)
    for turn in ({"yaw": 25}, {"pitch": -15}, {"roll": 40}, {"eye_px": 160}):
        features = identity_features(Portrait(picture, make_face(300, 300, **turn)))
        np.testing.assert_allclose(features[:NUM_GEOMETRY_TOKENS], 0, atol=1e-3)


def test_each_region_changes_its_own_row() -> None:
    shape = face_mesh.canonical_vertices().copy()
    shape[list(face_mesh.RIGHT_BROW), 1] += 0.3
    changed = np.abs(geometry_features(shape)).max(axis=1) > 0.1
    assert changed.tolist() == [False, False, False, False, True]


def test_an_open_mouth_is_not_an_identity() -> None:
    mean = face_mesh.canonical_vertices()
    seam = mean[[13, 14], 1].mean()
    below = np.isin(np.arange(478), [pair[1] for pair in face_mesh.INNER_LIP_PAIRS]) | (mean[:, 1] < seam - 0.3)
    wide = mean.copy()
    wide[below, 1] -= 1.5 * np.exp(-((mean[below, 0] / 3) ** 2))
    closed = close_lips(wide)
    for upper, lower in face_mesh.INNER_LIP_PAIRS:
        assert abs(closed[upper, 1] - closed[lower, 1]) < 0.05
    mouth = np.abs(geometry_features(wide))[1].mean()
    assert mouth < 0.5 * np.abs((wide - mean)[list(face_mesh.LIPS)] * 2.5).mean()


def test_samples_show_the_same_places_at_any_size(portrait: Portrait, detector: MediaPipeFaces) -> None:
    colours, inside = canonical_samples(portrait)
    assert colours.shape == (24, 24, 3)
    assert 0.6 < inside.mean() < 0.9
    large = _portrait(detector, cv2.resize(portrait.image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))
    assert np.abs(canonical_samples(large)[0] - colours)[inside].mean() < 5


@pytest.mark.parametrize("gain", [0.6, 1.0, 1.25])
def test_appearance_does_not_depend_on_brightness(portrait: Portrait, gain: float) -> None:
    image = np.clip(portrait.image.astype(np.float32) * gain, 0, 255).astype(np.uint8)
    changed = appearance_features(Portrait(image, portrait.face))
    assert _distance(changed, appearance_features(portrait)) < 0.25


def test_features_hold_under_size_and_turn_and_differ_between_faces(
    portrait: Portrait, detector: MediaPipeFaces
) -> None:
    own = identity_features(portrait)
    turn = cv2.getRotationMatrix2D((225, 125), 12, 1.4)
    turned = cv2.warpAffine(portrait.image, turn, (512, 512), flags=cv2.INTER_CUBIC, borderValue=(128, 128, 128))
    same = _distance(identity_features(_portrait(detector, turned)), own)
    squeezed = cv2.resize(portrait.image, (410, 512), interpolation=cv2.INTER_AREA)  # a narrower face
    other = _distance(identity_features(_portrait(detector, squeezed)), own)
    assert same < 0.3
    assert other > 1.5 * same


def test_unknown_appearance_is_zero() -> None:
    rows = geometry_features(face_mesh.canonical_vertices() * 1.02)
    full = with_unknown_appearance(np.stack([rows, rows]))
    assert full.shape == (2, NUM_FEATURE_TOKENS, FEATURE_DIM)
    assert not full[:, NUM_GEOMETRY_TOKENS:].any()
    np.testing.assert_array_equal(full[0, :NUM_GEOMETRY_TOKENS], rows)
