"""A picture with unknown parts to a whole one: a smooth fill, and one that carries the texture around over the gap."""

from __future__ import annotations

import cv2
import numpy as np

_MOST_DETAIL = 24.0  # grey levels: grain and leaves may be mirrored, lettering must not be


def smooth_fill(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills unknown pixels by push-pull: averages of the known ones, from ever wider surroundings.

    Args:
        image: (H, W, C) any real type.
        known: (H, W) float32 in [0, 1], how much each pixel counts.

    Returns:
        (H, W, C) float32; known pixels (weight 1) are unchanged.

    Source: Gortler et al. 1996, "The Lumigraph", section 3.4 (pull-push).
    """
    weight = np.ascontiguousarray(known, np.float32)
    colour = image.astype(np.float32) * weight[..., None]
    levels = [(colour, weight)]
    while min(weight.shape) > 1:
        size = (max(1, weight.shape[1] // 2), max(1, weight.shape[0] // 2))
        colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0])
        levels.append((colour, weight))
    colour, weight = levels.pop()
    whole = colour / np.maximum(weight, 1e-6)[..., None]
    for colour, weight in reversed(levels):
        size = (weight.shape[1], weight.shape[0])
        wider = cv2.resize(whole, size, interpolation=cv2.INTER_LINEAR).reshape(*weight.shape, -1)
        whole = colour + (1 - weight[..., None]) * wider  # colour carries its weight already
    return whole


def textured_fill(image: np.ndarray, gap: np.ndarray, reach_px: float) -> np.ndarray:
    """Fills a gap smoothly and lays the detail of its surroundings over it, mirrored at the gap's edge.

    Args:
        image: (H, W, 3) uint8.
        gap: (H, W) bool, the pixels to invent.
        reach_px: how far into the gap the detail is carried.

    Returns:
        (H, W, 3) uint8, equal to the image outside the gap.
    """
    known = (~gap).astype(np.float32)
    smooth = smooth_fill(image, known)
    smooth = np.where(gap[..., None], cv2.GaussianBlur(smooth, (0, 0), max(1.0, reach_px / 12)), image)
    distance, labels = cv2.distanceTransformWithLabels(
        gap.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(~gap)
    nearest = np.zeros((labels.max() + 1, 2), np.int32)
    nearest[labels[rows, columns]] = np.stack([columns, rows], axis=1)
    gap_rows, gap_columns = np.nonzero(gap & (distance < reach_px))
    edge = nearest[labels[gap_rows, gap_columns]]
    mirror = 2 * edge - np.stack([gap_columns, gap_rows], axis=1)
    height, width = gap.shape
    mirror = np.clip(mirror, 0, (width - 1, height - 1))
    sigma = max(2.0, reach_px / 8)
    local_mean = cv2.GaussianBlur(image * known[..., None], (0, 0), sigma)
    local_mean /= np.maximum(cv2.GaussianBlur(known, (0, 0), sigma), 1e-3)[..., None]
    at = (mirror[:, 1], mirror[:, 0])
    detail = np.clip(image[at].astype(np.float32) - local_mean[at], -_MOST_DETAIL, _MOST_DETAIL) * known[at][:, None]
    fade = np.clip(1 - distance[gap_rows, gap_columns] / reach_px, 0, 1)[:, None]
    whole = smooth.astype(np.float32)
    whole[gap_rows, gap_columns] += detail * fade
    return np.clip(whole + 0.5, 0, 255).astype(np.uint8)
