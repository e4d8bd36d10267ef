"""What is measured of a face, on faces whose measures are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avatar import face_mesh
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.evaluate.face_track import CLOSED_BELOW, FaceTrack

FPS = 25.0
Faces = Callable[..., np.ndarray]


@pytest.mark.parametrize("yaw_deg", [0.0, 25.0])
@pytest.mark.parametrize("scale_px", [5.0, 40.0])
def test_opening_is_the_gap_whatever_the_heads_turn_and_size(faces: Faces, yaw_deg: float, scale_px: float) -> None:
    openings = np.array([0.0, 0.1, 0.25])
    track = FaceTrack.from_landmarks(faces(openings, yaw_deg, scale_px), np.ones(3, bool), FPS)
    np.testing.assert_allclose(track.opening, openings, atol=2e-4)
    np.testing.assert_allclose(track.head_deg[:, 0], yaw_deg, atol=0.05)


def test_frames_without_a_face_are_nan(faces: Faces) -> None:
    track = FaceTrack.from_landmarks(faces(np.array([0.1, 0.2, 0.3])), np.array([True, False, True]), FPS)
    for curve in track.curves().values():
        assert np.isnan(curve[1]).all()
        assert np.isfinite(curve[[0, 2]]).all()


def test_gaze_is_the_irises_shift_in_the_heads_own_axes(faces: Faces) -> None:
    landmarks = faces(np.zeros(2), scale_px=10.0)
    landmarks[1, 468:, :2] += (5.0, -2.0)  # px; half a unit to the right, a fifth up
    gaze = FaceTrack.from_landmarks(landmarks, np.ones(2, bool), FPS).gaze
    eye_distance = face_mesh.outer_eye_distance(face_mesh.canonical_vertices())
    np.testing.assert_allclose(gaze[1] - gaze[0], np.array([0.5, 0.2]) / eye_distance, atol=1e-4)


def test_motion_is_measured_as_a_tracked_face_is() -> None:
    rig = default_rig()
    motion = MeshMotion.zeros(3)
    motion.expression[1] = rig.displacement(rig.weights(1, jaw_open=1.0))[0]
    motion.expression[2] = rig.displacement(rig.weights(1, jaw_open=1.0, mouth_close=1.0))[0]
    motion.rotation[1] = (0.0, np.radians(10.0), 0.0)
    track = FaceTrack.from_motion(motion)
    assert track.opening[1] > 0.2
    assert abs(track.opening[0]) < CLOSED_BELOW
    assert track.opening[2] < CLOSED_BELOW
    np.testing.assert_allclose(track.head_deg[:, 0], [0, 10, 0], atol=1e-3)


def test_a_slice_cuts_every_curve(faces: Faces) -> None:
    track = FaceTrack.from_landmarks(faces(np.array([0.1, 0.2, 0.3])), np.ones(3, bool), FPS)[1:]
    assert {len(curve) for curve in track.curves().values()} == {2}
    assert track.num_frames == 2
