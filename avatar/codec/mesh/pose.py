"""Relative head motion to a new placement of the portrait's head, within what one photo can show."""

from __future__ import annotations

import math

import cv2
import numpy as np

from avatar.face_mesh import Similarity, head_pose

HEAD_PIVOT = np.array([0.0, -5.0, -4.0])
"""Top of the neck, canonical units: the head turns about it, and `MeshMotion.translation` moves it."""

_PITCH_LIMIT_DEG = 18.0
_ROLL_LIMIT_DEG = 20.0
_YAW_LIMIT_DEG = 18.0
_TOWARDS_CAMERA_FLOOR_DEG = 5.0  # a three-quarter portrait lacks its far cheek: it may turn back only this much
_SHIFT_LIMIT = 2.2  # canonical units
_LOG_SCALE_LIMIT = 0.12
_SOFT = 0.75  # share of a limit up to which motion passes unchanged


def soft_limit(value: float, limit: float) -> float:
    """`value` unchanged up to three quarters of the limit, then bending smoothly so that it never passes it."""
    knee = _SOFT * limit
    if abs(value) <= knee:
        return value
    return math.copysign(knee + (limit - knee) * math.tanh((abs(value) - knee) / (limit - knee)), value)


def project(points: np.ndarray, head: Similarity) -> np.ndarray:
    """Canonical points (N, 3) to picture px (N, 2), x right and y down (weak perspective)."""
    rows = head.scale * head.rotation[:2]
    return points @ (rows * [[1], [-1]]).T + head.translation[:2] * (1, -1)


def plane_affine(depth: float, head: Similarity) -> np.ndarray:
    """The (2, 3) map from canonical (x, y) on the plane z = depth to picture px."""
    rows = head.scale * head.rotation[:2] * [[1], [-1]]
    offset = rows[:, 2] * depth + head.translation[:2] * (1, -1)
    return np.concatenate([rows[:, :2], offset[:, None]], axis=1)


def between_planes(depth: float, start: Similarity, end: Similarity) -> np.ndarray:
    """The (2, 3) map of picture px that carries the plane z = depth from one head placement to another."""
    first, second = plane_affine(depth, start), plane_affine(depth, end)
    linear = second[:, :2] @ np.linalg.inv(first[:, :2])
    return np.concatenate([linear, (second[:, 2] - linear @ first[:, 2])[:, None]], axis=1)


class HeadMover:
    """Places the head of one portrait.

    Args:
        rest: where the head is in the photo, px in canonical axes.
    """

    def __init__(self, rest: Similarity) -> None:
        self.rest = rest
        yaw_deg = head_pose(rest.rotation).yaw_deg
        turned = max(0.0, abs(yaw_deg) - 8.0)
        towards = max(_TOWARDS_CAMERA_FLOOR_DEG, _YAW_LIMIT_DEG - 0.9 * turned)
        away = max(8.0, _YAW_LIMIT_DEG - 0.5 * turned)
        self._yaw_limits_deg = (away, towards) if yaw_deg < 0 else (towards, away)  # of negative, positive yaw

    def place(self, rotation: np.ndarray, translation: np.ndarray) -> Similarity:
        """The head's placement.

        Args:
            rotation: (3,) rotation vector in the head's own canonical axes, radians, relative to the photo.
            translation: (3,) x, y of the neck pivot in canonical units and log scale, relative to the photo.

        Returns:
            The similarity from canonical units to px; exactly `rest` for zero motion.
        """
        limits_deg = (_PITCH_LIMIT_DEG, self._yaw_limits_deg[int(rotation[1] > 0)], _ROLL_LIMIT_DEG)
        vector = np.array(
            [soft_limit(float(angle), math.radians(limit)) for angle, limit in zip(rotation, limits_deg, strict=True)]
        )
        shift = np.array([soft_limit(float(translation[0]), _SHIFT_LIMIT),
                          soft_limit(float(translation[1]), _SHIFT_LIMIT), 0.0])  # fmt: skip
        growth = math.exp(soft_limit(float(translation[2]), _LOG_SCALE_LIMIT))
        rest = self.rest
        if not vector.any() and not shift.any() and growth == 1.0:
            return rest
        turned = rest.rotation @ cv2.Rodrigues(vector)[0]
        scale = rest.scale * growth
        pivot_px = rest.apply(HEAD_PIVOT) + rest.scale * shift
        return Similarity(scale, turned, pivot_px - scale * turned @ HEAD_PIVOT)
