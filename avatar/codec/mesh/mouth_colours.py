"""Colours of what a photo does not show, derived from the person's own skin and lips: never black, never pure white."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar.face_mesh import FACE_OVAL, INNER_LIP_PAIRS, LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE

CHEEKS = ((50, 101, 118, 117, 123, 147, 187, 205), (280, 330, 347, 346, 352, 376, 411, 425))
_CAVITY_OF_SKIN = np.array([0.36, 0.22, 0.25])  # black cavities look like holes; real ones are red-brown
_TONGUE_OF_SKIN = np.array([0.66, 0.42, 0.46])
_TOOTH_TINT = np.array([1.0, 0.95, 0.86])
BRIGHT_INSIDE = 0.72  # of the skin, above which an open mouth shows teeth
_OPEN = 0.31  # canonical gap from which a photo shows the inside of its mouth (3.5 % of the outer-eye distance)


@dataclass(frozen=True)
class MouthColours:
    """RGB 0..255, each (3,) float32.

    Attributes:
        skin, lip: means over the cheeks and the lips.
        cavity, tongue, gum, enamel: what they say.
        seam: where closed lips meet.
    """

    skin: np.ndarray
    lip: np.ndarray
    cavity: np.ndarray
    tongue: np.ndarray
    gum: np.ndarray
    enamel: np.ndarray
    seam: np.ndarray

    @classmethod
    def of(cls, crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray) -> MouthColours:
        """Measures a portrait's crop (H, W, 3); landmarks (478, 2) px in it, shape (478, 3) canonical."""
        skin = np.mean([polygon_pixels(crop, landmarks_px[list(cheek)]).mean(axis=0) for cheek in CHEEKS], axis=0)
        lips = polygon_pixels(crop, landmarks_px[list(LIPS_OUTER)], without=landmarks_px[list(LIPS_INNER)])
        lip = np.median(lips, axis=0)
        face = polygon_pixels(crop, landmarks_px[list(FACE_OVAL)]).max(axis=1)
        brightness = 0.95 * (np.percentile(face, 85) + 1.05 * skin.max()) / 2
        eyes = np.concatenate([polygon_pixels(crop, landmarks_px[list(ring)]) for ring in (RIGHT_EYE, LEFT_EYE)])
        white = 1.2 * float(np.percentile(eyes.max(axis=1), 88))  # the whites of the eyes tell the light on dark skin
        brightness += 0.6 * max(white - brightness, 0.0)
        hue = skin / max(float(skin.max()), 1.0)
        grey = _saturation(skin) < 0.06  # a black-and-white photo
        tint = _TOOTH_TINT if not grey else np.full(3, 0.95)
        enamel = np.minimum(brightness, 236.0) * (0.78 * tint + 0.22 * hue)
        own = _own_teeth(crop, landmarks_px, shape, skin)
        if own is not None:
            enamel = 0.3 * enamel + 0.7 * own
        cavity = skin * (_CAVITY_OF_SKIN if not grey else _CAVITY_OF_SKIN.mean())
        inside = _own_dark_inside(crop, landmarks_px, shape, skin)
        if inside is not None:
            cavity = 0.35 * cavity + 0.65 * inside
        tongue_of_skin = _TONGUE_OF_SKIN if not grey else np.full(3, _TONGUE_OF_SKIN.mean())
        tongue = 0.24 * lip + 0.70 * skin * tongue_of_skin
        gum = 0.5 * lip + 0.5 * skin * (0.8, 0.55, 0.55) if not grey else 0.7 * lip
        return cls(*(np.asarray(c, np.float32) for c in (skin, lip, cavity, tongue, gum, enamel, 0.45 * lip)))


def polygon_pixels(crop: np.ndarray, points: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
    """The pixels inside a polygon, (K, 3) float32, at least one."""
    mask = np.zeros(crop.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    if without is not None:
        hole = np.zeros_like(mask)
        cv2.fillPoly(hole, [np.round(without).astype(np.int32)], 255)
        mask[hole > 0] = 0
    chosen = crop[mask > 0]
    if len(chosen) == 0:
        x, y = np.clip(points.mean(axis=0), 0, (crop.shape[1] - 1, crop.shape[0] - 1)).astype(int)
        chosen = crop[y, x][None]
    return chosen.astype(np.float32)


def is_open(shape: np.ndarray) -> bool:
    """Whether the photo shows the inside of the mouth."""
    return bool(max(shape[upper, 1] - shape[lower, 1] for upper, lower in INNER_LIP_PAIRS) > _OPEN)


def _saturation(colour: np.ndarray) -> float:
    return float((colour.max() - colour.min()) / max(colour.max(), 1.0))


def shows_teeth(inside: np.ndarray, skin: np.ndarray) -> bool:
    """Whether the pixels (K, 3) of an open mouth are bright enough for teeth; skin (3,)."""
    return bool(np.percentile(inside.min(axis=1), 70) >= BRIGHT_INSIDE * float(skin.min()))


def _own_teeth(crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray, skin: np.ndarray) -> np.ndarray | None:
    """The colour of the teeth that the photo shows."""
    if not is_open(shape):
        return None
    inside = polygon_pixels(crop, landmarks_px[list(LIPS_INNER)])
    if not shows_teeth(inside, skin):
        return None
    whiteness = inside.min(axis=1)
    return np.median(inside[whiteness >= np.percentile(whiteness, 80)], axis=0)


def _own_dark_inside(
    crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray, skin: np.ndarray
) -> np.ndarray | None:
    """The colour inside an open but dark mouth."""
    if not is_open(shape):
        return None
    colour = np.percentile(polygon_pixels(crop, landmarks_px[list(LIPS_INNER)]), 35, axis=0)
    return colour if colour.max() < 0.6 * skin.max() else None
