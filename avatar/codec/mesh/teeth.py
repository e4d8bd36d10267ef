"""Rows of teeth as small pictures in canonical units, slightly irregular and different for every person."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar.codec.mesh.surface import smoothstep

# Half rows from the middle outwards: widths along the arch, and crown heights, canonical units (about cm).
_UPPER_WIDTHS = (0.86, 0.68, 0.76, 0.72, 0.72, 0.90)
_UPPER_HEIGHTS = (1.00, 0.90, 0.98, 0.86, 0.80, 0.74)
_LOWER_WIDTHS = (0.54, 0.60, 0.68, 0.70, 0.72, 0.90)
_LOWER_HEIGHTS = (0.84, 0.86, 0.94, 0.84, 0.78, 0.74)
_UPPER_ARCH, _LOWER_ARCH = 2.6, 2.35  # radii
_ABOVE, _BELOW = 1.5, 0.25  # extent of the picture from the biting edge: towards the gum, and past the edge
_SUPERSAMPLING = 3
_WIDTH_SD, _HEIGHT_SD, _TILT_SD, _BRIGHTNESS_SD = 0.035, 0.035, 0.022, 0.03


@dataclass(frozen=True)
class TeethRow:
    """A row of teeth on a plane.

    Attributes:
        colour: (h, w, 4) float32 RGBA, colour 0..255 times alpha, alpha in [0, 1].
        pixels_per_unit: resolution.
        origin: (x, y) px of the point on the biting edge in the middle of the row. Rows of the picture go from the
            upper end of the face downwards.
    """

    colour: np.ndarray
    pixels_per_unit: float
    origin: tuple[float, float]

    def sample(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The row at canonical offsets (x right, y up) from its middle, (h, w, 4) float32."""
        scale = np.float32(self.pixels_per_unit)
        columns = x * scale + np.float32(self.origin[0])
        rows = np.float32(self.origin[1]) - y * scale
        return cv2.remap(self.colour, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def make_teeth(
    enamel: np.ndarray, gum: np.ndarray, size: float, pixels_per_unit: float, *, upper: bool, rng: np.random.Generator
) -> TeethRow:
    """Draws a row.

    Args:
        enamel: (3,) RGB 0..255 of a well lit tooth.
        gum: (3,) RGB.
        size: factor on all lengths (a wide mouth has wide teeth).
        pixels_per_unit: resolution of the result.
        upper: the upper row, else the lower.
        rng: what makes this person's teeth differ.
    """
    fine = pixels_per_unit * _SUPERSAMPLING
    arch = (_UPPER_ARCH if upper else _LOWER_ARCH) * size
    half = 0.985 * arch
    columns = round(2 * half * fine)
    rows = round((_ABOVE + _BELOW) * size * fine)
    x = (np.arange(columns) + 0.5) / fine - half
    y = (_ABOVE * size - (np.arange(rows) + 0.5) / fine)[:, None] / size  # up from the biting edge
    along = arch * np.arcsin(np.clip(x / arch, -1, 1)) / size
    base = _UPPER_WIDTHS if upper else _LOWER_WIDTHS
    heights = _UPPER_HEIGHTS if upper else _LOWER_HEIGHTS
    crown, seam, tone = _crowns(along, y, base, heights, rng)

    facing = np.clip(np.cos(np.arcsin(np.clip(x / arch, -1, 1))), 0, 1) ** 0.7
    depth = 0.93 + 0.07 * smoothstep(0.0, 0.45, y) - 0.10 * smoothstep(0.55, 1.1, y)  # glassy edge, shade at the gum
    light = tone * depth * facing
    warm = np.array([1.0, 0.985, 0.95]) ** smoothstep(0.3, 1.1, y)[..., None]
    enamel_rgb = enamel * light[..., None] * warm
    enamel_rgb *= (0.83 + 0.17 * seam)[..., None]  # never black between teeth: that reads as piano keys
    gum_rgb = gum * (facing * np.ones_like(y))[..., None]
    rgb = crown[..., None] * enamel_rgb + (1 - crown)[..., None] * gum_rgb
    alpha = np.maximum(crown, smoothstep(0.35, 0.7, y) * np.ones_like(crown))
    picture = np.dstack([rgb * alpha[..., None], alpha]).astype(np.float32)
    small = (max(2, columns // _SUPERSAMPLING), max(2, rows // _SUPERSAMPLING))
    picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    picture = cv2.GaussianBlur(picture, (0, 0), max(0.4, 0.028 * pixels_per_unit))
    origin_y = _ABOVE * size * pixels_per_unit - 0.5
    if not upper:
        picture, origin_y = picture[::-1], picture.shape[0] - 1 - origin_y
    return TeethRow(np.ascontiguousarray(picture), pixels_per_unit, (half * pixels_per_unit - 0.5, origin_y))


def _crowns(
    along: np.ndarray, y: np.ndarray, widths: tuple[float, ...], heights: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverage, distance from the seams (0 in a seam, 1 inside) and tone of all teeth, each (rows, columns)."""
    shape = (y.shape[0], along.shape[0])
    crown, seam, tone = np.zeros(shape), np.ones(shape), np.ones(shape)
    for side in (-1, 1):
        start = 0.0
        for width, height in zip(widths, heights, strict=True):
            wide = width * (1 + _WIDTH_SD * rng.standard_normal())
            high = height * (1 + _HEIGHT_SD * rng.standard_normal())
            tilt, lift = _TILT_SD * rng.standard_normal(), 0.02 * rng.standard_normal()
            bright = 1 + _BRIGHTNESS_SD * rng.standard_normal()
            across = (side * along - start)[None, :] - wide / 2
            across = across + tilt * (y - 0.5)
            narrowing = 1 - 0.10 * smoothstep(0.35, 1.1, y)  # crowns taper towards the gum
            corner = 0.16 * wide
            dx = np.abs(across) - (wide / 2 * narrowing - corner)
            dy = np.abs(y - lift - high / 2) - (high / 2 - corner)
            outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner
            inside = smoothstep(0.018, -0.018, outside)
            own = (side * along >= start - 0.02)[None, :] & (side * along < start + wide + 0.02)[None, :]
            inside = inside * own
            edge = smoothstep(0.0, 0.05, wide / 2 - np.abs(across))
            take = inside > crown
            seam = np.where(take, edge, seam)
            rounding = 1 - 0.10 * (np.abs(across) / (wide / 2)) ** 2
            tone = np.where(take, bright * rounding, tone)
            crown = np.maximum(crown, inside)
            start += wide
    return crown, seam, tone
