"""Deformed triangles to a backward map, and the warped portrait over its background plate: the two inner loops.

A forward-rasterised backward map: every triangle of the deformed mesh writes, for each pixel it covers, where in the
portrait that pixel comes from. One `cv2.remap` then moves the real pixels. Triangles are painted in the given order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_EDGE = 1e-3  # px by which spans overlap, so that neighbours never leave a crack


@njit("void(f4[:,::1], f4[:,::1], f4[::1], i4[:,::1], f4[:,:,::1], f4[:,::1])", cache=True, nogil=True)
def rasterise(
    target: np.ndarray,
    source: np.ndarray,
    gain: np.ndarray,
    triangles: np.ndarray,
    source_map: np.ndarray,
    gain_map: np.ndarray,
) -> None:
    """Paints triangles into the maps, later ones over earlier ones.

    Args:
        target: (N, 2) float32, where each vertex goes, px.
        source: (N, 2) float32, where it comes from, px.
        gain: (N,) float32, brightness factor of each vertex.
        triangles: (M, 3) int32, in painting order.
        source_map: (H, W, 2) float32, written: source x, y of each pixel.
        gain_map: (H, W) float32, written.
    """
    height, width = gain_map.shape
    for m in range(triangles.shape[0]):
        i, j, k = triangles[m, 0], triangles[m, 1], triangles[m, 2]
        x0, y0 = np.float64(target[i, 0]), np.float64(target[i, 1])
        x1, y1 = target[j, 0] - x0, target[j, 1] - y0
        x2, y2 = target[k, 0] - x0, target[k, 1] - y0
        det = x1 * y2 - x2 * y1
        if abs(det) < 1e-5:
            continue
        u_x, u_y = y2 / det, -x2 / det  # barycentric u = u_x * dx + u_y * dy
        v_x, v_y = -y1 / det, x1 / det
        su, sv = source[j, 0] - source[i, 0], source[k, 0] - source[i, 0]
        tu, tv = source[j, 1] - source[i, 1], source[k, 1] - source[i, 1]
        gu, gv = gain[j] - gain[i], gain[k] - gain[i]
        top = max(0, int(np.ceil(y0 + min(0.0, y1, y2) - _EDGE)))
        bottom = min(height - 1, int(np.floor(y0 + max(0.0, y1, y2) + _EDGE)))
        for y in range(top, bottom + 1):
            dy = y - y0
            low, high = -1e9, 1e9  # the span in dx where u, v and 1 - u - v are all positive
            for edge in range(3):
                if edge == 0:
                    slope, at = u_x, u_y * dy
                elif edge == 1:
                    slope, at = v_x, v_y * dy
                else:
                    slope, at = -u_x - v_x, 1.0 - (u_y + v_y) * dy
                if slope > 1e-9:
                    low = max(low, -at / slope)
                elif slope < -1e-9:
                    high = min(high, -at / slope)
                elif at < -1e-6:
                    high = -2e9
            left = max(0, int(np.ceil(x0 + max(low, -1e6) - _EDGE)))
            right = min(width - 1, int(np.floor(x0 + min(max(high, -1e6), 1e6) + _EDGE)))
            for x in range(left, right + 1):
                dx = x - x0
                u, v = u_x * dx + u_y * dy, v_x * dx + v_y * dy
                source_map[y, x, 0] = source[i, 0] + u * su + v * sv
                source_map[y, x, 1] = source[i, 1] + u * tu + v * tv
                gain_map[y, x] = gain[i] + u * gu + v * gv


@njit("void(u1[:,:,:], u1[:,:,::1], u1[:,:,::1], u1[:,::1], f4[:,:,::1], f4[:,::1], f4)", cache=True, nogil=True)
def composite(
    canvas: np.ndarray,
    warped: np.ndarray,
    plate: np.ndarray,
    hole: np.ndarray,
    source_map: np.ndarray,
    gain_map: np.ndarray,
    still_px: float,
) -> None:
    """Lays the warped portrait over the background plate, in place; pixels far from the person are not touched.

    Where nothing has moved the portrait's own pixel is kept whatever its matte says, so that no motion gives the photo.

    Args:
        canvas: (H, W, 3) uint8, written.
        warped: (H, W, 4) uint8, the warped portrait and its matte.
        plate: (H, W, 3) uint8, the background; equal to the portrait where `hole` < 255.
        hole: (H, W) uint8, 255 where the plate is invented, 0 far from the person.
        source_map: (H, W, 2) float32 as `rasterise` wrote it.
        gain_map: (H, W) float32.
        still_px: displacement at which the matte takes over completely.
    """
    height, width = hole.shape
    for y in range(height):
        for x in range(width):
            alpha_u8, inside = warped[y, x, 3], hole[y, x]
            if alpha_u8 == 0 and inside == 0:
                continue
            alpha = alpha_u8 * np.float32(1 / 255)
            if inside > 0 and alpha_u8 < 255:
                dx, dy = source_map[y, x, 0] - x, source_map[y, x, 1] - y
                far = min(np.float32(1), np.sqrt(dx * dx + dy * dy) / still_px)
                still = (1 - far * far * (3 - 2 * far)) * inside * np.float32(1 / 255)
                alpha = max(alpha, still)
            gain = gain_map[y, x] * alpha
            rest = 1 - alpha
            for channel in range(3):
                value = warped[y, x, channel] * gain + plate[y, x, channel] * rest + np.float32(0.5)
                canvas[y, x, channel] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
