"""Cuts turned squares out of pictures and brings points found in them back to the whole picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from avatar import face_mesh
from avatar.types import BBox


@dataclass(frozen=True)
class SquareCrop:
    """A square in a picture, turned about its centre.

    Attributes:
        centre_x, centre_y: its centre, px.
        side_px: its side.
        angle_rad: how far it is turned, clockwise on the screen; the face inside then stands upright.
        mirrored: whether the cut-out shows it left and right exchanged.
    """

    centre_x: float
    centre_y: float
    side_px: float
    angle_rad: float = 0.0
    mirrored: bool = False

    @classmethod
    def around_landmarks(cls, landmarks: np.ndarray, scale: float = 1.5) -> SquareCrop:
        """The square about a face mesh (478, 3), level with the eyes, `scale` times the mesh's longer side."""
        right, left = (landmarks[i, :2] for i in face_mesh.OUTER_EYE_CORNERS)
        angle = math.atan2(left[1] - right[1], left[0] - right[0])
        axes = _axes(angle)
        turned = landmarks[:, :2] @ axes
        low, high = turned.min(axis=0), turned.max(axis=0)
        centre = axes @ ((low + high) / 2)
        return cls(float(centre[0]), float(centre[1]), float((high - low).max()) * scale, angle)

    def matrix(self, size_px: int) -> np.ndarray:
        """The affine map (2, 3) from picture px to px of the cut-out of side `size_px`."""
        axes = self._axes().T * (size_px / self.side_px)
        offset = size_px / 2 - axes @ np.array([self.centre_x, self.centre_y])
        return np.column_stack([axes, offset])

    def cut(self, image: np.ndarray, size_px: int) -> np.ndarray:
        """The square as an upright picture (size_px, size_px, 3) uint8; black outside the picture.

        Strong reduction is done by area averaging first, so that a 4,000 px photo does not alias.
        """
        shrink = max(1, int(self.side_px / size_px))
        if shrink == 1:
            return _warp(image, self.matrix(size_px), size_px)
        reach = self.side_px * (abs(math.cos(self.angle_rad)) + abs(math.sin(self.angle_rad))) / 2 + shrink
        height, width = image.shape[:2]
        left, top = max(0, int(self.centre_x - reach)), max(0, int(self.centre_y - reach))
        right, bottom = min(width, int(self.centre_x + reach) + 1), min(height, int(self.centre_y + reach) + 1)
        if right - left < shrink or bottom - top < shrink:
            return np.zeros((size_px, size_px, 3), np.uint8)
        columns, rows = (right - left) // shrink, (bottom - top) // shrink
        part = image[top : top + rows * shrink, left : left + columns * shrink]
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        middle_x, middle_y = (self.centre_x - left) / shrink, (self.centre_y - top) / shrink
        moved = replace(self, centre_x=middle_x, centre_y=middle_y, side_px=self.side_px / shrink)
        return _warp(small, moved.matrix(size_px), size_px)

    def to_picture(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks in parts of the cut-out's side, (N, 3), as picture px (N, 3) float32; z grows alike."""
        flat = (landmarks[:, :2] - 0.5) * self.side_px @ self._axes().T + (self.centre_x, self.centre_y)
        return np.column_stack([flat, landmarks[:, 2] * self.side_px]).astype(np.float32)

    def _axes(self) -> np.ndarray:
        """Columns: the picture directions of the cut-out's right and down."""
        return _axes(self.angle_rad) * ((-1.0, 1.0) if self.mirrored else (1.0, 1.0))


def landmark_box(landmarks: np.ndarray) -> BBox:
    """The tight box of landmarks (N, 2 or 3), px."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return BBox(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _axes(angle_rad: float) -> np.ndarray:
    """Columns: the square's own right and down, in the picture."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[c, -s], [s, c]])


def _warp(image: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    # Pixel centres lie at +0.5 in our coordinates and at whole numbers in OpenCV's.
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    grows = np.hypot(*matrix[0, :2]) > 1
    interpolation = cv2.INTER_CUBIC if grows else cv2.INTER_LINEAR
    return cv2.warpAffine(image, shifted, (size_px, size_px), flags=interpolation)
