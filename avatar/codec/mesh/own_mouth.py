"""The teeth of a photo that smiles: cut out once, fixed to the skull, uncovered and covered by the moving lips."""

from __future__ import annotations

import cv2
import numpy as np

from avatar.codec.mesh.eyes import soft_polygon
from avatar.codec.mesh.fill import smooth_fill
from avatar.codec.mesh.mouth_colours import MouthColours, is_open, polygon_pixels, shows_teeth
from avatar.codec.mesh.surface import smooth_ramp, smoothstep
from avatar.face_mesh import LIPS_INNER, MOUTH_CORNERS

_RISE = 0.26  # how far the teeth go on under the upper lip, in mouth widths
_DEPTH = 0.5  # canonical units behind the lips
_SLIT_LIGHT = 0.55  # left on teeth behind lips that nearly close; all of it at the photo's gap, or at the one below
_FULLY_LIT = 0.7  # canonical units
_GUM_LIGHT = 0.55  # gums lie in the upper lip's shadow
_BANDS = 10  # of the opening from the upper to the lower lip, in which rows of teeth are told apart
_BETWEEN_ROWS = 0.8  # of the brightness of both rows: what is darker separates them
_LOWEST_EDGE = 0.7  # biting edge of the upper teeth, 0 at the upper and 1 at the lower lip, when only they show
_MIDDLE = (0.4, 0.6)  # of the opening, likewise: upper teeth that show reach into it ...
_AS_BRIGHT = 0.92  # ... and are as bright there as anywhere, while lower ones leave it in the shade
_CENTRE = 0.65  # of what is bright, likewise: lower still means lower teeth


class OwnInterior:
    """The inside of a photo's open, bright mouth as a layer.

    Attributes:
        depth: canonical z of its plane.
    """

    def __init__(self, colour: np.ndarray, alpha: np.ndarray, corner: np.ndarray, depth: float, gap: float) -> None:
        self._layer = np.ascontiguousarray(np.dstack([colour * alpha[..., None], alpha]), np.float32)
        self._corner, self._gap = corner, gap
        self.depth = depth

    @classmethod
    def of(
        cls, crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray, colours: MouthColours
    ) -> OwnInterior | None:
        """The layer, or None when the photo's mouth is closed, dark inside or shows lower teeth, which the jaw carries."""
        ring = list(LIPS_INNER)
        if not is_open(shape):
            return None
        if not shows_teeth(polygon_pixels(crop, landmarks_px[ring]), colours.skin):
            return None  # a dark open mouth must not be pasted where teeth belong
        lips = landmarks_px[ring]
        width = float(np.linalg.norm(landmarks_px[MOUTH_CORNERS[0]] - landmarks_px[MOUTH_CORNERS[1]]))
        low = np.floor(np.maximum(lips.min(axis=0) - 0.3 * width, 0)).astype(int)
        high = np.ceil(np.minimum(lips.max(axis=0) + 0.3 * width, crop.shape[1::-1])).astype(int)
        patch = crop[low[1] : high[1], low[0] : high[0]]
        size = (patch.shape[0], patch.shape[1])
        opening = soft_polygon(lips - low, size, 0.6)
        inset = max(1, round(0.012 * width))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * inset + 1, 2 * inset + 1))
        core = cv2.erode((opening > 0.5).astype(np.uint8), kernel).astype(np.float32)
        if core.sum() < 12 or not _only_upper_teeth(patch.min(axis=2), core, lips - low):
            return None
        brightness = patch.sum(axis=2)
        light = core * (brightness >= np.percentile(brightness[core > 0.5], 40))  # teeth, not the lips' shadow
        colour = core[..., None] * patch + (0.93 * (1 - core[..., None])) * smooth_fill(patch, light)
        colour = _towards_gums_and_corners(colour, core, lips - low, width, colours.gum)
        raised = lips - low
        centre = raised.mean(axis=0)
        up = landmarks_px[13] - landmarks_px[14]
        up = up / max(float(np.linalg.norm(up)), 1e-6)
        grown = centre + (1.12, 1.06) * (raised - centre)
        grown[1:10] += _RISE * width * up
        alpha = soft_polygon(grown, size, max(0.8, 0.02 * width))
        alpha = alpha * _near(core, lips - low, width)
        return cls(colour, alpha, low, float(shape[[13, 14], 2].mean()) - _DEPTH, float(shape[13, 1] - shape[14, 1]))

    def lay_over(
        self, inside: np.ndarray, low: np.ndarray, carry: np.ndarray, mask: np.ndarray, opening: float
    ) -> None:
        """Lays the teeth over the cavity, in place.

        Args:
            inside: (h, w, 3) float32, the shaded cavity of a part of the frame.
            low: (x, y) of that part in the crop.
            carry: (2, 3) from photo px to frame px on this layer's plane.
            mask: (h, w) the lips' opening.
            opening: canonical gap.
        """
        inverse = cv2.invertAffineTransform(carry)
        inverse[:, 2] += inverse[:, :2] @ low - self._corner
        size = (inside.shape[1], inside.shape[0])
        layer = cv2.warpAffine(self._layer, inverse, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        ambient = cv2.GaussianBlur(mask, (0, 0), 1.0 + 0.03 * size[0])
        slit = _SLIT_LIGHT + (1 - _SLIT_LIGHT) * smooth_ramp(0.0, min(self._gap, _FULLY_LIT), opening)
        light = (np.float32(slit) * (0.80 + 0.20 * ambient))[..., None]
        inside += layer[..., :3] * light - layer[..., 3:] * inside


def _near(core: np.ndarray, lips: np.ndarray, width: float) -> np.ndarray:
    """(h, w): 1 in the opening that the photo shows and above it, fading beside and below: there is nothing known."""
    away = cv2.distanceTransform((core < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / max(width, 1.0)
    rows, columns = np.mgrid[0 : core.shape[0], 0 : core.shape[1]]
    up = lips[5] - lips[15]
    height = (columns - lips[5, 0]) * up[0] + (rows - lips[5, 1]) * up[1]
    above = smoothstep(-0.3, 0.2, height / max(float(up @ up), 1.0))
    return 1 - smoothstep(0.02, 0.08, away) * (1 - above)


def _only_upper_teeth(brightness: np.ndarray, core: np.ndarray, lips: np.ndarray) -> bool:
    """Whether the opening (core, lips (20, 2) px of the patch) shows one row of teeth, and that hangs from above."""
    along = (lips[10] - lips[0]) / max(float(np.linalg.norm(lips[10] - lips[0])), 1e-6)
    down = np.array([-along[1], along[0]])
    rows, columns = np.nonzero(core > 0.5)
    x, y = (columns * axis[0] + rows * axis[1] for axis in (along, down))
    upper, lower = lips[:11], np.concatenate([lips[:1], lips[:9:-1]])
    top, bottom = (np.interp(x, np.maximum.accumulate(lip @ along), lip @ down) for lip in (upper, lower))
    level = np.clip((y - top) / np.maximum(bottom - top, 1.0), 0.0, 0.999)
    band = (level * _BANDS).astype(int)
    count = np.bincount(band, minlength=_BANDS)
    seen = np.flatnonzero(count)
    profile = np.bincount(band, brightness[rows, columns], minlength=_BANDS)[seen] / count[seen]
    place = (seen + 0.5) / _BANDS
    for k in range(1, len(seen) - 1):
        rows_around = min(profile[:k].max(), profile[k + 1 :].max())
        if 0.2 < place[k] < _LOWEST_EDGE and profile[k] < _BETWEEN_ROWS * rows_around:
            return False
    middle = profile[(place > _MIDDLE[0]) & (place < _MIDDLE[1])]
    weight = profile - profile.min()
    hangs = (place * weight).sum() <= _CENTRE * weight.sum()
    return bool(hangs and middle.size and middle.max() >= _AS_BRIGHT * profile.max())


def _towards_gums_and_corners(
    colour: np.ndarray, core: np.ndarray, lips: np.ndarray, width: float, gum: np.ndarray
) -> np.ndarray:
    """What lies beyond the teeth that the photo shows: gums above them, the cheeks' shadow beside them."""
    distance = cv2.distanceTransform((core < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / max(width, 1.0)
    along = (lips[10] - lips[0]) / max(float(np.linalg.norm(lips[10] - lips[0])), 1e-6)
    centre = lips.mean(axis=0)
    half = float(np.abs((lips - centre) @ along).max())
    rows, columns = np.mgrid[0 : colour.shape[0], 0 : colour.shape[1]]
    offset = np.stack([columns - centre[0], rows - centre[1]], axis=-1)
    beside = smoothstep(0.70, 1.0, np.abs(offset @ along) / max(half, 1.0)) * smoothstep(0.0, 0.04, distance)
    above = (offset @ np.array([-along[1], along[0]]) < 0) * smoothstep(0.01, 0.10, distance)
    colour = colour + (0.8 * above)[..., None] * (_GUM_LIGHT * gum - colour)
    return (colour * (1 - 0.45 * beside)[..., None]).astype(np.float32)
