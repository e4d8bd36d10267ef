"""The mouth's inside: cavity, tongue and teeth behind the lips, or the photo's own teeth; and lips that never cross."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from avatar.codec.mesh.eyes import soft_polygon
from avatar.codec.mesh.mouth_colours import MouthColours
from avatar.codec.mesh.own_mouth import OwnInterior
from avatar.codec.mesh.pose import between_planes, plane_affine
from avatar.codec.mesh.surface import smooth_ramp, smoothstep
from avatar.codec.mesh.teeth import make_teeth
from avatar.face_mesh import INNER_LIP_PAIRS, LIPS_INNER, MOUTH_CORNERS, Similarity

_PAIRS = np.array(INNER_LIP_PAIRS)
_MIDDLE = slice(3, 6)  # the pairs in the middle of the lips
_JAW = (152, 175, 199, 200, 148, 377)
_MEAN_MOUTH_WIDTH = 4.6  # canonical units; teeth and tongue are made for it
_DEAD_ZONE = (0.07, 0.26)  # gap at which the inside starts to show, and at which it is fully there
_TONGUE_DEPTH, _TEETH_DEPTH, _LOWER_TEETH_DEPTH, _CAVITY_DEPTH = 1.6, 0.55, 0.75, 2.0  # behind the lips
_TEETH_LIT = (0.1, 1.0)  # canonical gap: lips that hardly part leave the teeth in the dark
_SLIT = (0.55, 1.0)  # share of the light that reaches into a slit, and the gap into which all of it does
_LIP_SHADOW = (0.12, 0.55)  # the upper lip's on what is behind it: how far down, canonical units, and how deep
_TEETH_AMBIENT = np.float32(0.5)  # teeth stand further out than the cavity and catch more light
_WARMTH = np.array([1.0, 1.10, 1.16], np.float32)  # light that reaches them past the lips is redder the less it is
_UPPER_EDGE = (0.08, 0.40)  # biting edge below the closed lips, of the mouth's unit: range over persons
_ROLL = (0.05, 0.11)  # most of the upper and lower lip's inner side that opening shows, canonical units
_RIM_LIGHT = (np.float32(0.62), np.float32(0.88))  # of the lip's colour, above and below
_LOWER_TEETH_ALPHA, _LOWER_TEETH_LIGHT = np.float32(0.85), np.float32(0.84)


def part_lips(shape: np.ndarray, neutral: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Moves lips that have crossed back to where they touch, each half of the way; in place.

    A photo with an open mouth leaves a sliver of its teeth between the lips of its computed neutral; it is closed too.

    Args:
        shape, neutral: (478, 3) the face as photographed and with closed lips, canonical units.
        displacement: (478, 3) from the photographed face.

    Returns:
        (9,) gap of the inner lips along the mouth, canonical units, at least what the photo has if that is negative.
    """
    upper, lower = _PAIRS[:, 0], _PAIRS[:, 1]
    own = shape[upper, 1] - shape[lower, 1]
    sliver = np.maximum(neutral[upper, 1] - neutral[lower, 1], 0.0)
    gap = own + displacement[upper, 1] - displacement[lower, 1]
    opened = own - sliver
    share = np.where(opened > 0.1, np.clip((gap - sliver) / np.maximum(opened, 0.1), 0.0, 1.0), 1.0)
    wanted = np.maximum(gap - (1 - share) * sliver, np.minimum(own, 0.0))
    excess = gap - wanted
    displacement[upper, 1] -= excess / 2
    displacement[lower, 1] += excess / 2
    return wanted


def open_share(shape: np.ndarray) -> float:
    """How open the mouth of a face (478, 3), canonical units, is: 0 where the lips touch, 1 where it clearly is."""
    gap = shape[_PAIRS[:, 0], 1] - shape[_PAIRS[:, 1], 1]
    return smooth_ramp(0.1, 0.4, float(gap[_MIDDLE].mean()))


def _rolled(lips: np.ndarray, gap: np.ndarray, scale: float) -> np.ndarray:
    """The outline (20, 2) px of the inside proper, within the lips' inner edge by as much as the lips roll outward."""
    inner = lips.copy()
    down = lips[:10:-1] - lips[1:10]
    length = np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-6)
    down = down / length
    upper, lower = (
        np.minimum(share * gap, most)[:, None] * scale for share, most in zip((0.10, 0.18), _ROLL, strict=True)
    )
    inner[1:10] += down * np.maximum(upper, 0)
    inner[:10:-1] -= down * np.maximum(lower, 0)
    return inner


class _Light(NamedTuple):
    """Shares of the light outside that reach a place behind the lips, each (h, w, 1) float32."""

    depths: np.ndarray  # the cavity and the tongue
    corners: np.ndarray  # what is left towards the corners of the mouth
    under_lip: np.ndarray  # what the upper lip's shadow leaves


class Mouth:
    """What is behind one person's lips.

    Args:
        crop: (H, W, 3) uint8 the portrait's crop.
        landmarks_px: (478, 2) in the crop.
        shape, neutral: (478, 3) canonical: as photographed, and with closed lips.
        head: the photo's head placement in the crop.
        seed: what makes this person's teeth differ from another's.
    """

    def __init__(
        self,
        crop: np.ndarray,
        landmarks_px: np.ndarray,
        shape: np.ndarray,
        neutral: np.ndarray,
        head: Similarity,
        seed: int,
    ) -> None:
        self._head, self._shape = head, shape
        rng = np.random.default_rng(seed)
        right, left = MOUTH_CORNERS
        self._width = float(np.linalg.norm(neutral[left] - neutral[right]))
        self._unit = self._width / _MEAN_MOUTH_WIDTH
        lips = neutral[[13, 14]].mean(axis=0)
        self._seam = lips[:2]
        self._lip_depth = float(lips[2])
        self._colours = MouthColours.of(crop, landmarks_px, shape)
        resolution = float(np.clip(1.25 * head.scale, 6.0, 64.0))
        self._upper = make_teeth(self._colours.enamel, self._colours.gum, self._unit, resolution, upper=True, rng=rng)
        self._lower = make_teeth(self._colours.enamel, self._colours.gum, self._unit, resolution, upper=False, rng=rng)
        philtrum = float(neutral[2, 1] - neutral[0, 1])  # a long upper lip, as in age, hides more of the teeth
        shown = 0.62 - 0.22 * philtrum + 0.03 * float(rng.standard_normal())
        self._upper_edge = float(np.clip(shown, *_UPPER_EDGE)) * self._unit
        self._own = OwnInterior.of(crop, landmarks_px, shape, self._colours)
        self._was_open = open_share(shape)

    def draw(
        self, view: np.ndarray, target: np.ndarray, displacement: np.ndarray, gap: np.ndarray, head: Similarity
    ) -> None:
        """Draws the inside into the frame's crop, as much as the lips differ from the photo's.

        Args:
            view: (H, W, 3) uint8, changed in place.
            target: (N, 2) where the mesh's vertices are now, px.
            displacement: (478, 3) canonical, from the face as photographed.
            gap: (9,) gaps of the inner lips, canonical units.
            head: the head's placement.
        """
        ring = list(LIPS_INNER)
        change = float(np.abs(displacement[ring]).max())
        opening = float(gap[_MIDDLE].mean())
        widest = float(gap.max())
        changed = smooth_ramp(0.02, 0.30, change) if self._was_open > 0 else 1.0
        strength = changed * smooth_ramp(*_DEAD_ZONE, widest)
        seam = self._was_open * smooth_ramp(0.22, 0.05, widest)
        if strength == 0.0 and seam * changed == 0.0:
            return
        lips = target[ring].astype(np.float64)
        margin = 3 + round(0.25 * head.scale)
        low = np.maximum(np.floor(lips.min(axis=0)).astype(int) - margin, 0)
        high = np.minimum(np.ceil(lips.max(axis=0)).astype(int) + margin + 1, (view.shape[1], view.shape[0]))
        if (high - low < 2).any():
            return
        part = view[low[1] : high[1], low[0] : high[0]]
        size = (part.shape[0], part.shape[1])
        colour = part.astype(np.float32)
        if seam * changed > 0:
            self._darken_seam(colour, lips - low, 0.75 * seam * changed)
        if strength > 0:
            blur_px = max(0.7, 0.055 * head.scale)
            outline = soft_polygon(lips - low, size, blur_px)
            mask = soft_polygon(_rolled(lips, gap, head.scale) - low, size, blur_px)
            alpha = np.clip(outline * 1.15 - 0.08, 0, 1) * np.float32(strength)
            light = self._light(mask, opening, low, head)
            inside = self._inside(low, light, displacement, gap, head)
            if self._own is not None:
                self._own.lay_over(inside, low, between_planes(self._own.depth, self._head, head), mask, opening)
            rim = self._rim(lips, low, size)
            inside = rim + np.clip(mask * 1.15 - 0.08, 0, 1)[..., None] * (inside - rim)
            colour += alpha[..., None] * (inside - colour)
        np.copyto(part, np.clip(colour + 0.5, 0, 255).astype(np.uint8))

    def _inside(
        self, low: np.ndarray, light: _Light, displacement: np.ndarray, gap: np.ndarray, head: Similarity
    ) -> np.ndarray:
        """Colours behind the lips, (h, w, 3) float32."""
        size = (light.depths.shape[0], light.depths.shape[1])
        unit, (seam_x, seam_y) = self._unit, self._seam
        opening = max(float(gap[_MIDDLE].mean()), 0.0)
        jaw = 0.95 * displacement[list(_JAW)].mean(axis=0) + self._jaw_at_rest()
        lower_lip = self._shape[14, 1] + displacement[14, 1]

        x, y = self._plane(self._lip_depth - _CAVITY_DEPTH, low, size, head)
        down = np.clip((seam_y + 0.3 * unit - y) / (opening + 0.6 * unit), 0, 1)
        colour = self._colours.cavity * (0.70 + 0.40 * down)[..., None]

        x, y = self._plane(self._lip_depth - _TONGUE_DEPTH, low, size, head)
        rise_x = (x - seam_x - jaw[0]) / np.float32(1.45 * unit)
        rise_y = (y - (seam_y - 0.62 * unit + 0.8 * jaw[1])) / np.float32(0.60 * unit + 0.22 * opening)
        reach = np.sqrt(rise_x**2 + rise_y**2)
        tongue = smoothstep(1.05, 0.70, reach) * smooth_ramp(0.2, 0.8, opening)
        furrow = 1 - 0.12 * np.exp(-((rise_x / 0.12) ** 2))
        colour += tongue[..., None] * (self._colours.tongue * (furrow * (1.05 - 0.25 * reach))[..., None] - colour)

        colour *= light.depths
        if self._own is None:
            ambient = _TEETH_AMBIENT * np.float32(smooth_ramp(*_TEETH_LIT, opening)) * light.corners
            light_on_teeth = (ambient + (1 - _TEETH_AMBIENT) * light.depths) ** _WARMTH * light.under_lip
            x, y = self._plane(self._lip_depth - _LOWER_TEETH_DEPTH, low, size, head)
            wide = smooth_ramp(0.3, 2.0, opening)
            edge = min(seam_y + jaw[1], lower_lip + (0.24 - 0.10 * wide) * unit)
            row = self._lower.sample(x - np.float32(seam_x + jaw[0]), y - np.float32(edge))
            shown = np.float32(_LOWER_TEETH_ALPHA * smooth_ramp(0.2, 0.6, opening))
            colour += shown * (row[..., :3] * (_LOWER_TEETH_LIGHT * light_on_teeth) - row[..., 3:] * colour)

            x, y = self._plane(self._lip_depth - _TEETH_DEPTH, low, size, head)
            row = self._upper.sample(x - np.float32(seam_x), y - np.float32(seam_y - self._upper_edge))
            colour += row[..., :3] * light_on_teeth - row[..., 3:] * colour
        return colour

    def _rim(self, lips: np.ndarray, low: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The moist inner side of the lips that an opening mouth turns outward, (h, w, 3): dim above, lit below."""
        corners = lips[[0, 10]] - low
        slope = (corners[1, 1] - corners[0, 1]) / max(corners[1, 0] - corners[0, 0], 1.0)
        middle = (lips[1:10, 1].mean() + lips[11:, 1].mean()) / 2 - low[1]
        rows = np.arange(size[0], dtype=np.float32)[:, None] - np.float32(middle)
        across = (np.arange(size[1], dtype=np.float32) - np.float32(corners[:, 0].mean())) * np.float32(slope)
        below = smoothstep(-1.0, 1.0, rows - across)[..., None].astype(np.float32)
        return self._colours.lip * (_RIM_LIGHT[0] + (_RIM_LIGHT[1] - _RIM_LIGHT[0]) * below)

    def _jaw_at_rest(self) -> np.ndarray:
        """How far the jaw of the photo already hangs below the closed mouth, (3,): nothing, or the photo's opening."""
        own_gap = float((self._shape[_PAIRS[_MIDDLE, 0], 1] - self._shape[_PAIRS[_MIDDLE, 1], 1]).mean())
        return np.array([0.0, -0.75 * max(own_gap, 0.0), 0.0])

    def _light(self, mask: np.ndarray, opening: float, low: np.ndarray, head: Similarity) -> _Light:
        """How much light reaches the inside past the lips: less near them, in the corners and in a small mouth."""
        height, width = mask.shape
        ambient = cv2.GaussianBlur(mask, (0, 0), max(0.8, 0.22 * opening * head.scale))
        x, _ = self._plane(self._lip_depth, low, (height, width), head)
        corners = 1 - 0.55 * smoothstep(0.45, 1.0, np.abs(x - self._seam[0]) / (self._width / 2))
        slit = _SLIT[0] + (1 - _SLIT[0]) * min(opening / _SLIT[1], 1.0)
        length = _LIP_SHADOW[0] * head.scale
        lowered = cv2.warpAffine(mask, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, length]]), (width, height))
        under_lip = 1 - _LIP_SHADOW[1] * (1 - cv2.GaussianBlur(lowered, (0, 0), max(0.6, 0.6 * length)))
        depths = (0.52 + 0.48 * ambient) * corners * slit
        return _Light(*(part[..., None].astype(np.float32) for part in (depths, corners, under_lip)))

    def _plane(
        self, depth: float, low: np.ndarray, size: tuple[int, int], head: Similarity
    ) -> tuple[np.ndarray, np.ndarray]:
        """Canonical x, y of every pixel of a part of the frame on the plane z = depth, each (h, w) float32."""
        affine = plane_affine(depth, head)
        inverse = np.linalg.inv(affine[:, :2]).astype(np.float32)
        columns = np.arange(size[1], dtype=np.float32)[None, :] + np.float32(low[0] - affine[0, 2])
        rows = np.arange(size[0], dtype=np.float32)[:, None] + np.float32(low[1] - affine[1, 2])
        return inverse[0, 0] * columns + inverse[0, 1] * rows, inverse[1, 0] * columns + inverse[1, 1] * rows

    def _darken_seam(self, colour: np.ndarray, lips: np.ndarray, amount: float) -> None:
        """A soft dark line where the lips of an open-mouthed photo now meet; in place."""
        middle = np.concatenate([lips[:1], (lips[1:10] + lips[:10:-1]) / 2, lips[10:11]])
        line = np.zeros(colour.shape[:2], np.uint8)
        thickness = max(1, round(0.06 * self._head.scale))
        cv2.polylines(line, [np.round(middle * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, shift=4)
        soft = cv2.GaussianBlur(line, (0, 0), max(0.8, 0.05 * self._head.scale)).astype(np.float32) * (1.4 / 255)
        share = np.minimum(soft, 1.0)[..., None] * np.float32(amount)
        colour += share * (self._colours.seam - colour)
