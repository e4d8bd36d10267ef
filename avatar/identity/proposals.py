"""Where to look for faces: tiles of a picture, turned pictures, and boxes brought back from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from avatar.types import BBox


@dataclass(frozen=True)
class Detection:
    """A detector's box, px, how far the eyes' line is turned clockwise, and its confidence in [0, 1]."""

    box: BBox
    angle_rad: float
    score: float


def fit_within(image: np.ndarray, side_px: int) -> np.ndarray:
    """The picture reduced by area averaging so that no side is longer than `side_px`; never enlarged."""
    height, width = image.shape[:2]
    factor = side_px / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def tile_starts(length: int, side: float) -> list[int]:
    """Where tiles of a side begin along a length, half overlapping, the last one flush with the end."""
    if side >= length:
        return [0]
    count = math.ceil((length - side) / (side / 2)) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def moved(detection: Detection, dx: float, dy: float) -> Detection:
    """A detection in a tile as one in the picture."""
    box = detection.box
    shifted = BBox(box.left + dx, box.top + dy, box.right + dx, box.bottom + dy)
    return Detection(shifted, detection.angle_rad, detection.score)


def turned_back(detection: Detection, quarter_turns: int, width: int, height: int) -> Detection:
    """A detection in `np.rot90(picture, quarter_turns)` as one in the picture (width x height)."""
    x, y = detection.box.centre
    for turn in range(quarter_turns, 0, -1):
        # rot90 takes (x, y) of a w-wide picture to (y, w - x); `turn` says how wide the source of this step was.
        source_width = width if turn % 2 else height
        x, y = source_width - y, x
    swapped = quarter_turns % 2 == 1
    half_w, half_h = detection.box.width / 2, detection.box.height / 2
    if swapped:
        half_w, half_h = half_h, half_w
    box = BBox(x - half_w, y - half_h, x + half_w, y + half_h)
    return Detection(box, detection.angle_rad + quarter_turns * math.pi / 2, detection.score)


def overlap(a: BBox, b: BBox) -> float:
    """Shared area over the smaller box's area."""
    w = min(a.right, b.right) - max(a.left, b.left)
    h = min(a.bottom, b.bottom) - max(a.top, b.top)
    smaller = min(a.width * a.height, b.width * b.height)
    return max(w, 0.0) * max(h, 0.0) / smaller if smaller > 0 else 0.0


def suppressed(detections: list[Detection]) -> list[Detection]:
    """The best of each heap of overlapping detections, best first."""
    kept: list[Detection] = []
    for detection in sorted(detections, key=lambda d: -d.score):
        if all(detection.box.iou(other.box) < 0.3 for other in kept):
            kept.append(detection)
    return kept
