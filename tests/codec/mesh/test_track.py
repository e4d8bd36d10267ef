"""A synthetic clip, projected from known geometry, gives that geometry back."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from avatar.codec.mesh.pose import HEAD_PIVOT
from avatar.codec.mesh.rig import default_rig
from avatar.codec.mesh.rig_shapes_field import closed_vertices
from avatar.codec.mesh.track import clip_geometry, lip_gap, opening_field, portrait_geometry
from avatar.errors import NoFaceError
from avatar.face_mesh import LIPS_INNER, LIPS_OUTER, to_picture_axes
from avatar.types import BBox, Face, HeadPose

EDGES = list(LIPS_OUTER + LIPS_INNER)
SCALE = 20.0


def _landmarks(shapes: np.ndarray, rotations: Rotation | None = None) -> np.ndarray:
    """Canonical shapes (T, 478, 3) seen by a camera, px."""
    if rotations is not None:
        shapes = np.stack([(s - HEAD_PIVOT) @ r.as_matrix().T + HEAD_PIVOT
                           for s, r in zip(shapes, rotations, strict=True)])  # fmt: skip
    return to_picture_axes(shapes * SCALE + np.array([300.0, -280.0, 0.0]))


def _face(shape: np.ndarray) -> Face:
    return Face(BBox(0, 0, 1, 1), _landmarks(shape[None])[0].astype(np.float32), HeadPose(0, 0, 0))


def _talking(num_frames: int) -> np.ndarray:
    rig = default_rig()
    phase = np.linspace(0, 6 * np.pi, num_frames)
    weights = rig.weights(num_frames, jaw_open=0.5 * np.maximum(np.sin(phase), 0), mouth_pucker=0.2)
    return rig.displacement(weights)


def test_portrait_is_put_together_again_exactly() -> None:
    rig = default_rig()
    face = _face(closed_vertices() + rig.displacement(rig.weights(jaw_open=0.4, mouth_smile=0.5))[0])
    geometry = portrait_geometry(face)
    rebuilt = to_picture_axes(geometry.head.apply(geometry.neutral + geometry.own_expression))
    np.testing.assert_allclose(rebuilt, face.landmarks, atol=1e-2)


def test_closed_lips_have_no_expression_of_their_own() -> None:
    assert not portrait_geometry(_face(closed_vertices())).own_expression.any()


@pytest.mark.parametrize("opening", [{"jaw_open": 0.5}, {"mouth_upper_up": 0.7, "mouth_lower_down": 0.8}])
def test_an_open_portrait_is_closed_and_keeps_its_smile(opening: dict[str, float]) -> None:
    rig = default_rig()
    smile = closed_vertices() + rig.displacement(rig.weights(mouth_smile=0.8))[0]
    geometry = portrait_geometry(_face(smile + rig.displacement(rig.weights(**opening))[0]))
    assert lip_gap(geometry.shape).max() > 0.5
    assert np.abs(lip_gap(geometry.neutral)).max() < 0.06
    width = geometry.neutral[291, 0] - geometry.neutral[61, 0]
    assert width == pytest.approx(smile[291, 0] - smile[61, 0], rel=0.06)


def test_the_opening_field_opens_by_the_gap_asked_for() -> None:
    gap = np.array([0.3, 0.6, 0.9, 1.0, 1.1, 1.0, 0.9, 0.6, 0.3])
    field = opening_field(gap)
    np.testing.assert_allclose(lip_gap(field), gap, atol=1e-9)
    assert field[152, 1] < 0  # the chin goes down
    assert np.abs(field[[33, 263, 10, 1]]).max() < 1e-6


def test_a_clip_gives_its_expression_back() -> None:
    truth = _talking(100)
    rotations = Rotation.from_rotvec(np.column_stack([0.0 * np.arange(100), 0.2 * np.sin(np.arange(100) / 15),
                                                      0.05 * np.cos(np.arange(100) / 20)]))  # fmt: skip
    clip = clip_geometry(_landmarks(closed_vertices() + truth, rotations), np.ones(100, bool))
    moved = clip.neutral + clip.motion.expression - (closed_vertices() + truth)
    assert np.linalg.norm(moved[:, EDGES], axis=-1).mean() < 0.06
    gap = lip_gap(truth)[:, 4]
    assert np.corrcoef(gap, lip_gap(clip.motion.expression)[:, 4])[0, 1] > 0.995
    np.testing.assert_allclose(clip.motion.rotation - clip.motion.rotation.mean(axis=0),
                               rotations.as_rotvec() - rotations.as_rotvec().mean(axis=0), atol=0.02)  # fmt: skip


def test_turning_about_the_neck_is_no_translation() -> None:
    rotations = Rotation.from_rotvec(np.outer(np.linspace(-0.2, 0.2, 21), [0.0, 1.0, 0.0]))
    still = np.repeat(closed_vertices()[None], 21, axis=0)
    motion = clip_geometry(_landmarks(still, rotations), np.ones(21, bool), reference_frame=10).motion
    assert np.abs(motion.translation).max() < 0.01
    np.testing.assert_allclose(motion.rotation[:, 1], np.linspace(-0.2, 0.2, 21), atol=0.005)


def test_a_one_frame_opening_survives_the_smoothing() -> None:
    shapes = np.repeat(closed_vertices()[None], 31, axis=0)
    rig = default_rig()
    shapes[15] += rig.displacement(rig.weights(jaw_open=0.6))[0]
    gap = lip_gap(clip_geometry(_landmarks(shapes), np.ones(31, bool)).motion.expression)[:, 4]
    assert gap[15] > 0.78 * 1.5


def test_frames_without_a_face_are_filled_from_their_neighbours() -> None:
    landmarks = _landmarks(closed_vertices() + _talking(40))
    found = np.ones(40, bool)
    found[18:21] = False
    broken = landmarks.copy()
    broken[18:21] = 0.0
    motion = clip_geometry(broken, found).motion
    assert np.isfinite(motion.expression).all()
    assert np.abs(motion.expression[19] - clip_geometry(landmarks, np.ones(40, bool)).motion.expression[19]).max() < 1.5


def test_a_clip_without_a_face_is_refused() -> None:
    with pytest.raises(NoFaceError, match="no frame"):
        clip_geometry(np.zeros((3, 478, 3)), np.zeros(3, bool))


def test_gaze_is_the_shift_of_both_irises() -> None:
    shapes = np.repeat(closed_vertices()[None], 30, axis=0)
    look = np.where(np.arange(30) >= 20, 0.2, 0.0)
    shapes[:, 468:, 0] += look[:, None]
    motion = clip_geometry(_landmarks(shapes), np.ones(30, bool)).motion
    np.testing.assert_allclose(motion.gaze[[5, 28], 0], [0.0, 0.2], atol=0.01)
    assert not motion.expression[:, 468:].any()
