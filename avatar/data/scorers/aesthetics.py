"""A picture's looks from what can be measured without a model: an ordering by rules of thumb, not a judgement of taste.

Nothing was fitted to people's ratings, and the numbers are not comparable with LAION's or NIMA's; `aes_backend` says which ran.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.face_picture import FACE_SIDE_PX, face_crop
from avatar.data.scorers.picture import (
    BRIGHT_LEVEL,
    DARK_LEVEL,
    SHARPNESS_SIDE_PX,
    intensity,
    local_sharpness,
    noise_sigma,
    sharpness_by_contrast,
)
from avatar.identity.crop import landmark_box

BACKEND = "heuristic-2"
_NUM_SAMPLES = 8


@register("aesthetics")
class AestheticsScorer:
    """Fills aes_score (0 to 10) from light, contrast, colour, sharpness and the face's place; iqa_score (0 to 100) from faults.

    `aes_std` is the spread over the frames looked at. Without a face its part is left out, not taken as bad.
    """

    name = "aesthetics"
    version = "2"
    columns = columns("aes_backend", "aes_score", "aes_std", "iqa_backend", "iqa_score")
    weights: tuple[WeightSpec, ...] = ()

    def setup(self) -> None:
        """Nothing to load."""

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All columns of one clip."""
        frames, tracks = clip.frames(), clip.tracks()
        chosen = np.unique(np.linspace(0, len(frames) - 1, _NUM_SAMPLES).round().astype(int))
        looks, faults = [], []
        for k in chosen:
            track = tracks[0] if tracks else None
            index = None if track is None else int(np.abs(track.frames - k).argmin())
            looks.append(10 * _mean(looks_of(frames[k], track, index, clip.scale)))
            faults.append(100 * _mean(quality_of(frames[k], track, index, clip.scale)))
        return {
            "aes_backend": BACKEND,
            "aes_score": float(np.mean(looks)),
            "aes_std": float(np.std(looks)),
            "iqa_backend": BACKEND,
            "iqa_score": float(np.mean(faults)),
        }


def looks_of(frame: np.ndarray, track: FaceTrack | None, index: int | None, scale: float) -> dict[str, float]:
    """Each criterion in [0, 1] for one frame (H, W, 3) uint8 RGB and the face's `index`-th landmarks, None for no face."""
    grey = intensity(frame)
    parts = {
        "exposure": _bump(float(grey.mean()) / 255, 0.45, 0.2),
        "contrast": _rise(float(grey.std()), 15, 60),
        "colour": _rise(colourfulness(frame), 5, 45),
        "sharpness": _rise(math.log1p(local_sharpness(grey, SHARPNESS_SIDE_PX)), math.log1p(5), math.log1p(120)),
    }
    if track is None or index is None:
        return parts
    box = landmark_box(track.landmarks[index] * scale)
    height, width = grey.shape
    x, y = box.centre
    return parts | {
        "face_size": _rise(box.height / height, 0.08, 0.35),
        "face_place": _bump(x / width, 0.5, 0.25) * _bump(y / height, 0.42, 0.25),
    }


def quality_of(frame: np.ndarray, track: FaceTrack | None, index: int | None, scale: float) -> dict[str, float]:
    """How free of each fault a frame is, in [0, 1]; arguments as of `looks_of`."""
    grey = intensity(frame)
    clipped = float((grey <= DARK_LEVEL).mean() + (grey >= BRIGHT_LEVEL).mean())
    parts = {
        "sharpness": _rise(math.log1p(local_sharpness(grey, SHARPNESS_SIDE_PX)), math.log1p(5), math.log1p(120)),
        "noise": 1 - _rise(noise_sigma(grey), 2, 15),
        "exposure": 1 - _rise(clipped, 0.05, 0.6),
        "brightness": _rise(float(grey.mean()) / 255, 0.05, 0.25),
    }
    if track is not None and index is not None:
        crop = face_crop(frame, track, index, scale)
        if min(crop.shape[:2]) >= 8:
            on_face = math.log1p(sharpness_by_contrast(intensity(crop), FACE_SIDE_PX))
            parts["face_sharpness"] = _rise(on_face, math.log1p(0.5), math.log1p(20))
    return parts


def colourfulness(frame: np.ndarray) -> float:
    """0 for grey, about 45 for a colourful picture.

    Source: D. Hasler and S. Suesstrunk, "Measuring colourfulness in natural images", 2003, eq. 17.
    """
    red, green, blue = (channel.astype(np.float32) for channel in cv2.split(frame))
    across, along = red - green, (red + green) / 2 - blue
    return float(math.hypot(across.std(), along.std()) + 0.3 * math.hypot(across.mean(), along.mean()))


def _mean(parts: dict[str, float]) -> float:
    """Geometric mean, so that one bad fault is not made up for; no part counts as less than 0.02."""
    return math.exp(float(np.mean([math.log(max(value, 0.02)) for value in parts.values()])))


def _rise(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _bump(value: float, centre: float, width: float) -> float:
    return math.exp(-0.5 * ((value - centre) / width) ** 2)
