"""Eyes: eyeballs that stay still behind sliding lids, irises that move without squashing, lids that close fully."""

from __future__ import annotations

import cv2
import numpy as np

from avatar.codec.mesh.fill import smooth_fill
from avatar.codec.mesh.pose import between_planes, plane_affine
from avatar.codec.mesh.surface import smooth_ramp, smoothstep
from avatar.face_mesh import LEFT_EYE, LEFT_IRIS, RIGHT_EYE, RIGHT_IRIS, Similarity, canonical_vertices

_LIMIT_GAZE = 0.4  # canonical units
_CLOSED_AT = 0.92  # lids that have covered this share of the opening are shut: trackers never report 1
# Per eye: upper lid, the lower lid's points below them, and the two rings of skin above the upper lid.
_UPPER = ((246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398))
_LOWER = ((7, 163, 144, 145, 153, 154, 155), (249, 390, 373, 374, 380, 381, 382))
_RING_2 = ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414))
_RING_3 = ((113, 225, 224, 223, 222, 221, 189), (342, 445, 444, 443, 442, 441, 413))
_FOLLOW = ((_RING_2, 0.88), (_RING_3, 0.30))  # lashes must travel with the lid, or they smear into streaks


def settle_lids(shape: np.ndarray, displacement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes a blink close this person's eyes exactly, however large they are, and drags the skin above along.

    Args:
        shape: (478, 3) the face as photographed, canonical units.
        displacement: (478, 3) from that face; changed in place.

    Returns:
        displacement itself, and (2,) how far the right and left eye are closed, 0 (as in the photo) to 1.
    """
    closed = np.zeros(2)
    mean = canonical_vertices()
    for eye, (upper, lower) in enumerate(zip(_UPPER, _LOWER, strict=True)):
        up, low = list(upper), list(lower)
        gap = np.maximum(shape[up, 1] - shape[low, 1], 0.0)
        change = displacement[up, 1] - displacement[low, 1]
        reference = np.minimum(gap, mean[up, 1] - mean[low, 1])
        share = float(np.clip(-change.sum() / max(reference.sum(), 0.2), 0.0, 1.0))
        if share == 0.0:
            continue
        closing = min(1.0, share / _CLOSED_AT)
        new_gap = np.maximum((gap + change + share * reference) * (1 - closing), 0.0)
        displacement[up, 1] = shape[low, 1] + displacement[low, 1] + new_gap - shape[up, 1]
        fall = np.minimum(displacement[up, 1], 0.0)
        for rings, follow in _FOLLOW:
            ring = list(rings[eye])
            displacement[ring, 1] = np.minimum(displacement[ring, 1], follow * fall)
        closed[eye] = closing
    return displacement, closed


class Eye:
    """One eyeball of one portrait, seen through its lids.

    Args:
        ring, iris: point indices in the mesh.
        crop: (H, W, 3) uint8 the portrait's crop.
        landmarks_px: (478, 2) in the crop.
        shape: (478, 3) canonical.
        head: the photo's head placement in the crop.
    """

    def __init__(
        self,
        ring: tuple[int, ...],
        iris: tuple[int, ...],
        crop: np.ndarray,
        landmarks_px: np.ndarray,
        shape: np.ndarray,
        head: Similarity,
    ) -> None:
        self._ring, self._head = list(ring), head
        self._depth = float(shape[self._ring, 2].mean())
        lids = landmarks_px[self._ring]
        self._lids = lids
        self._centre = landmarks_px[iris[0]]
        self._radius = float(np.linalg.norm(landmarks_px[list(iris[1:])] - self._centre, axis=1).mean())
        width = float(np.ptp(lids[:, 0]) + np.ptp(lids[:, 1]))
        low = np.floor(np.maximum(lids.min(axis=0) - 0.5 * width, 0)).astype(int)
        high = np.ceil(np.minimum(lids.max(axis=0) + 0.5 * width, crop.shape[1::-1])).astype(int)
        self._corner = low
        patch = crop[low[1] : high[1], low[0] : high[0]]
        self._ball = _uncovered_eyeball(patch, lids - low, self._centre - low, self._radius)
        self._lash = _lash_colour(patch, lids - low)

    def draw(self, view: np.ndarray, target: np.ndarray, head: Similarity, gaze: np.ndarray, closed: float) -> None:
        """Draws the eyeball and, where the lids meet, the lash line.

        Args:
            view: (H, W, 3) uint8 the frame's crop, changed in place.
            target: (N, 2) where the mesh's vertices are now, px.
            head: the head's placement.
            gaze: (2,) canonical shift of the iris.
            closed: how far the lids are closed beyond the photo, 0 to 1.
        """
        lids = target[self._ring].astype(np.float64)
        carry = between_planes(self._depth, self._head, head)
        steady = self._lids @ carry[:, :2].T + carry[:, 2]
        look = plane_affine(self._depth, self._head)[:, :2] @ np.clip(gaze, -_LIMIT_GAZE, _LIMIT_GAZE)
        strength = smooth_ramp(0.1, 0.7, float(np.abs(lids - steady).max() + np.abs(look).max()))
        if strength == 0.0:
            return
        low = np.maximum(np.floor(lids.min(axis=0)).astype(int) - 4, 0)
        high = np.minimum(np.ceil(lids.max(axis=0)).astype(int) + 5, (view.shape[1], view.shape[0]))
        if (high - low < 2).any():
            return
        size = (int(high[1] - low[1]), int(high[0] - low[0]))
        part = view[low[1] : high[1], low[0] : high[0]]
        opening = soft_polygon(lids - low, size, 0.8)
        visible = opening * (strength * (1 - smooth_ramp(0.75, 0.97, closed)))
        ball = self._sample(low, size, carry, look)
        mixed = part + visible[..., None] * (ball - part)
        shut = smooth_ramp(0.7, 1.0, closed)
        if shut > 0:
            line = self._lash_line(lids - low, size)
            mixed += (0.7 * shut) * line[..., None] * (self._lash - mixed)
        np.copyto(part, np.clip(mixed + 0.5, 0, 255).astype(np.uint8))

    def _sample(self, low: np.ndarray, size: tuple[int, int], carry: np.ndarray, look: np.ndarray) -> np.ndarray:
        """The eyeball's pixels for a part of the frame, (h, w, 3) float32."""
        inverse = np.linalg.inv(carry[:, :2])
        rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
        x, y = columns + np.float32(low[0] - carry[0, 2]), rows + np.float32(low[1] - carry[1, 2])
        source_x = np.float32(inverse[0, 0]) * x + np.float32(inverse[0, 1]) * y
        source_y = np.float32(inverse[1, 0]) * x + np.float32(inverse[1, 1]) * y
        if look.any():
            away = np.hypot(source_x - (self._centre[0] + look[0]), source_y - (self._centre[1] + look[1]))
            moved = (1 - smoothstep(1.2 * self._radius, 2.6 * self._radius, away)).astype(np.float32)
            source_x -= moved * np.float32(look[0])
            source_y -= moved * np.float32(look[1])
        source_x -= np.float32(self._corner[0])
        source_y -= np.float32(self._corner[1])
        return cv2.remap(self._ball, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _lash_line(self, lids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(h, w) float32 in [0, 1]: a thin line where the lids meet, fading towards the corners."""
        closing = np.concatenate([lids[:1], (lids[1:8] + lids[:8:-1]) / 2, lids[8:9]])
        thickness = max(1, round(self._radius / 8))
        line = np.zeros(size, np.uint8)
        points = np.round(closing * 16).astype(np.int32)
        cv2.polylines(line, [points], False, 255, thickness, cv2.LINE_AA, shift=4)
        line = cv2.GaussianBlur(line, (0, 0), 0.5 + 0.04 * self._radius).astype(np.float32)
        return np.minimum(line * (1.6 / 255), 1.0)


def make_eyes(crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray, head: Similarity) -> tuple[Eye, Eye]:
    """The right and the left eye of a portrait."""
    right = Eye(RIGHT_EYE, RIGHT_IRIS, crop, landmarks_px, shape, head)
    return right, Eye(LEFT_EYE, LEFT_IRIS, crop, landmarks_px, shape, head)


def soft_polygon(points: np.ndarray, size: tuple[int, int], blur_px: float) -> np.ndarray:
    """(h, w) float32 in [0, 1]: the polygon's inside with soft edges."""
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), blur_px).astype(np.float32) * np.float32(1 / 255)


def _uncovered_eyeball(patch: np.ndarray, lids: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """The patch as if the lids were away, (h, w, 3) float32: iris mirrored into its hidden part, white spread out."""
    height, width = patch.shape[:2]
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [np.round(lids * 16).astype(np.int32)], 255, shift=4)
    erosion = max(1, round(radius / 5))
    seen = cv2.erode(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * erosion + 1, 2 * erosion + 1))) > 0
    rows, columns = np.mgrid[0:height, 0:width]
    from_iris = np.hypot(columns - centre[0], rows - centre[1]) / max(radius, 1.0)
    mirrored = np.clip(np.round(2 * centre[1] - rows).astype(int), 0, height - 1)
    take = (from_iris < 1.1) & ~seen & seen[mirrored, columns]
    whole = patch.copy()
    whole[take] = patch[mirrored, columns][take]
    iris = (seen | take) & (from_iris < 1.15)
    white = seen & (from_iris >= 1.15)
    if not iris.any() or not white.any():
        return smooth_fill(whole, (seen | take).astype(np.float32)) if seen.any() else patch.astype(np.float32)
    brightness = whole.sum(axis=2)
    bright = white & (brightness >= np.percentile(brightness[white], 30))  # the lids' shadow must not spread
    around = 0.95 * smooth_fill(whole, bright.astype(np.float32))
    middle, half = lids[[0, 8]].mean(axis=0), np.linalg.norm(lids[0] - lids[8]) / 2  # between the corners
    outwards = np.hypot(columns - middle[0], rows - middle[1]) / max(float(half), 1.0)
    around *= (1 - 0.4 * smoothstep(0.55, 1.0, outwards))[..., None]  # an eyeball is round, its sides in shade
    disc = (1 - smoothstep(1.0, 1.15, from_iris))[..., None]
    unseen = disc * smooth_fill(whole, iris.astype(np.float32)) + (1 - disc) * around
    kept = cv2.GaussianBlur((seen | take).astype(np.float32), (0, 0), 0.8)[..., None]
    return np.ascontiguousarray(kept * whole + (1 - kept) * unseen, np.float32)


def _lash_colour(patch: np.ndarray, lids: np.ndarray) -> np.ndarray:
    """The upper lid's darkest samples, darker still, (3,) float32."""
    at = np.clip(np.round(lids[8:]).astype(int), 0, (patch.shape[1] - 1, patch.shape[0] - 1))
    colours = patch[at[:, 1], at[:, 0]].astype(np.float32)
    darkest = colours[np.argsort(colours.sum(axis=1))[: max(1, len(colours) // 3)]]
    return darkest.mean(axis=0) * 0.7
