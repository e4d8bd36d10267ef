"""Masks of a face: on a transformer's token grid, where its speech acts, and on the picture's pixels."""

from __future__ import annotations

import cv2
import numpy as np

from avatar import face_mesh
from avatar.errors import OptionError
from avatar.types import BBox, Face

DEFAULT_EXPAND = 1.3
_SUBPIXEL_BITS = 4
_SUPERSAMPLE = 4


def face_region_mask(
    face: Face, image_size: tuple[int, int], grid: tuple[int, int], expand: float = DEFAULT_EXPAND
) -> np.ndarray:
    """The part of each token's cell that the face's box covers.

    Args:
        face: whose speech it is.
        image_size: (height, width) of the picture the face was found in, px.
        grid: (h, w), the token grid; it covers the whole picture.
        expand: the box is scaled by this about its centre, so that the jaw stays inside when it drops.

    Returns:
        (h, w) float32 in [0, 1].

    Raises:
        OptionError: an empty grid, or `expand` not positive.

    Source: Chen et al. 2025, "HunyuanVideo-Avatar", section 3.4 (face-aware audio adapter): a mask of the face's box
    multiplies the audio update.
    """
    if min(grid) < 1 or expand <= 0:
        raise OptionError(f"a face mask needs a grid of at least 1x1 and a positive expand, not {grid} and {expand}")
    box = face.bbox.scaled(expand)
    rows = _coverage(box.top, box.bottom, image_size[0], grid[0])
    columns = _coverage(box.left, box.right, image_size[1], grid[1])
    return np.outer(rows, columns).astype(np.float32)


def face_region_masks(
    faces: list[Face], image_size: tuple[int, int], grid: tuple[int, int], expand: float = DEFAULT_EXPAND
) -> np.ndarray:
    """One mask per speaker, (S, h, w); where boxes overlap, a cell belongs to the nearer face alone."""
    masks = np.stack([face_region_mask(face, image_size, grid, expand) for face in faces])
    if len(faces) == 1:
        return masks
    ys = (np.arange(grid[0]) + 0.5) * image_size[0] / grid[0]
    xs = (np.arange(grid[1]) + 0.5) * image_size[1] / grid[1]
    distance = np.stack([_box_distance(face.bbox, xs, ys) for face in faces])
    nearest = distance.argmin(axis=0)
    return masks * (nearest[None] == np.arange(len(faces))[:, None, None])


def polygon_mask(points: np.ndarray, image_size: tuple[int, int], blur_px: float = 0.0) -> np.ndarray:
    """A filled polygon with soft edges.

    Args:
        points: (N, 2 or more) px, in order.
        image_size: (height, width), px.
        blur_px: standard deviation of a Gaussian over the edge; 0 leaves it antialiased.

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = image_size
    low = np.clip(np.floor(points[:, :2].min(axis=0)).astype(int) - 1, 0, (width, height))
    high = np.clip(np.ceil(points[:, :2].max(axis=0)).astype(int) + 1, 0, (width, height))
    soft = np.zeros(image_size, np.float32)
    if (high > low).all():
        # OpenCV's own antialiasing fills half a pixel too much; drawing large and averaging does not.
        columns, rows = (int(v) for v in high - low)
        large = np.zeros((rows * _SUPERSAMPLE, columns * _SUPERSAMPLE), np.uint8)
        places = (points[:, :2] - low) * _SUPERSAMPLE - 0.5
        cv2.fillPoly(large, [np.round(places * 2**_SUBPIXEL_BITS).astype(np.int32)], 255, shift=_SUBPIXEL_BITS)
        part = cv2.resize(large, (columns, rows), interpolation=cv2.INTER_AREA)
        soft[low[1] : high[1], low[0] : high[0]] = part.astype(np.float32) / 255
    return cv2.GaussianBlur(soft, (0, 0), blur_px) if blur_px > 0 else soft


def face_oval_mask(face: Face, image_size: tuple[int, int], blur_px: float = 0.0) -> np.ndarray:
    """The face from hairline to chin, (H, W) float32 in [0, 1]."""
    return polygon_mask(face.landmarks[list(face_mesh.FACE_OVAL)], image_size, blur_px)


def lips_mask(face: Face, image_size: tuple[int, int], blur_px: float = 0.0) -> np.ndarray:
    """The lips and what is between them, (H, W) float32 in [0, 1]."""
    return polygon_mask(face.landmarks[list(face_mesh.LIPS_OUTER)], image_size, blur_px)


def _coverage(low: float, high: float, length_px: int, cells: int) -> np.ndarray:
    """How much of each of `cells` equal parts of [0, length_px] lies in [low, high]."""
    edges = np.arange(cells + 1) * (length_px / cells)
    overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.clip(overlap / (length_px / cells), 0.0, 1.0)


def _box_distance(box: BBox, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Distance of points (h, w) from a box's centre, in box sizes."""
    x, y = box.centre
    return np.hypot((xs[None, :] - x) / box.width, (ys[:, None] - y) / box.height)
