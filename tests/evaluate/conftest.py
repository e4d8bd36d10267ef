"""Faces and curves whose measures are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from avatar import face_mesh


def _smooth_noise(length: int, seed: int) -> np.ndarray:
    return np.convolve(np.random.default_rng(seed).normal(size=length + 8), np.ones(5) / 5, mode="valid")[:length]


def _faces(openings: np.ndarray, yaw_deg: float = 0.0, scale_px: float = 20.0) -> np.ndarray:
    """Landmarks whose inner lips stand apart by `openings` (parts of the outer-eye distance), turned by `yaw_deg`."""
    neutral = face_mesh.canonical_vertices().astype(np.float64)
    yaw = math.radians(yaw_deg)
    turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    faces = np.repeat(neutral[None], len(openings), axis=0)
    for face, opening in zip(faces, openings, strict=True):
        gap = opening * face_mesh.outer_eye_distance(neutral)
        for up, low in face_mesh.INNER_LIP_PAIRS:
            middle = (neutral[up, 1] + neutral[low, 1]) / 2
            face[up, 1], face[low, 1] = middle + gap / 2, middle - gap / 2
    return (face_mesh.to_picture_axes(faces @ turn.T * scale_px) + [300, 300, 0]).astype(np.float32)


@pytest.fixture
def smooth_noise() -> Callable[[int, int], np.ndarray]:
    """(length, seed) to a curve that changes about as fast as a mouth."""
    return _smooth_noise


@pytest.fixture
def faces() -> Callable[..., np.ndarray]:
    """(openings, yaw_deg, scale_px) to landmarks (T, 478, 3)."""
    return _faces
