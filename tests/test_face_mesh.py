"""The shared mesh: its topology, its axes, and the similarity fit."""

from __future__ import annotations

import numpy as np
import pytest

from avatar import face_mesh


def _edges() -> set[tuple[int, int]]:
    corners = face_mesh.triangles()
    pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    return {(int(min(a, b)), int(max(a, b))) for a, b in pairs}


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    a, b, c = np.radians([yaw, -pitch, -roll])
    ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return ry @ rx @ rz


@pytest.mark.parametrize(
    "name",
    ["FACE_OVAL", "LIPS_OUTER", "LIPS_MIDDLE_OUTER", "LIPS_MIDDLE_INNER", "LIPS_INNER", "RIGHT_EYE", "LEFT_EYE"],
)
def test_rings_follow_the_edges_of_the_mesh(name: str) -> None:
    ring, edges = getattr(face_mesh, name), _edges()
    assert len(set(ring)) == len(ring)
    assert all((min(a, b), max(a, b)) in edges for a, b in zip(ring, ring[1:] + ring[:1], strict=True))


def test_canonical_axes_are_right_up_and_towards_the_camera() -> None:
    mean = face_mesh.canonical_vertices()
    assert mean.shape == (478, 3)
    assert mean[face_mesh.LEFT_EYE[0], 0] > 0 > mean[face_mesh.RIGHT_EYE[0], 0]
    assert mean[face_mesh.FOREHEAD_TOP, 1] > mean[face_mesh.CHIN, 1]
    assert mean[face_mesh.NOSE_TIP, 2] > mean[list(face_mesh.FACE_OVAL), 2].max()
    assert float(face_mesh.outer_eye_distance(mean)) == pytest.approx(8.89, abs=0.01)


def test_holes_are_the_eyes_and_the_mouth() -> None:
    assert len(face_mesh.triangles()) == 898
    assert len(face_mesh.skin_triangles()) == 852


def test_shared_arrays_cannot_be_changed_by_a_caller() -> None:
    for array in (face_mesh.canonical_vertices(), face_mesh.triangles(), face_mesh.skin_triangles()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_inner_lip_pairs_face_each_other() -> None:
    mean = face_mesh.canonical_vertices()
    for upper, lower in face_mesh.INNER_LIP_PAIRS:
        assert abs(mean[upper, 0] - mean[lower, 0]) < 0.25
        assert abs(mean[upper, 1] - mean[lower, 1]) < 0.6, "the mean face keeps its lips a little apart"


def test_similarity_is_recovered_exactly() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(50, 3))
    rotation = _rotation(20, -10, 130)
    points = 3.5 * reference @ rotation.T + (1, -2, 3)
    fit = face_mesh.fit_similarity(reference, points, rng.uniform(0.1, 2, 50))
    assert fit.scale == pytest.approx(3.5)
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(fit.apply(reference), points, atol=1e-9)
    np.testing.assert_allclose(fit.invert(points), reference, atol=1e-9)


def test_similarity_never_reflects() -> None:
    reference = np.random.default_rng(1).normal(size=(20, 3))
    fit = face_mesh.fit_similarity(reference, reference * (-1, 1, 1))
    assert np.linalg.det(fit.rotation) == pytest.approx(1.0)


def test_points_of_no_weight_do_not_move_the_fit() -> None:
    reference = np.random.default_rng(2).normal(size=(20, 3))
    points, weights = reference.copy(), np.ones(20)
    points[0] += 100
    weights[0] = 0
    fit = face_mesh.fit_similarity(reference, points, weights)
    np.testing.assert_allclose(fit.rotation, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(25, 0, 0), (0, 15, 0), (0, 0, 30), (-20, -10, 5), (10, 12, -80)])
def test_head_pose_returns_the_angles_it_was_made_of(yaw: float, pitch: float, roll: float) -> None:
    pose = face_mesh.head_pose(_rotation(yaw, pitch, roll))
    assert (pose.yaw_deg, pose.pitch_deg, pose.roll_deg) == pytest.approx((yaw, pitch, roll), abs=1e-6)


def test_signs_of_the_pose_are_the_picture_s() -> None:
    nose, top = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    assert (_rotation(20, 0, 0) @ nose)[0] > 0, "positive yaw: the nose points to the picture's right"
    assert (_rotation(0, 20, 0) @ nose)[1] > 0, "positive pitch: the nose points up"
    assert (_rotation(0, 0, 20) @ top)[0] > 0, "positive roll: the top of the head leans right, clockwise"


def test_mirroring_the_face_exchanges_its_sides() -> None:
    mirror = face_mesh.mirror_points()
    assert (mirror[mirror] == np.arange(face_mesh.NUM_POINTS)).all()
    exchanged = face_mesh.canonical_vertices()[mirror] * (-1, 1, 1)
    assert np.abs(exchanged - face_mesh.canonical_vertices())[: face_mesh.NUM_SKIN_POINTS].max() < 0.02
    assert set(mirror[list(face_mesh.RIGHT_EYE)]) == set(face_mesh.LEFT_EYE)
    assert mirror[470] == 475
