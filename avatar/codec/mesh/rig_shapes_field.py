"""Turns the motion of a few handle points into a smooth displacement field over the whole face mesh.

The skin is treated as a thin plate under slight tension: handles move as told, pinned points stay, and every other
point takes the position of least bending. Upper and lower lip are joined only at the corners of the mouth, because the
plate follows the mesh's triangles and not distances in space.

Source: Botsch and Kobbelt 2004, "An intuitive framework for real-time freeform modeling", section 4 (blend of
membrane and thin-plate energies).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from avatar.face_mesh import (
    INNER_LIP_PAIRS,
    LIPS_INNER,
    LIPS_MIDDLE_INNER,
    LIPS_MIDDLE_OUTER,
    LIPS_OUTER,
    NUM_POINTS,
    NUM_SKIN_POINTS,
    canonical_vertices,
    skin_triangles,
)

Handles = Mapping[int, tuple[float, float, float]]

_TENSION = 0.15  # share of the membrane energy; 0 overshoots beyond the handles, 1 makes tents
NUM_COLUMNS = 11  # lip points from the right corner to the left
UPPER_LIP = tuple(tuple(ring[:NUM_COLUMNS]) for ring in (LIPS_OUTER, LIPS_MIDDLE_OUTER, LIPS_MIDDLE_INNER, LIPS_INNER))
LOWER_LIP = tuple((ring[0], *ring[:9:-1]) for ring in (LIPS_OUTER, LIPS_MIDDLE_OUTER, LIPS_MIDDLE_INNER, LIPS_INNER))
"""Lip points by ring (outer to inner) and column (the person's right corner to the left)."""


@cache
def mirror_index() -> np.ndarray:
    """For every point its partner on the other side of the face, (478,) int64."""
    vertices = canonical_vertices()
    mirrored = vertices * np.array([-1.0, 1.0, 1.0], np.float32)
    return np.linalg.norm(mirrored[:, None] - vertices[None], axis=-1).argmin(axis=1)


@cache
def closed_vertices() -> np.ndarray:
    """The mean face with its lips just touching, (478, 3) float64: where the rig's shapes are sculpted.

    The upper lip comes down a quarter of the gap and the lower lip comes up the rest, taking the chin along.
    """
    vertices = canonical_vertices().astype(np.float64)
    handles: dict[int, tuple[float, float, float]] = {}
    for upper, lower in INNER_LIP_PAIRS:
        gap = vertices[upper] - vertices[lower]
        handles[upper] = tuple(-0.25 * gap)
        handles[lower] = tuple(0.75 * gap)
    still = [i for i in range(NUM_SKIN_POINTS) if vertices[i, 1] > -1.5 or abs(vertices[i, 0]) > 4.5]
    return vertices + smooth_field({**handles, **dict.fromkeys(still, (0.0, 0.0, 0.0))})


@cache
def lip_position() -> np.ndarray:
    """Where each of the 11 lip columns lies between the corners, (11,) in [-1, 1], positive on the person's left."""
    x = canonical_vertices()[list(LIPS_INNER[:NUM_COLUMNS]), 0].astype(np.float64)
    return x / x[-1]


@cache
def _plate() -> np.ndarray:
    """The quadratic energy of the skin, (468, 468), symmetric from left to right."""
    vertices = canonical_vertices().astype(np.float64)
    weights = np.zeros((NUM_SKIN_POINTS, NUM_SKIN_POINTS))
    for triangle in skin_triangles():
        for a, b in ((0, 1), (1, 2), (2, 0)):
            i, j = triangle[a], triangle[b]
            weights[i, j] = weights[j, i] = 1.0 / max(float(np.linalg.norm(vertices[i] - vertices[j])), 0.1)
    mirror = mirror_index()[:NUM_SKIN_POINTS]
    weights = (weights + weights[np.ix_(mirror, mirror)]) / 2
    laplacian = np.diag(weights.sum(axis=1)) - weights
    area = 1.0 / weights.sum(axis=1)
    return laplacian @ (area[:, None] * laplacian) + _TENSION * laplacian


def smooth_field(handles: Handles) -> np.ndarray:
    """The smoothest displacement of the skin that moves every handle as told.

    Args:
        handles: point index (below 468) to displacement (x, y, z); a zero displacement pins the point. Pin enough
            points that the field has somewhere to end.

    Returns:
        (478, 3) float64, canonical units; the irises do not move.
    """
    known = np.array(sorted(handles))
    free = np.setdiff1d(np.arange(NUM_SKIN_POINTS), known)
    energy = _plate()
    field = np.zeros((NUM_POINTS, 3))
    field[known] = np.array([handles[i] for i in known])
    field[free] = np.linalg.solve(energy[np.ix_(free, free)], -energy[np.ix_(free, known)] @ field[known])
    return field


def symmetrise(field: np.ndarray) -> np.ndarray:
    """The left-right symmetric part of a field (478, 3)."""
    return (field + mirror_field(field)) / 2


def mirror_field(field: np.ndarray) -> np.ndarray:
    """The field seen in a mirror: what happens on the left happens on the right."""
    return field[mirror_index()] * np.array([-1.0, 1.0, 1.0])


def split_sides(field: np.ndarray, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric field as (left, right) halves that sum to it.

    Args:
        field: (478, 3), symmetric.
        half_width: half the width of the soft seam in the middle of the face, canonical units.
    """
    x = np.clip(canonical_vertices()[:, :1].astype(np.float64) / half_width, -1.0, 1.0)
    left = 0.5 + 0.75 * x - 0.25 * x**3
    return field * left, field * (1.0 - left)
