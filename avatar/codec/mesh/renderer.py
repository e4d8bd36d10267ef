"""A portrait and mesh motion to video frames: the photo's own pixels moved, and what a photo lacks drawn in.

One backward map per frame (rasterised mesh, `raster.py`) moves skin, hair and clothes over a still background plate;
eyes and the mouth's inside are layers drawn through the moving lids and lips. Zero motion gives the photo.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from avatar.codec.mesh.eyes import make_eyes, settle_lids
from avatar.codec.mesh.lip_edges import edge_shift
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.mouth import Mouth, open_share, part_lips
from avatar.codec.mesh.plate import make_matte
from avatar.codec.mesh.pose import HeadMover, project
from avatar.codec.mesh.raster import composite, rasterise
from avatar.codec.mesh.shading import Shading
from avatar.codec.mesh.surface import Surface, face_height_px, smooth_ramp
from avatar.codec.mesh.track import portrait_geometry
from avatar.errors import OptionError
from avatar.face_mesh import CHIN, FACE_OVAL, LIPS_INNER, NUM_POINTS, Similarity
from avatar.types import BBox, Face, Portrait

_CROP_SIDE = 2.6  # of the animated square, in face heights
_CROP_RISE = 0.5  # of its centre above the chin, in face heights
_LIPS_MOVED = (0.02, 0.30)  # canonical units: from unmoved lips to lips whose edge is the corrected one
_STILL_PX = 1.5  # displacement at which the matte takes over, for a face 200 px high


class Stage:
    """One portrait, set up once, then rendered as often as wanted; every frame depends on its own motion only.

    Not for use from two threads at once: it draws into its own scratch buffers.

    Args:
        portrait: the picture and the face that will speak.
        size_px: longer side of the video; None keeps the photo's own size. Sides are rounded to even numbers.
        others: further faces of the same picture, which hold still (another stage may animate them).
        person_mask: (H, W) float32 in [0, 1] for the whole picture, where persons are; None asks MediaPipe.

    Attributes:
        size: (height, width) of the frames, px.
        own_expression: (478, 3) float32, the photo's own expression relative to neutral. Motion with this expression
            and all else zero is the photo.
        still: (H, W, 3) uint8, the scaled photo.

    Raises:
        OptionError: size_px is too small.
        MissingDependencyError: MediaPipe is absent and no mask was given.
    """

    def __init__(
        self,
        portrait: Portrait,
        size_px: int | None = None,
        *,
        others: Sequence[Face] = (),
        person_mask: np.ndarray | None = None,
    ) -> None:
        if size_px is not None and size_px < 16:
            raise OptionError(f"size_px must be at least 16, not {size_px}")
        self.still, ratio = _scaled(portrait.image, size_px)
        self.size = (self.still.shape[0], self.still.shape[1])
        geometry = portrait_geometry(portrait.face)
        self._geometry = geometry
        self.own_expression = geometry.own_expression.astype(np.float32)

        whole = _rescaled(geometry.head, ratio, (0.5, 0.5))
        self._box = _crop_box(project(geometry.shape, whole), face_height_px(whole, geometry.shape), self.size)
        left, top, right, bottom = self._box
        head = _rescaled(geometry.head, ratio, (left + 0.5, top + 0.5))
        crop = np.ascontiguousarray(self.still[top:bottom, left:right])
        landmarks = project(geometry.shape, head)
        height, width = crop.shape[:2]
        open_sides = (left > 0, top > 0, right < self.size[1], bottom < self.size[0])
        self._mover = HeadMover(head)
        self._surface = Surface(
            landmarks, geometry.shape, head, (height, width), open_sides, _obstacles(others, ratio, (left, top))
        )
        self._prepare(crop, landmarks, head, person_mask)

    def _prepare(
        self, crop: np.ndarray, landmarks: np.ndarray, head: Similarity, person_mask: np.ndarray | None
    ) -> None:
        height, width = crop.shape[:2]
        surface = self._surface
        self._shading = Shading(crop, landmarks, self._geometry.shape, head)
        self._identity_map = np.ascontiguousarray(
            np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1), np.float32
        )
        self._map = np.empty((height, width, 2), np.float32)
        self._gain = np.empty((height, width), np.float32)
        order = surface.painting_order(self._geometry.shape @ head.rotation[2])
        rasterise(surface.source, surface.source, surface.follows, order, self._map, self._gain)
        movable = self._gain > 4e-3
        if person_mask is None:
            from avatar.identity.mediapipe_faces import thread_faces

            person = thread_faces().person_mask(crop)
        else:
            left, top, right, bottom = self._box
            whole = cv2.resize(person_mask.astype(np.float32), self.size[::-1], interpolation=cv2.INTER_AREA)
            person = whole[top:bottom, left:right]
        self._face_px = face_height_px(head, self._geometry.shape)
        matte = make_matte(crop, person, landmarks[list(FACE_OVAL)], movable, self._face_px)
        self._texture = np.ascontiguousarray(np.dstack([crop, matte.alpha]))
        self._plate, self._hole = matte.plate, matte.hole
        self._warped = np.empty_like(self._texture)
        shape = self._geometry.shape
        self._eyes = make_eyes(crop, landmarks, shape, head)
        seed = zlib.crc32(np.round(shape[:468] * 20).astype(np.int16).tobytes())
        oval = landmarks[list(FACE_OVAL)]
        room = min(*oval.min(axis=0), *(np.array([width, height]) - oval.max(axis=0)))
        # Beyond the photo's edge hair and clothes go on mirrored; a face that is cut off there must not.
        self._beyond = cv2.BORDER_REFLECT_101 if room > 0.1 * self._face_px else cv2.BORDER_REPLICATE
        self._edge_shift = open_share(shape) * edge_shift(crop, landmarks, head.scale)
        self._mouth = Mouth(crop, landmarks, shape, self._geometry.neutral, head, seed)

    def render(self, motion: MeshMotion) -> np.ndarray:
        """Frames (T, H, W, 3) uint8 of the whole picture."""
        frames = np.empty((len(motion), *self.still.shape), np.uint8)
        for index, frame in enumerate(frames):
            frame[:] = self.still
            self.draw(frame, motion, index)
        return frames

    def draw(self, canvas: np.ndarray, motion: MeshMotion, index: int) -> None:
        """Draws one frame of this person into a canvas that holds the still photo or other persons already.

        Args:
            canvas: (H, W, 3) uint8 of `size`, changed only where this person is or was.
            motion: the person's motion.
            index: the frame of it.
        """
        left, top, right, bottom = self._box
        view = canvas[top:bottom, left:right]
        pose = self._pose(motion, index)
        self._map[:] = self._identity_map
        self._gain.fill(1.0)
        order = self._surface.painting_order(pose.depth)
        gain = self._surface.spread_gain(self._shading.gain(pose.displacement, pose.head))
        rasterise(pose.target, self._source(pose.displacement), gain, order, self._map, self._gain)
        cv2.remap(self._texture, self._map, None, cv2.INTER_LINEAR, self._warped, self._beyond)
        still_px = np.float32(_STILL_PX * max(1.0, self._face_px / 200))
        composite(view, self._warped, self._plate, self._hole, self._map, self._gain, still_px)
        for eye, shut in zip(self._eyes, pose.closed, strict=True):
            eye.draw(view, pose.target, pose.head, motion.gaze[index], float(shut))
        self._mouth.draw(view, pose.target, pose.displacement, pose.gap, pose.head)

    def landmarks(self, motion: MeshMotion) -> np.ndarray:
        """Where the face's points lie in the frames, (T, 478, 2) float32 px; irises follow the head, not the gaze."""
        corner = np.array(self._box[:2], np.float32) + 0.5
        return np.stack([self._pose(motion, i).target[:NUM_POINTS] + corner for i in range(len(motion))])

    def _source(self, displacement: np.ndarray) -> np.ndarray:
        """Where the vertices come from, (N, 2) float32: of lips that have moved, where the photo's lips really end."""
        ring = list(LIPS_INNER)
        moved = smooth_ramp(*_LIPS_MOVED, float(np.abs(displacement[ring]).max()))
        if moved == 0.0 or not self._edge_shift.any():
            return self._surface.source
        source = self._surface.source.copy()
        source[ring] += (moved * self._edge_shift).astype(np.float32)
        return source

    def _pose(self, motion: MeshMotion, index: int) -> _Pose:
        """Everything geometric about one frame."""
        geometry = self._geometry
        displacement = motion.expression[index].astype(np.float64) - self.own_expression
        _, closed = settle_lids(geometry.shape, displacement)
        gap = part_lips(geometry.shape, geometry.neutral, displacement)
        head = self._mover.place(motion.rotation[index], motion.translation[index])
        target, depth = self._surface.move(displacement, head)
        return _Pose(displacement, closed, gap, head, target, depth)


class _Pose(NamedTuple):
    displacement: np.ndarray  # (478, 3) canonical, from the face as photographed
    closed: np.ndarray  # (2,) eyes, 0 to 1
    gap: np.ndarray  # (9,) inner lips, canonical
    head: Similarity
    target: np.ndarray  # (N, 2) px of the crop
    depth: np.ndarray  # (478,)


def _scaled(image: np.ndarray, size_px: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The photo at the video's size, and how much x and y were scaled."""
    height, width = image.shape[:2]
    factor = 1.0 if size_px is None else size_px / max(height, width)
    new = np.array([max(2, 2 * round(width * factor / 2)), max(2, 2 * round(height * factor / 2))])
    ratio = new / (width, height)
    if (ratio == 1).all():
        return np.ascontiguousarray(image), ratio
    shrinks = ratio.max() <= 1
    scaled = cv2.resize(image, tuple(new), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return scaled, ratio


def _rescaled(head: Similarity, ratio: np.ndarray, corner: tuple[float, float]) -> Similarity:
    """The head's placement in a picture scaled by `ratio` and cut at `corner` (px of the scaled picture)."""
    factor = float(np.sqrt(ratio.prod()))
    x, y = head.translation[:2] * (1, -1) * ratio - corner
    return Similarity(head.scale * factor, head.rotation, np.array([x, -y, head.translation[2] * factor]))


def _crop_box(landmarks: np.ndarray, face_height: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The animated square (left, top, right, bottom), cut to the picture."""
    middle = landmarks[list(FACE_OVAL)].mean(axis=0)
    up = (middle - landmarks[CHIN]) / np.linalg.norm(middle - landmarks[CHIN])
    centre = landmarks[CHIN] + _CROP_RISE * face_height * up
    half = _CROP_SIDE * face_height / 2
    low = np.floor(np.maximum(centre - half, 0)).astype(int)
    high = np.ceil(np.minimum(centre + half, (size[1], size[0]))).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _obstacles(others: Sequence[Face], ratio: np.ndarray, corner: tuple[int, int]) -> list[tuple[float, float, float]]:
    """Circles (x, y, radius) around other heads, px of the crop."""
    circles = []
    for face in others:
        box: BBox = face.bbox
        x, y = np.array(box.centre) * ratio - corner
        circles.append((float(x), float(y), float(0.75 * max(box.width, box.height) * ratio.mean())))
    return circles
