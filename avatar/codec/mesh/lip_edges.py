"""Where the lips of an open-mouthed photo really end: trackers put their inner edge on teeth or in their shadow.

Lips that close would otherwise carry the teeth's pixels along and wear them as a bright rim.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.face_mesh import LIPS_INNER, LIPS_MIDDLE_INNER, LIPS_MIDDLE_OUTER, LIPS_OUTER

_RINGS: tuple[tuple[int, ...], ...] = (LIPS_INNER, LIPS_MIDDLE_INNER, LIPS_MIDDLE_OUTER, LIPS_OUTER)
_SIDES = (slice(1, 10), slice(11, 20))  # upper and lower lip of the rings, without the corners
_BODY = (0.4, 0.6, 0.8)  # samples of the lip's own colour, from its middle to its outer edge
_SAMPLES = 17  # from the inner edge outwards
_FURTHEST = 0.6  # of the way to the outer part of the lip
_UNLIKE = 3.0  # standard deviations from the lip's colour
_LEAST_SPREAD = 6.0  # grey levels


def edge_shift(crop: np.ndarray, landmarks_px: np.ndarray, unit_px: float) -> np.ndarray:
    """How far the lips' inner edge must move into the lips to lie on lip.

    Args:
        crop: (H, W, 3) uint8.
        landmarks_px: (478, 2) in it.
        unit_px: px of a canonical unit.

    Returns:
        (20, 2) px for the points of LIPS_INNER; zero where the edge is right, and at the corners.
    """
    soft = cv2.GaussianBlur(crop, (0, 0), max(0.5, 0.03 * unit_px)).astype(np.float32)
    shift = np.zeros((len(LIPS_INNER), 2))
    share = np.linspace(0.0, 1.0, _SAMPLES)
    for side in _SIDES:
        inner, near, far, outer = (landmarks_px[list(ring[side])] for ring in _RINGS)
        rim = 0.3 * far + 0.7 * outer
        body = _colours_at(soft, np.concatenate([near + t * (rim - near) for t in _BODY]))
        centre = np.median(body, axis=0)
        spread = (body - centre).T @ (body - centre) / len(body) + _LEAST_SPREAD**2 * np.eye(3)
        away = _colours_at(soft, inner[:, None] + share[:, None] * (far - inner)[:, None]) - centre
        unlike = np.einsum("psi,ij,psj->ps", away, np.linalg.inv(spread), away) > _UNLIKE**2
        first = np.where(unlike.all(axis=1), 0, np.argmin(unlike, axis=1))
        reach = np.minimum(share[first], _FURTHEST)
        padded = np.pad(reach, 1, "edge")
        reach = np.maximum(reach, 0.5 * np.maximum(padded[:-2], padded[2:]) + 0.25 * reach)  # no tooth between two
        shift[side] = reach[:, None] * (far - inner)
    return shift


def _colours_at(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear samples (…, 3) at points (…, 2) px."""
    flat = points.reshape(-1, 2).astype(np.float32)
    found = cv2.remap(picture, flat[None, :, 0], flat[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(*points.shape[:-1], 3)
