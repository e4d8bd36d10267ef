"""Fine shapes of the lips that the named expressions leave open: smooth waves along each lip and moves of the corners.

They let the rig follow real lips closely; speech and emotion are written in the named shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from avatar.codec.mesh.rig_shapes_field import closed_vertices, smooth_field
from avatar.codec.mesh.rig_shapes_mouth import lips
from avatar.face_mesh import NUM_SKIN_POINTS

_AMPLITUDE = 0.5  # canonical units at weight 1
_WAVES = {"y": 5, "x": 4, "z": 3}  # waves of the whole lip, along each axis
_NUM_SWELLS = 3  # waves in which the outer and the inner edge part
_AXES = {"x": 0, "y": 1, "z": 2}


def _wave(order: int, u: float) -> float:
    """Zero at the corners, `order` sign changes between them (Legendre polynomials under a bow)."""
    coefficients = np.zeros(order + 1)
    coefficients[order] = 1.0
    return float(np.polynomial.legendre.legval(u, coefficients) * max(1.0 - u**4, 0.0))


def _pins() -> dict[int, tuple[float, float, float]]:
    vertices = closed_vertices()[:NUM_SKIN_POINTS]
    x, y, _ = vertices.T
    far = (y > -1.9) | (y < -7.6) | (np.abs(x) > 4.6)
    return dict.fromkeys([int(i) for i in np.flatnonzero(far)], (0.0, 0.0, 0.0))


def _lip_mode(is_upper: bool, axis: int, order: int, swell: bool) -> np.ndarray:
    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        move = [0.0, 0.0, 0.0]
        if upper == is_upper:
            move[axis] = _AMPLITUDE * _wave(order, u) * ((1.0 - 2.0 * depth) * 0.5 if swell else 1.0)
        return move[0], move[1], move[2]

    return smooth_field({**_pins(), **lips(motion)})


def _corner_mode(side: int, axis: int) -> np.ndarray:
    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        move = [0.0, 0.0, 0.0]
        move[axis] = _AMPLITUDE * max(side * u, 0.0) ** 2 * (side if axis == 0 else 1)
        return move[0], move[1], move[2]

    return smooth_field({**_pins(), **lips(motion)})


def lip_details() -> Iterator[np.ndarray]:
    """The detail shapes in their fixed order, each (478, 3): waves of the upper then the lower lip, then corners."""
    for is_upper in (True, False):
        for axis, count in _WAVES.items():
            for order in range(count):
                yield _lip_mode(is_upper, _AXES[axis], order, swell=False)
        for order in range(_NUM_SWELLS):
            yield _lip_mode(is_upper, _AXES["y"], order, swell=True)
    for side in (1, -1):
        for axis_index in range(3):
            yield _corner_mode(side, axis_index)
