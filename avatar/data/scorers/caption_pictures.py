"""The pictures a caption is made from: the best frame, a person cropped or alone, and outlined in yellow.

Source: Sa2VA (arXiv 2501.04001), section 3.3, the three levels of Ref-SAV
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.data.clip_media import FaceTrack
from avatar.types import BBox

YELLOW = (255, 255, 0)
NUM_FRAMES = 8
_GREY = 127
_LINE = 3 / 512  # of the picture's longer side
_BODY = 3.2, 0.7, 4.0  # of the face's box: width, how far up from its top, how far down from its bottom, in its heights
_MASK = 0.5


def even_indices(num_frames: int, count: int = NUM_FRAMES) -> list[int]:
    """`count` frames, evenly spaced, first and last among them; each once where there are fewer."""
    return list(dict.fromkeys(int(round(i)) for i in np.linspace(0, num_frames - 1, count)))


def best_frame(track: FaceTrack) -> int:
    """The frame in which the face is largest."""
    points = track.landmarks[:, :, :2]
    area = np.prod(points.max(axis=1) - points.min(axis=1), axis=1)
    return int(track.frames[int(area.argmax())])


def face_box(track: FaceTrack, frame: int) -> BBox:
    """The box of the landmarks in a frame, or in the nearest one that has them, in the landmarks' px."""
    points = track.landmarks[int(np.abs(track.frames - frame).argmin())][:, :2]
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return BBox(float(left), float(top), float(right), float(bottom))


def body_box(face: BBox) -> BBox:
    """Head, shoulders and chest, from the box of a face."""
    wide, up, down = _BODY
    x, _ = face.centre
    half = face.width * wide / 2
    return BBox(x - half, face.top - up * face.height, x + half, face.bottom + down * face.height)


def crop(picture: np.ndarray, box: BBox) -> np.ndarray:
    """The part of a picture inside a box."""
    height, width = picture.shape[:2]
    left, top = max(0, round(box.left)), max(0, round(box.top))
    right, bottom = min(width, max(left + 1, round(box.right))), min(height, max(top + 1, round(box.bottom)))
    return picture[top:bottom, left:right]


def person_region(picture: np.ndarray, mask: np.ndarray, face: BBox) -> np.ndarray:
    """(H, W) bool: the part of a person mask (H, W) in [0, 1] that belongs to this face; the body's box where it is empty."""
    region = np.zeros(picture.shape[:2], np.uint8)
    box = body_box(face)
    crop(region, box)[:] = 1
    person = ((mask > _MASK) & (region > 0)).astype(np.uint8)
    count, labels = cv2.connectedComponents(person)
    x, y = (int(np.clip(v, 0, limit - 1)) for v, limit in zip(face.centre, picture.shape[1::-1], strict=True))
    if count > 1 and labels[y, x] > 0:
        return labels == labels[y, x]
    return region > 0


def alone(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The picture with everything outside a region grey."""
    return np.where(region[..., None], picture, np.uint8(_GREY))


def outlined(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A copy with the region's edge drawn in yellow; no other pixel changes."""
    line = max(3, round(_LINE * max(picture.shape[:2])))
    outside, inside = line // 2, line - line // 2
    filled = region.astype(np.uint8)
    wide = cv2.dilate(filled, np.ones((2 * outside + 1,) * 2, np.uint8))
    narrow = cv2.erode(filled, np.ones((2 * inside + 1,) * 2, np.uint8))
    drawn = picture.copy()
    drawn[(wide > 0) & (narrow == 0)] = YELLOW
    return drawn
