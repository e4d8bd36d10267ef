"""What of the picture concerns the face: its light, how sharp it is, and how it and the ground move. Runs after `faces`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.picture import (
    BRIGHT_LEVEL,
    MOTION_SIDE_PX,
    MOTION_STEP_FRAMES,
    intensity,
    optical_flow,
    sharpness,
    sharpness_by_contrast,
    with_short_side,
)
from avatar.identity.crop import landmark_box

FACE_SIDE_PX = 256
_NUM_SAMPLES = 8


@register("face_picture")
class FacePictureScorer:
    """Fills the picture columns that need the main face's track; null without one."""

    name = "face_picture"
    version = "2"
    columns = columns(
        *"face_lap_var_256 face_sharpness_256 face_brightness_p95 face_bright_frac flow_fg_px flow_bg_px".split()
    )
    weights: tuple[WeightSpec, ...] = ()

    def setup(self) -> None:
        """Nothing to load."""

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All columns of one clip."""
        tracks, frames = clip.tracks(), clip.frames()
        if not tracks:
            return {}
        track = tracks[0]
        chosen = np.unique(np.linspace(0, len(track.frames) - 1, _NUM_SAMPLES).round().astype(int))
        chosen = chosen[track.frames[chosen] < len(frames)]
        crops = [face_crop(frames[track.frames[k]], track, int(k), clip.scale) for k in chosen]
        values: dict[str, Any] = _of_faces([intensity(crop) for crop in crops if min(crop.shape[:2]) >= 8])
        flows = [
            flow
            for k in chosen
            if track.frames[k] + MOTION_STEP_FRAMES < len(frames)
            and (flow := _face_and_rest(frames, track, int(k), clip.scale)) is not None
        ]
        if flows:
            values["flow_fg_px"], values["flow_bg_px"] = (float(np.mean(column)) for column in zip(*flows, strict=True))
        return values


def _of_faces(greys: list[np.ndarray]) -> dict[str, float]:
    """Medians over the faces' grey values, (H, W) each; {} where there is none."""
    if not greys:
        return {}
    measured = {
        "face_lap_var_256": [sharpness(grey, FACE_SIDE_PX) for grey in greys],
        "face_sharpness_256": [sharpness_by_contrast(grey, FACE_SIDE_PX) for grey in greys],
        "face_brightness_p95": [np.percentile(grey, 95) / 255 for grey in greys],
        "face_bright_frac": [(grey >= BRIGHT_LEVEL).mean() for grey in greys],
    }
    return {name: float(np.median(values)) for name, values in measured.items()}


def face_crop(frame: np.ndarray, track: FaceTrack, index: int, scale: float) -> np.ndarray:
    """The box of the track's `index`-th landmarks cut out of (H, W, 3); may be empty."""
    box = landmark_box(track.landmarks[index] * scale)
    top, bottom = max(0, int(box.top)), max(0, int(box.bottom))
    left, right = max(0, int(box.left)), max(0, int(box.right))
    return np.ascontiguousarray(frame[top:bottom, left:right])


def _face_and_rest(frames: np.ndarray, track: FaceTrack, index: int, scale: float) -> tuple[float, float] | None:
    """Mean flow within the face's box and outside it; None where one of them is no part of the picture."""
    start = int(track.frames[index])
    before, after = (
        with_short_side(cv2.cvtColor(frames[k], cv2.COLOR_RGB2GRAY), MOTION_SIDE_PX)
        for k in (start, start + MOTION_STEP_FRAMES)
    )
    size = np.linalg.norm(optical_flow(before, after), axis=-1)
    factor = scale * min(before.shape) / min(frames.shape[1:3])
    box = landmark_box(track.landmarks[index] * factor)
    is_face = np.zeros(size.shape, bool)
    is_face[max(0, int(box.top)) : max(0, int(box.bottom)), max(0, int(box.left)) : max(0, int(box.right))] = True
    if is_face.all() or not is_face.any():
        return None
    return float(size[is_face].mean()), float(size[~is_face].mean())
