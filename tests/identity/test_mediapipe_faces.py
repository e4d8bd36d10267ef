"""Detection, tracking and segmentation on the one portrait that may be shipped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from avatar import face_mesh
from avatar.errors import NoFaceError
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.types import BBox, Face


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance in the picture plane, in outer-eye distances."""
    distance = np.linalg.norm((found - expected)[:, :2], axis=1).mean()
    return float(distance / face_mesh.outer_eye_distance(expected))


def test_the_astronaut_has_one_frontal_face(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    (face,) = detector.detect(astronaut)
    assert face.landmarks.shape == (478, 3)
    assert face.landmarks.dtype == np.float32
    assert max(abs(face.pose.yaw_deg), abs(face.pose.pitch_deg), abs(face.pose.roll_deg)) < 10
    assert face.bbox.iou(BBox(179, 69, 271, 178)) > 0.85
    assert 195 < face.landmarks[468, 0] < 212, "the right iris is on the picture's left"
    assert face.landmarks[face_mesh.NOSE_TIP, 2] < face.landmarks[face_mesh.CHIN, 2] < 60, "z is negative towards us"


def test_detection_repeats_itself_exactly(
    detector: MediaPipeFaces, astronaut: np.ndarray, astronaut_face: Face
) -> None:
    np.testing.assert_array_equal(detector.detect(astronaut)[0].landmarks, astronaut_face.landmarks)
    np.testing.assert_array_equal(MediaPipeFaces().detect(astronaut)[0].landmarks, astronaut_face.landmarks)


@pytest.mark.parametrize(("dx", "dy"), [(37, 0), (0, 61), (113, 90)])
def test_landmarks_move_with_the_picture(
    detector: MediaPipeFaces, astronaut: np.ndarray, astronaut_face: Face, dx: int, dy: int
) -> None:
    moved = np.full((640, 660, 3), 120, np.uint8)
    moved[dy : dy + 512, dx : dx + 512] = astronaut
    (face,) = detector.detect(moved)
    assert _error(face.landmarks - (dx, dy, 0), astronaut_face.landmarks) < 0.02


@pytest.mark.parametrize("scale", [0.75, 1.5, 4.0])
def test_landmarks_scale_with_the_picture(
    detector: MediaPipeFaces, astronaut: np.ndarray, astronaut_face: Face, scale: float
) -> None:
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    (face,) = detector.detect(cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=interpolation))
    assert _error(face.landmarks / scale, astronaut_face.landmarks) < 0.02


def test_a_small_face_in_a_4000_px_picture_is_found(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    canvas = np.full((3000, 4000, 3), (90, 110, 130), np.uint8)
    canvas[2300:2556, 3100:3356] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    (face,) = detector.detect(canvas)
    assert face.bbox.iou(BBox(3100 + 90, 2300 + 35, 3100 + 135, 2300 + 89)) > 0.7


def test_two_people_are_two_faces_largest_first(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    small = cv2.resize(astronaut, (400, 400), interpolation=cv2.INTER_AREA)
    canvas = np.full((512, 960, 3), 128, np.uint8)
    canvas[:400, :400], canvas[:, 448:] = small, astronaut
    first, second = detector.detect(canvas)
    assert first.bbox.left > 448 > second.bbox.right


@pytest.mark.parametrize(("code", "roll"), [(cv2.ROTATE_90_CLOCKWISE, 90), (cv2.ROTATE_90_COUNTERCLOCKWISE, -90)])
def test_a_face_on_its_side_is_found_with_its_roll(
    detector: MediaPipeFaces, astronaut: np.ndarray, astronaut_face: Face, code: int, roll: float
) -> None:
    (face,) = detector.detect(cv2.rotate(astronaut, code))
    assert face.pose.roll_deg == pytest.approx(roll + astronaut_face.pose.roll_deg, abs=3)
    x, y = astronaut_face.landmarks[1, :2]
    expected = (512 - y, x) if roll > 0 else (y, 512 - x)
    assert tuple(face.landmarks[1, :2]) == pytest.approx(expected, abs=2)


def test_a_face_upside_down_is_found_with_its_roll(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    (face,) = detector.detect(np.ascontiguousarray(astronaut[::-1, ::-1]))
    assert abs(face.pose.roll_deg) > 170


@pytest.mark.parametrize("side", [16, 64, 500])
def test_blank_and_noisy_pictures_have_no_face(detector: MediaPipeFaces, side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    assert detector.detect(np.zeros((side, side, 3), np.uint8)) == []
    assert detector.detect(noise) == []


def test_the_astronaut_without_her_face_has_no_face(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    faceless = astronaut.copy()
    faceless[20:200, 150:300] = 128
    assert detector.detect(faceless) == []


def _moving(astronaut: np.ndarray, steps: int) -> list[np.ndarray]:
    return [np.roll(astronaut, 4 * i, axis=1) for i in range(steps)]


def test_tracking_follows_a_moving_face(detector: MediaPipeFaces, astronaut: np.ndarray, astronaut_face: Face) -> None:
    landmarks, found = detector.track(iter(_moving(astronaut, 8)))
    assert landmarks.shape == (8, 478, 3)
    assert landmarks.dtype == np.float32
    assert found.all()
    for i, points in enumerate(landmarks):
        assert _error(points - (4 * i, 0, 0), astronaut_face.landmarks) < 0.04


def test_a_mirrored_video_gives_mirrored_landmarks(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    landmarks, _ = detector.track([astronaut] * 4)
    mirrored, _ = detector.track([np.ascontiguousarray(astronaut[:, ::-1])] * 4)
    exchanged = mirrored[-1][face_mesh.mirror_points()] * (-1, 1, 1) + (astronaut.shape[1], 0, 0)
    assert _error(exchanged, landmarks[-1]) < 0.002


def test_tracking_marks_lost_frames_and_finds_the_face_again(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    blank = np.zeros_like(astronaut)
    landmarks, found = detector.track([astronaut, blank, astronaut])
    assert found.tolist() == [True, False, True]
    assert not landmarks[1].any()


def test_tracking_starts_on_the_face_in_the_given_box(detector: MediaPipeFaces, astronaut: np.ndarray) -> None:
    small = cv2.resize(astronaut, (400, 400), interpolation=cv2.INTER_AREA)
    canvas = np.full((512, 960, 3), 128, np.uint8)
    canvas[:400, :400], canvas[:, 448:] = small, astronaut
    landmarks, _ = detector.track([canvas, canvas], start=BBox(140, 50, 220, 140))
    assert landmarks[:, :, 0].max() < 400


def test_tracking_nothing_is_an_error(detector: MediaPipeFaces) -> None:
    with pytest.raises(NoFaceError, match="no frame"):
        detector.track([])


def test_person_mask_covers_the_face_and_not_the_background(
    detector: MediaPipeFaces, astronaut: np.ndarray, astronaut_face: Face
) -> None:
    mask = detector.person_mask(astronaut)
    assert mask.shape == (512, 512)
    assert mask.dtype == np.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    x, y = (int(v) for v in astronaut_face.bbox.centre)
    assert mask[y - 30 : y + 30, x - 20 : x + 20].min() > 0.8
    assert mask[:60, 420:].max() < 0.3


def test_a_mouth_that_only_one_view_sees_elsewhere_is_put_where_the_others_see_it(
    detector: MediaPipeFaces, astronaut: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (seen,) = [one for one in detector.candidates(astronaut) if one.evidence.presence > 0.9]
    lips, unit = list(face_mesh.LIPS_OUTER), float(face_mesh.outer_eye_distance(seen.face.landmarks))
    elsewhere = seen.face.landmarks.copy()
    elsewhere[lips, 1] += 0.2 * unit
    monkeypatch.setattr(detector, "_mesh", lambda image, crop: (elsewhere, 1.0))
    agreed = detector._agreed(astronaut, seen).face.landmarks
    np.testing.assert_allclose(agreed[lips], elsewhere[lips])

    fallen = elsewhere + np.array([0, 0.3 * unit, 0], np.float32)  # the whole mesh lost its place: not to be believed
    monkeypatch.setattr(detector, "_mesh", lambda image, crop: (fallen, 1.0))
    assert detector._agreed(astronaut, seen) is seen
