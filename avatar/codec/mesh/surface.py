"""The deformable surface of one portrait: the face mesh, and an outer mesh for hair, neck, shoulders, surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial import Delaunay

from avatar.codec.mesh.pose import project
from avatar.face_mesh import CHIN, FACE_OVAL, FOREHEAD_TOP, NUM_POINTS, Similarity, skin_triangles, triangles

_RINGS = (1.06, 1.14)  # the oval, scaled about its centre
_GRID = 25  # outer vertices along the crop's longer side
_RECEDE = 0.7  # depth lost per unit of distance from the oval (hair and ears lie behind the face)
_DEEPEST = -9.0  # canonical units
_BODY_SHARE = 0.12  # of the head's shift that the shoulders take part in
_INNER_BORDER = 0.10  # share of the crop over which motion fades to nothing, where the photo goes on outside
_BEYOND = 0.12  # how far the mesh goes on where the crop ends with the photo, so that the photo's edge can move freely


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 at `low`, 1 at `high`, smooth between; `low` may be the greater."""
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    return share * share * (3 - 2 * share)


def smooth_ramp(low: float, high: float, value: float) -> float:
    """`smoothstep` of one number."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return share * share * (3 - 2 * share)


class Surface:
    """Vertices of the portrait and how each follows head, expression and body.

    Args:
        landmarks_px: (478, 2) px of the crop.
        shape: (478, 3) the face as photographed, canonical units; it projects onto the landmarks.
        head: its placement, px of the crop in canonical axes.
        crop_size: (height, width) px.
        open_sides: which sides (left, top, right, bottom) of the crop lie inside the photo.
        others_px: (x, y, radius) of further faces that must hold still, px of the crop.

    Attributes:
        source: (N, 2) float32 where each vertex is in the crop; the first 478 are the face's.
        backdrop: (M, 3) int32 triangles drawn first: the outer mesh, then eye and mouth holes.
        skin: (852, 3) int32 triangles of the face, to be sorted by depth.
        follows: (N,) float32 how much each vertex takes part in any motion, 0 where the picture never changes.
    """

    def __init__(
        self,
        landmarks_px: np.ndarray,
        shape: np.ndarray,
        head: Similarity,
        crop_size: tuple[int, int],
        open_sides: tuple[bool, bool, bool, bool],
        others_px: Sequence[tuple[float, float, float]] = (),
    ) -> None:
        self._shape, self._head = shape.astype(np.float64), head
        face = landmarks_px.astype(np.float64)
        outer = _outer_points(face, crop_size, open_sides)
        source = np.concatenate([face, outer])
        self.source = np.ascontiguousarray(source, np.float32)
        self.skin = np.ascontiguousarray(skin_triangles(), np.int32)
        self.backdrop = _backdrop(source, face)

        pin = _border_pin(source, crop_size, open_sides)
        for x, y, radius in others_px:
            pin *= smoothstep(1.0, 1.6, np.hypot(source[:, 0] - x, source[:, 1] - y) / radius)
        head_share, body_share = self._weights(outer, face)
        face_pin, outer_pin = pin[:NUM_POINTS], pin[NUM_POINTS:]
        self._face_pin = face_pin[:, None]
        self._head_share = (head_share * outer_pin)[:, None]
        self._body_share = (body_share * outer_pin * (1 - head_share) * _BODY_SHARE)[:, None]
        self._outer_shape = self._lift(outer, face)
        self._outer_rest = project(self._outer_shape, head)
        self._influence = self._oval_influence(outer, face) * outer_pin[:, None]
        outer_follows = np.maximum(self._head_share, self._body_share)[:, 0] + self._influence.sum(axis=1)
        self.follows = np.concatenate([face_pin, outer_follows]).astype(np.float32)

    @property
    def num_vertices(self) -> int:
        return len(self.source)

    def move(self, displacement: np.ndarray, head: Similarity) -> tuple[np.ndarray, np.ndarray]:
        """Where every vertex goes.

        Args:
            displacement: (478, 3) canonical units, from the face as photographed.
            head: the new placement.

        Returns:
            (N, 2) float32 target px, and (478,) depth of the face's vertices towards the camera (for painting order).
        """
        moved = self._shape + displacement
        rest = project(self._shape, self._head)
        rigid = project(self._shape, head)
        full = project(moved, head)
        bend = full - rigid
        face = self.source[:NUM_POINTS] + self._face_pin * (full - rest)
        turn = project(self._outer_shape, head) - self._outer_rest
        shift = (head.translation - self._head.translation)[:2] * (1, -1)
        outer = self.source[NUM_POINTS:] + self._head_share * turn + self._body_share * shift
        outer = outer + self._influence @ bend[list(FACE_OVAL)]
        depth = moved @ head.rotation[2]
        return np.concatenate([face, outer]).astype(np.float32), depth

    def spread_gain(self, gain: np.ndarray) -> np.ndarray:
        """The face's brightness factors (478,), and those of the outer vertices near its edge: (N,) float32."""
        outer = 1 + self._influence @ (gain[list(FACE_OVAL)] - 1)
        return np.concatenate([gain, outer]).astype(np.float32)

    def painting_order(self, depth: np.ndarray) -> np.ndarray:
        """All triangles, (M, 3) int32: the backdrop, then the face from back to front."""
        nearness = depth[self.skin].sum(axis=1)
        return np.concatenate([self.backdrop, self.skin[np.argsort(nearness, kind="stable")]])

    def _weights(self, outer: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much outer points follow the head, and the body, each (K,) in [0, 1]."""
        across, up, height, chin = _face_axes(face, self._head)
        offset = outer - chin
        u, v = offset @ across, offset @ up  # px; v up from the chin
        radius = np.hypot(u / (0.95 * height), (v - 0.62 * height) / (1.15 * height))
        neck = smoothstep(-0.75 * height, -0.02 * height, v)
        head_share = neck * (1 - smoothstep(1.0, 1.9, radius))
        body_share = smoothstep(0.1 * height, -0.3 * height, v) * (1 - smoothstep(1.2, 2.2, np.abs(u) / height))
        return head_share, body_share

    def _lift(self, outer: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Outer points in canonical space, (K, 3): behind the nearest point of the oval, seen at their own pixel."""
        oval = list(FACE_OVAL)
        distance = np.linalg.norm(outer[:, None] - face[oval][None], axis=2)
        nearest = distance.argmin(axis=1)
        gap = distance.min(axis=1) / self._head.scale
        depth = np.maximum(self._shape[oval, 2][nearest] - _RECEDE * gap, _DEEPEST)
        rows = self._head.scale * self._head.rotation[:2] * [[1], [-1]]
        seen = outer - self._head.translation[:2] * (1, -1) - depth[:, None] * rows[:, 2]
        return np.concatenate([seen @ np.linalg.inv(rows[:, :2]).T, depth[:, None]], axis=1)

    def _oval_influence(self, outer: np.ndarray, face: np.ndarray) -> np.ndarray:
        """(K, 36) how the oval's expression drags outer points along, fading with distance."""
        distance = np.linalg.norm(outer[:, None] - face[list(FACE_OVAL)][None], axis=2)
        height = _face_axes(face, self._head)[2]
        near = np.argsort(distance, axis=1)[:, :6]
        weight = np.zeros_like(distance)
        np.put_along_axis(weight, near, 1 / (np.take_along_axis(distance, near, axis=1) + 1e-3), axis=1)
        weight /= weight.sum(axis=1, keepdims=True)
        fade = np.exp(-((distance.min(axis=1) / (0.2 * height)) ** 2))
        fade[fade < 5e-3] = 0
        return weight * fade[:, None]


def face_height_px(head: Similarity, shape: np.ndarray) -> float:
    """Forehead to chin, px, whatever the head's turn."""
    return float(head.scale * np.linalg.norm(shape[FOREHEAD_TOP] - shape[CHIN]))


def _face_axes(face: np.ndarray, head: Similarity) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Unit vectors across and up the face in the picture, its height in px, and the chin's place."""
    up = head.rotation[:2, 1] * (1, -1)
    up = up / np.linalg.norm(up)
    across = np.array([-up[1], up[0]])
    height = np.linalg.norm(face[FOREHEAD_TOP] - face[CHIN])
    return across, up, float(height), face[CHIN]


def _margins(crop_size: tuple[int, int], open_sides: tuple[bool, bool, bool, bool]) -> tuple[float, ...]:
    """How far the mesh goes on beyond the left, top, right and bottom of the crop, px."""
    return tuple(1.0 if is_open else _BEYOND * max(crop_size) for is_open in open_sides)


def _outer_points(
    face: np.ndarray, crop_size: tuple[int, int], open_sides: tuple[bool, bool, bool, bool]
) -> np.ndarray:
    """Rings around the oval and a grid over the crop's remainder, (K, 2) px."""
    height, width = crop_size
    oval = face[list(FACE_OVAL)]
    centre = oval.mean(axis=0)
    rings = np.concatenate([centre + scale * (oval - centre) for scale in _RINGS])
    cell = max(height, width) / (_GRID - 1)
    left, top, right, bottom = _margins(crop_size, open_sides)
    across = np.linspace(-left, width - 1 + right, max(2, round((left + width + right) / cell) + 1))
    down = np.linspace(-top, height - 1 + bottom, max(2, round((top + height + bottom) / cell) + 1))
    grid = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    contour = oval.astype(np.float32).reshape(-1, 1, 2)
    outside = np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), False) < 0 for x, y in grid])
    taken = np.concatenate([oval, rings])
    clear = np.linalg.norm(grid[:, None] - taken[None], axis=2).min(axis=1) > 0.45 * cell
    return np.concatenate([rings, grid[outside & clear]])


def _backdrop(source: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Triangles of everything but the skin: the outer mesh, then the holes of the eyes and the mouth."""
    oval = np.array(FACE_OVAL)
    used = np.concatenate([oval, np.arange(NUM_POINTS, len(source))])
    mesh = used[Delaunay(source[used]).simplices]
    contour = face[oval].astype(np.float32).reshape(-1, 1, 2)
    middle = source[mesh].mean(axis=1)
    outside = np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), False) <= 0 for x, y in middle])
    skin = {tuple(row) for row in skin_triangles().tolist()}
    holes = np.array([row for row in triangles().tolist() if tuple(row) not in skin])
    return np.ascontiguousarray(np.concatenate([mesh[outside], holes]), np.int32)


def _border_pin(
    points: np.ndarray, crop_size: tuple[int, int], open_sides: tuple[bool, bool, bool, bool]
) -> np.ndarray:
    """(N,) 1 inside, falling to 0 on the crop's border, or outside of it where the crop ends with the photo."""
    height, width = crop_size
    x, y = points[:, 0], points[:, 1]
    pin = np.ones(len(points))
    distances = (x, y, width - 1 - x, height - 1 - y)
    for distance, margin, is_open in zip(distances, _margins(crop_size, open_sides), open_sides, strict=True):
        fade = _INNER_BORDER * max(height, width)
        pin *= smoothstep(0.0, fade, distance) if is_open else smoothstep(-margin, 0.0, distance)
    return pin
