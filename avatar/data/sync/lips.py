"""A tracked face, or generated motion, to the few numbers that say what its lips do.

All are linear in the motion of the mesh away from the person's own neutral, in the head's own axes and size
(`codec.mesh.track`), so that they are the same for every face and pose, and carry gradients.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from avatar.codec.mesh.track import clip_geometry
from avatar.face_mesh import LIPS_OUTER, MOUTH_CORNERS, NUM_POINTS

LIP_NUMBERS = tuple(
    "opening side_opening width inner_width upper_height lower_height upper_thickness lower_thickness chin corners "
    "protrusion upper_protrusion".split()
)
MIN_TRACKED_FRAMES = 12
_X, _Y, _Z = range(3)
_UPPER_INNER, _LOWER_INNER = (82, 13, 312), (87, 14, 317)
_UPPER_OUTER, _LOWER_OUTER = (37, 0, 267), (84, 17, 314)
_UPPER_SIDE, _LOWER_SIDE = (80, 81, 311, 310), (88, 178, 402, 318)
# Each number: (points, axis, sign) whose means are added.
_TERMS: dict[str, tuple[tuple[tuple[int, ...], int, int], ...]] = {
    "opening": ((_UPPER_INNER, _Y, 1), (_LOWER_INNER, _Y, -1)),
    "side_opening": ((_UPPER_SIDE, _Y, 1), (_LOWER_SIDE, _Y, -1)),
    "width": ((MOUTH_CORNERS[1:], _X, 1), (MOUTH_CORNERS[:1], _X, -1)),
    "inner_width": (((308,), _X, 1), ((78,), _X, -1)),
    "upper_height": ((_UPPER_INNER, _Y, 1),),
    "lower_height": ((_LOWER_INNER, _Y, 1),),
    "upper_thickness": ((_UPPER_OUTER, _Y, 1), (_UPPER_INNER, _Y, -1)),
    "lower_thickness": ((_LOWER_INNER, _Y, 1), (_LOWER_OUTER, _Y, -1)),
    "chin": (((152, 148, 377), _Y, 1),),
    "corners": ((MOUTH_CORNERS, _Y, 1),),
    "protrusion": ((LIPS_OUTER, _Z, 1),),
    "upper_protrusion": ((_UPPER_OUTER, _Z, 1),),
}


@cache
def lip_matrix() -> np.ndarray:
    """(12, 478, 3) float32: `LIP_NUMBERS` of an expression are its products with these; read-only."""
    matrix = np.zeros((len(LIP_NUMBERS), NUM_POINTS, 3), np.float32)
    for row, name in enumerate(LIP_NUMBERS):
        for points, axis, sign in _TERMS[name]:
            for point in points:
                matrix[row, point, axis] += sign / len(points)
    matrix.setflags(write=False)
    return matrix


def lip_numbers(expression: Tensor) -> Tensor:
    """Motion away from neutral (..., 478, 3), canonical units, to (..., 12) in the same units; differentiable."""
    matrix = torch.from_numpy(lip_matrix().copy()).to(expression)
    return torch.einsum("...pc,kpc->...k", expression, matrix)


def tracked_lips(landmarks: np.ndarray, found: np.ndarray) -> np.ndarray | None:
    """The lips of a tracked face.

    Args:
        landmarks: (T, 478, 3) px at 25 fps; anything where the face was not found.
        found: (T,) bool.

    Returns:
        (T, 12) float32, filled in between frames where the face was not found; None where it was found in fewer than 12.
    """
    if found.sum() < MIN_TRACKED_FRAMES:
        return None
    expression = clip_geometry(landmarks, found).motion.expression
    return np.einsum("tpc,kpc->tk", expression, lip_matrix()).astype(np.float32)
