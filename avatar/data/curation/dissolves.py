"""The second check of a shot: finds dissolves and fades, which change too slowly for a cut detector.

Frames are compared as 16x16 thumbnails. Pairs of frames that lie apart and differ much are candidates (the sparse keyframes of
MAGI-1, sec. 3). One is a dissolve when the frames between are a blend of the two, weighted from one to the other, while
those outside hold still in comparison; or, where pictures move too much for that, when contrast dips between two different
distributions of colour, since a blend of two pictures has less contrast than either (R. Lienhart, "Comparison of automatic
shot boundary detection algorithms", 1999). Frames of a pan are no blend and keep their contrast; a change of light keeps the
structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from scipy.ndimage import uniform_filter1d

SIDE = 16
_LENGTHS = (6, 9, 13, 19, 27, 38, 54, 76)  # frames at 25 fps: 0.24 to 3 s
_KEYFRAME_STEP = 3
_CONTEXT = 4  # frames before and after that must hold still
_LEAST_CHANGE = 14.0  # root mean square over thumbnail, grey levels
_MOST_RESIDUAL = 0.2  # of that change: what a blend does not explain
_MOST_DRIFT = 0.5  # speed of change outside, of the speed inside
_DEEPEST = 0.87  # contrast in the middle of a dissolve, of the lower of both ends
_RECOVERED = 0.97  # contrast at the ends of a dissolve, likewise
_MIXED = 0.03  # the least share of either picture in a frame that is a blend
_LEAST_RECOLOURED = 0.4  # share of the thumbnail that has another colour afterwards
_LEAST_ORDER = 0.95  # correlation of the blend's weight with time
_SAME_STRUCTURE = 0.85  # correlation of the two ends: the same picture in another light
_FLAT = 6.0  # standard deviation of a black or white picture


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (768,) uint8."""
    return cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)


def find_dissolves(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Dissolves and fades inside one shot.

    Args:
        thumbnails: (T, 768) uint8, of every frame at 25 fps.

    Returns:
        (first, last) frames that are neither one picture nor the other, rising, apart from each other.
    """
    pictures = thumbnails.astype(np.float32)
    found = sorted([*_candidates(pictures), *_dips(pictures)], key=lambda item: item[0])
    taken: list[tuple[int, int]] = []
    for _, first, last in found:
        if all(last < other_first or first > other_last for other_first, other_last in taken):
            taken.append((first, last))
    return _joined(sorted(taken))


def _candidates(pictures: np.ndarray) -> Iterator[tuple[float, int, int]]:
    """(how badly it is explained, first, last) of everything that is a dissolve."""
    for length in _LENGTHS:
        starts = np.arange(_CONTEXT, len(pictures) - length - _CONTEXT, _KEYFRAME_STEP)
        if not len(starts):
            return
        change = pictures[starts + length] - pictures[starts]
        size = np.sqrt(np.mean(change**2, axis=1))
        for start, rms in zip(starts[size > _LEAST_CHANGE], size[size > _LEAST_CHANGE], strict=True):
            found = _blend(pictures, int(start), length, float(rms))
            if found is not None:
                yield found


def _blend(pictures: np.ndarray, start: int, length: int, rms: float) -> tuple[float, int, int] | None:
    """What is wrong with a blend from `start` over `length` frames, and the frames that are mixed; None where it is none."""
    before, after = pictures[start], pictures[start + length]
    context = max(_CONTEXT, min(length // 2, start, len(pictures) - 1 - start - length))
    outside = max(_rms(pictures[start - context] - before), _rms(pictures[start + length + context] - after))
    drift = (outside / context) / (rms / length)
    if drift > _MOST_DRIFT or _is_same_picture(before, after):
        return None
    between = pictures[start + 1 : start + length] - before
    change = after - before
    weights = between @ change / (change @ change)
    residual = np.sqrt(np.mean((between - weights[:, None] * change) ** 2, axis=1)).mean() / rms
    if residual > _MOST_RESIDUAL:
        return None
    order = np.corrcoef(weights, np.arange(len(weights)))[0, 1] if weights.std() > 1e-3 else 0.0
    steepest = np.abs(np.diff(weights, prepend=0, append=1)).max()
    if order < _LEAST_ORDER or steepest > max(0.5, 3 / length):  # a step is a cut or a flash, not a dissolve
        return None
    mixed = start + 1 + np.flatnonzero((weights > _MIXED) & (weights < 1 - _MIXED))
    if not len(mixed):
        return None
    return float(residual + drift + 1 - order), int(mixed[0]), int(mixed[-1])


def _dips(pictures: np.ndarray) -> Iterator[tuple[float, int, int]]:
    """As `_candidates`, by contrast and colours, which movement leaves alone."""
    contrast = uniform_filter1d(pictures.reshape(len(pictures), -1, 3).std(axis=1).mean(axis=1), 3)
    colours = _histograms(pictures)
    for length in _LENGTHS[2:]:
        half = length // 2 + _CONTEXT
        for middle in range(half + _CONTEXT, len(pictures) - half - _CONTEXT, _KEYFRAME_STEP):
            ends = contrast[middle - half], contrast[middle + half]
            depth = contrast[middle] / max(min(ends), 1e-3)
            if depth > _DEEPEST or min(ends) < _FLAT:
                continue
            inside = contrast[middle - half : middle + half + 1]
            is_valley = inside.argmin() in range(half - length // 4 - 1, half + length // 4 + 2)
            around = (
                colours[middle - half - _CONTEXT : middle - half],
                colours[middle + half : middle + half + _CONTEXT],
            )
            recoloured = 0.5 * float(np.abs(around[0].mean(axis=0) - around[1].mean(axis=0)).sum())
            if is_valley and recoloured > _LEAST_RECOLOURED:
                back = np.flatnonzero(inside >= _RECOVERED * min(ends)) - int(inside.argmin())  # where it has recovered
                lowest = middle - half + int(inside.argmin())
                yield 1.0 + depth, lowest + int(back[back < 0].max()) + 1, lowest + int(back[back > 0].min()) - 1


def _histograms(pictures: np.ndarray) -> np.ndarray:
    """(T, 64) shares of the thumbnail by colour, 4 steps a channel."""
    steps = (pictures.reshape(len(pictures), -1, 3) // 64).astype(np.int64)
    codes = steps[..., 0] * 16 + steps[..., 1] * 4 + steps[..., 2]
    counts = np.zeros((len(pictures), 64), np.float32)
    np.add.at(counts, (np.arange(len(pictures))[:, None], codes), 1)
    return counts / codes.shape[1]


def _is_same_picture(before: np.ndarray, after: np.ndarray) -> bool:
    """The same structure, lighter or darker; a flat end is black or white: that is a fade."""
    if before.std() < _FLAT or after.std() < _FLAT:
        return False
    return float(np.corrcoef(before, after)[0, 1]) > _SAME_STRUCTURE


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch become one: out to black and in again."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first - joined[-1][1] <= 2 * _CONTEXT:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
