"""Cheap measures of a clip's pictures: light, sharpness, noise, blocks, motion, borders, written text.

All on frames sampled from the one decoding, at no more than 640 px, so that they mean the same for every source: sharpness
and motion on a picture whose shorter side is brought to a fixed size. Grey values are HSI intensity, (R + G + B) / 3.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register

DARK_LEVEL, BRIGHT_LEVEL = 5, 250  # of 255: clipped at either end
SHARPNESS_SIDE_PX, MOTION_SIDE_PX = 512, 192
MOTION_STEP_FRAMES = 3  # about 8 pictures a second, as MAGI-1 looks at motion
_NUM_SAMPLES, _MAX_PAIRS = 12, 16
_BLOCK_PX, _LEAST_VARIANCE = 64, 0.25  # the latter: half a grey level, which is rounding
_STILL_DIFFERENCE = 6.0  # of 255, nowhere more over 5 × 5 px: such pictures differ by compression only
_BORDER_STD, _BORDER_EDGE = 2.5, 5.0  # grey levels
_STROKES = np.ones((9, 9), np.uint8)  # writing is thinner than this, of a picture whose shorter side is 360 px
_WHITE_INK, _BLACK_INK, _INK_CONTRAST = 200, 50, 60
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


@register("picture")
class PictureScorer:
    """Fills the picture columns that need no face."""

    name = "picture"
    version = "3"
    columns = columns(
        *"brightness_mean dark_frac bright_frac lap_var_512 sharpness_512 noise_sigma blockiness".split(),
        *"flow_mean_px cam_jitter slide_score border_frac overlay_text_frac".split(),
    )
    weights: tuple[WeightSpec, ...] = ()

    def setup(self) -> None:
        """Nothing to load."""

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All columns of one clip; motion is null for a single frame, blockiness where the source is larger than 640 px."""
        frames = clip.frames()
        chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _NUM_SAMPLES).round().astype(int))]
        grey = np.stack([intensity(frame) for frame in chosen])
        values: dict[str, Any] = {
            "brightness_mean": float(grey.mean()) / 255,
            "dark_frac": float((grey <= DARK_LEVEL).mean()),
            "bright_frac": float((grey >= BRIGHT_LEVEL).mean()),
            "lap_var_512": float(np.median([sharpness(g, SHARPNESS_SIDE_PX) for g in grey])),
            "sharpness_512": float(np.median([local_sharpness(g, SHARPNESS_SIDE_PX) for g in grey])),
            "noise_sigma": float(np.median([noise_sigma(g) for g in grey])),
            "border_frac": border_frac(grey),
            "overlay_text_frac": overlay_text_frac(np.stack([frame.max(axis=2) for frame in chosen])),
        }
        if clip.scale == 1.0:
            values["blockiness"] = float(np.median([blockiness(g) for g in grey]))
        return values | _motion(frames)


def intensity(frame: np.ndarray) -> np.ndarray:
    """HSI intensity of (H, W, 3) uint8 RGB: (H, W) float32, 0 to 255."""
    return cv2.transform(frame, np.full((1, 3), 1 / 3, np.float32)).astype(np.float32)


def sharpness(grey: np.ndarray, side_px: int) -> float:
    """Variance of the Laplacian of (H, W) grey values whose shorter side is first brought to `side_px`.

    Source: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    return float(cv2.Laplacian(with_short_side(grey, side_px), cv2.CV_32F).var())


def sharpness_by_contrast(grey: np.ndarray, side_px: int) -> float:
    """Like `sharpness`, over the variance of the grey values, in thousandths: the same in other light and contrast."""
    small = with_short_side(grey, side_px)
    return 1000.0 * float(cv2.Laplacian(small, cv2.CV_32F).var()) / (float(small.var()) + _LEAST_VARIANCE)


def local_sharpness(grey: np.ndarray, side_px: int) -> float:
    """`sharpness_by_contrast` of the sharpest tenth of the picture: a ground out of focus is no fault.

    Blocks of 64 px that overlap by half; one with less than a third of the picture's contrast counts for less, since what it
    shows is noise.
    """
    small = with_short_side(grey, side_px)
    laplacian = cv2.Laplacian(small, cv2.CV_32F)
    weak = 0.1 * float(small.var()) + _LEAST_VARIANCE
    ratios = 1000.0 * _block_variance(laplacian) / (_block_variance(small) + weak)
    return float(np.percentile(ratios, 90))


def _block_variance(values: np.ndarray) -> np.ndarray:
    size = (_BLOCK_PX, _BLOCK_PX)
    mean, square = cv2.blur(values, size), cv2.blur(values * values, size)
    step = slice(_BLOCK_PX // 2, None, _BLOCK_PX // 2)
    return np.maximum(square - mean * mean, 0)[step, step]


def with_short_side(picture: np.ndarray, side_px: int) -> np.ndarray:
    """A picture (H, W[, C]), made larger or smaller."""
    height, width = picture.shape[:2]
    factor = side_px / min(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def noise_sigma(grey: np.ndarray) -> float:
    """Standard deviation of the noise of (H, W) grey values, in grey levels; edges hardly count.

    Source: J. Immerkaer, "Fast noise variance estimation", 1996, with the median in place of the mean.
    """
    response = cv2.filter2D(grey, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1]
    return float(np.median(np.abs(response))) / (6 * 0.6745)


def blockiness(grey: np.ndarray) -> float:
    """Steps across the borders of 8 × 8 blocks over steps elsewhere, (H, W) grey values; 1: no blocks to be seen.

    Source: Z. Wang et al., "Blind measurement of blocking artifacts in images", ICIP 2000, in the pixel domain.
    """
    ratios = []
    for steps in (np.abs(np.diff(grey, axis=1)).mean(axis=0), np.abs(np.diff(grey, axis=0)).mean(axis=1)):
        at_border = np.arange(1, len(steps) + 1) % 8 == 0
        ratios.append((steps[at_border].mean() + 0.1) / (steps[~at_border].mean() + 0.1))
    return float(np.mean(ratios))


def border_frac(grey: np.ndarray) -> float:
    """Share of the picture that plain bars at its edges cover: each line of one colour, never changing, with a sharp end.

    Args:
        grey: (n, H, W) frames of one clip.
    """
    left = [_bar(view) for view in (grey, grey[:, ::-1], grey.transpose(0, 2, 1), grey.transpose(0, 2, 1)[:, ::-1])]
    height, width = grey.shape[1:]
    inner = max(0, height - left[0] - left[1]) * max(0, width - left[2] - left[3])
    return 1.0 - inner / (height * width)


def _bar(grey: np.ndarray) -> int:
    """Rows from the top that belong to a bar."""
    spread = np.maximum(grey.std(axis=2).max(axis=0), grey.mean(axis=2).std(axis=0))
    plain = int(np.argmax(spread > _BORDER_STD)) if (spread > _BORDER_STD).any() else 0
    ends = [plain, plain + 1, plain + 2]  # compression blurs the end over a line or two
    inside = np.median(grey[:, :plain], axis=(1, 2)) if plain else None
    if inside is None:
        return 0
    beyond = [np.abs(grey[:, row] - inside[:, None]) for row in ends if row < grey.shape[1]]
    return plain if max(float((step > _BORDER_EDGE).mean()) for step in beyond) > 0.6 else 0


def overlay_text_frac(light: np.ndarray) -> float:
    """Share of picture and time under lines of writing: strokes of white or black ink, side by side.

    A heuristic for captions, name plates and logos; signs in the scene count too.

    Args:
        light: (n, H, W) frames of one clip, the largest of a pixel's three channels, so that yellow is as light as white.
    """
    return float(np.mean([_under_writing(with_short_side(frame.astype(np.float32), 360)).mean() for frame in light]))


def _under_writing(light: np.ndarray) -> np.ndarray:
    """(H, W) bool: the boxes about lines of writing."""
    covered = np.zeros(light.shape, bool)
    for strokes, is_ink in (
        (cv2.morphologyEx(light, cv2.MORPH_TOPHAT, _STROKES), light >= _WHITE_INK),
        (cv2.morphologyEx(light, cv2.MORPH_BLACKHAT, _STROKES), light <= _BLACK_INK),
    ):
        ink = (strokes > _INK_CONTRAST).astype(np.uint8)
        lines = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((3, 15), np.uint8))
        for left, top, width, height, _ in cv2.connectedComponentsWithStats(lines)[2][1:]:
            window = (slice(top, top + height), slice(left, left + width))
            if _is_writing(ink[window], is_ink[window]):
                covered[window] = True
    return covered


def _is_writing(ink: np.ndarray, is_ink: np.ndarray) -> bool:
    """Whether strokes (h, w) look like a line of letters: as long as that, many, separate, and of ink of one colour."""
    height, width = ink.shape
    if not (6 <= height <= 60 and width >= 3 * height and 0.12 <= ink.mean() <= 0.7):
        return False
    changes = np.abs(np.diff(ink.astype(np.int8), axis=1)).sum(axis=1).mean()
    letters = (cv2.connectedComponentsWithStats(ink)[2][1:, cv2.CC_STAT_AREA] >= 6).sum()
    return bool(changes >= width / 10 and letters >= 4 and is_ink[ink > 0].mean() >= 0.25)


def _motion(frames: np.ndarray) -> dict[str, Any]:
    """Columns of motion, from pairs of pictures 0.12 s apart."""
    starts = np.arange(0, len(frames) - MOTION_STEP_FRAMES, MOTION_STEP_FRAMES)
    if not len(starts):
        return {}
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, _MAX_PAIRS).round().astype(int))]
    sizes, cameras, still = [], [], []
    for start in starts:
        before, after = (_small(frames[k]) for k in (start, start + MOTION_STEP_FRAMES))
        flow = optical_flow(before, after)
        sizes.append(float(np.linalg.norm(flow, axis=-1).mean()))
        cameras.append(np.median(np.concatenate([flow[:, :12], flow[:, -12:]], axis=1), axis=(0, 1)))
        change = cv2.blur(cv2.absdiff(before, after).astype(np.float32), (5, 5))
        still.append(float(np.quantile(change, 0.995)) < _STILL_DIFFERENCE)
    camera = np.array(cameras)
    return {
        "flow_mean_px": float(np.mean(sizes)),
        "cam_jitter": float(np.linalg.norm(np.diff(camera, axis=0), axis=1).mean()) if len(camera) > 1 else None,
        "slide_score": float(np.mean(still)),
    }


def optical_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Dense flow (H, W, 2) between two uint8 grey pictures, in px of a picture whose shorter side is 512.

    Source: T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016 (OpenCV's implementation).
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST).calc(before, after, None)
    return flow * (SHARPNESS_SIDE_PX / min(before.shape))


def _small(frame: np.ndarray) -> np.ndarray:
    return with_short_side(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), MOTION_SIDE_PX)
