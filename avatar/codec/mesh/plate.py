"""One portrait crop to a matte of the person and a still background plate behind them, made once per portrait."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from avatar.codec.mesh.fill import textured_fill
from avatar.codec.mesh.surface import smoothstep

_LARGEST_PX = 1024  # larger crops get their matte and plate from a smaller copy
_FOUND_SHARE = 0.5  # a mask that misses the face (line drawings) says nothing: everything near the head moves then
_MIN_BACKGROUND_SHARE = 0.02  # with less of it there is nothing to fill from


class Matte(NamedTuple):
    """Person and background of a crop.

    Attributes:
        alpha: (H, W) uint8, the person with a few pixels of true background that travel along (no halo, no cut hair).
        hole: (H, W) uint8, 255 where the plate is invented, falling to 0 around it.
        plate: (H, W, 3) uint8, the background; the photo itself wherever `hole` < 255.
    """

    alpha: np.ndarray
    hole: np.ndarray
    plate: np.ndarray


def make_matte(
    image: np.ndarray, person: np.ndarray, face_contour: np.ndarray, movable: np.ndarray, face_height_px: float
) -> Matte:
    """Refines a coarse person mask along the picture's edges and paints the background behind the person.

    Args:
        image: (H, W, 3) uint8 RGB crop.
        person: (H, W) float32 in [0, 1].
        face_contour: (K, 2) px; its inside is person whatever the mask says.
        movable: (H, W) bool, where anything can move at all.
        face_height_px: forehead to chin.

    Source: He et al. 2010, "Guided Image Filtering", for the refinement.
    """
    longest = max(image.shape[:2])
    if longest <= _LARGEST_PX:
        return _make_matte(image, person, face_contour, movable, face_height_px)
    ratio = _LARGEST_PX / longest
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    small = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (image, person, movable.astype(np.uint8))]
    matte = _make_matte(small[0], small[1], face_contour * ratio, small[2] > 0, face_height_px * ratio)
    whole = (image.shape[1], image.shape[0])
    alpha, hole, plate = (cv2.resize(part, whole, interpolation=cv2.INTER_LINEAR) for part in matte)
    alpha[~movable] = 0
    hole[~movable] = 0
    np.copyto(plate, image, where=(hole < 255)[..., None])
    return Matte(alpha, hole, plate)


def _make_matte(
    image: np.ndarray, person: np.ndarray, face_contour: np.ndarray, movable: np.ndarray, face_height_px: float
) -> Matte:
    pixel = max(1.0, face_height_px / 200)  # the radii below suit a face 200 px high
    radius = max(2, round(7 * pixel))
    sharp = cv2.ximgproc.guidedFilter(image, person.astype(np.float32), radius, 25.0)
    matte = smoothstep(0.25, 0.75, sharp).astype(np.float32)
    inside = np.zeros(matte.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(face_contour).astype(np.int32)], 255)
    alpha = np.maximum((matte * 255).astype(np.uint8), inside)
    alpha = cv2.dilate(alpha, _disc(round(2 * pixel)))
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1.2 * pixel)
    alpha[alpha < 4] = 0
    alpha[~movable] = 0

    hole = cv2.dilate((alpha > 0).astype(np.uint8) * 255, _disc(round(6 * pixel)))
    hole[~movable] = 0
    found = matte[inside > 0].mean() if inside.any() else 0.0
    if found < _FOUND_SHARE or (hole == 0).mean() < _MIN_BACKGROUND_SHARE or not (hole[movable] == 0).any():
        whole = np.where(movable, 255, 0).astype(np.uint8)
        return Matte(whole, np.zeros_like(hole), image.copy())
    plate = textured_fill(image, hole == 255, 0.3 * face_height_px)
    feather = max(1, round(1.5 * pixel))
    spread = cv2.blur(cv2.dilate(hole, _disc(feather)), (2 * feather + 1, 2 * feather + 1))
    return Matte(alpha, np.maximum(hole, np.minimum(spread, 254)), plate)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
