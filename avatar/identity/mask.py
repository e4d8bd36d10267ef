"""Masks of a face: on a transformer's token grid, where its speech acts, and on the picture's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar import face_mesh
from avatar.errors import OptionError
from avatar.types import BBox, Face

DEFAULT_EXPAND = 1.3
_SUBPIXEL_BITS = 4
_SUPERSAMPLE = 4
_WHITE = 128  # and brighter: a JPEG's black is not quite black
_MIN_TOKENS = 0.5  # a smaller mask would be a person who cannot be heard


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


def drawn_masks(
    pictures: Sequence[str | Path | np.ndarray], image_size: tuple[int, int], grid: tuple[int, int]
) -> np.ndarray:
    """Masks that somebody drew, one picture per speaker, white where that person is.

    Args:
        pictures: files, or (H, W) or (H, W, 3) uint8, as large as the portrait.
        image_size: (height, width) of the portrait, px.
        grid: (h, w), the token grid.

    Returns:
        (S, h, w) float32 in [0, 1], the white part of each token's cell.

    Raises:
        OptionError: a picture of another size, one with hardly any white, or two with white in the same place.
        MediaError: a file cannot be read.
    """
    whites = np.stack([_white(picture, number, image_size) for number, picture in enumerate(pictures, start=1)])
    for first in range(len(whites)):
        for second in range(first + 1, len(whites)):
            shared = int((whites[first] & whites[second]).sum())
            if shared:
                raise OptionError(
                    f"masks {first + 1} and {second + 1} overlap in {shared} px; every place belongs to one speaker at most"
                )
    cells = [cv2.resize(white.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA) for white in whites]
    for number, (white, cell) in enumerate(zip(whites, cells, strict=True), start=1):
        if cell.sum() < _MIN_TOKENS:
            raise OptionError(
                f"mask {number} is {'empty' if not white.any() else 'smaller than half a token of the video'}: paint white "
                f"where the speaker is ({white.sum()} px are; a token is {image_size[1] / grid[1]:.0f}x"
                f"{image_size[0] / grid[0]:.0f} px of the portrait)"
            )
    return np.stack(cells).astype(np.float32)


def drawn_place(picture: str | Path | np.ndarray, number: int, image_size: tuple[int, int]) -> BBox:
    """The box about the white of a drawn mask, px; arguments as for `drawn_masks`, `number` to call it by.

    Raises:
        OptionError: there is no white, or the picture has another size.
    """
    rows, columns = np.nonzero(_white(picture, number, image_size))
    if len(rows) == 0:
        raise OptionError(f"mask {number} is empty: paint white where the speaker is")
    return BBox(float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))


def _white(picture: str | Path | np.ndarray, number: int, image_size: tuple[int, int]) -> np.ndarray:
    """Where a mask picture is white, (H, W) bool."""
    if not isinstance(picture, np.ndarray):
        from avatar.media import read_picture

        picture = read_picture(picture)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise OptionError(f"mask {number} must be (H, W) or (H, W, 3) uint8, not {picture.shape} {picture.dtype}")
    if picture.shape[:2] != tuple(image_size):
        raise OptionError(
            f"mask {number} has {picture.shape[1]}x{picture.shape[0]} px and the portrait {image_size[1]}x{image_size[0]}; "
            "a mask is as large as the portrait"
        )
    grey = picture if picture.ndim == 2 else picture.mean(axis=2)
    return grey >= _WHITE


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
