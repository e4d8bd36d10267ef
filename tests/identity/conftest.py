from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar import face_mesh
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.types import BBox, Face, Portrait

ASTRONAUT = Path(__file__).resolve().parents[2] / "examples" / "astronaut.png"

FaceMaker = Callable[..., Face]


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(ASTRONAUT))[:, :, ::-1])


@pytest.fixture(scope="session")
def detector() -> MediaPipeFaces:
    return MediaPipeFaces()


@pytest.fixture(scope="session")
def astronaut_face(detector: MediaPipeFaces, astronaut: np.ndarray) -> Face:
    return detector.detect(astronaut)[0]


@pytest.fixture(scope="session")
def portrait(astronaut: np.ndarray, astronaut_face: Face) -> Portrait:
    return Portrait(astronaut, astronaut_face)


@pytest.fixture(scope="session")
def make_face() -> FaceMaker:
    """A mean face at (x, y), px, with so many px between the outer eye corners, turned by three angles in degrees."""

    def make(x: float, y: float, eye_px: float = 80, yaw: float = 0, pitch: float = 0, roll: float = 0) -> Face:
        a, b, c = np.radians([yaw, -pitch, -roll])
        ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        turned = face_mesh.canonical_vertices() @ (ry @ rx @ rz).T * (eye_px / 8.8917)
        landmarks = (face_mesh.to_picture_axes(turned) + (x, y, 0)).astype(np.float32)
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        pose = face_mesh.head_pose(face_mesh.fit_head(landmarks).rotation)
        return Face(BBox(float(low[0]), float(low[1]), float(high[0]), float(high[1])), landmarks, pose)

    return make
