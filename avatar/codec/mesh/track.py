"""Landmarks of a clip or of one picture to a person's neutral shape and the motion away from it.

Each frame's head is found by a similarity fit on points that hardly move; what the fit leaves is the expression. The
neutral shape is the person's own, with the lips just touching, so an opening of the mouth is absolute while everything
else is relative to the person at rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import lsq_linear
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.pose import HEAD_PIVOT
from avatar.codec.mesh.rig import default_rig
from avatar.codec.mesh.rig_shapes_field import LOWER_LIP, UPPER_LIP, closed_vertices, smooth_field
from avatar.errors import NoFaceError, OptionError
from avatar.face_mesh import (
    INNER_LIP_PAIRS,
    LEFT_EYE,
    NUM_POINTS,
    NUM_SKIN_POINTS,
    RIGHT_EYE,
    Similarity,
    canonical_vertices,
    fit_head,
    to_canonical_axes,
)
from avatar.types import Face

_QUIET_SHARE = 0.25  # of the frames, those with the smallest lip gap, make the neutral shape
_GAZE_LIMIT = 0.35  # canonical units
_TOUCHING = 0.04  # canonical units: trackers report this much between lips that touch
_MOUTH_KERNEL = (0.1, 0.8, 0.1)  # a longer filter takes a fifth off a one-frame opening
_RING_FOLLOWS = (0.80, 0.87, 0.94, 1.0)  # of the inner edge's motion, outer ring to inner: a lip keeps its height
_UPPER_PAIR = tuple(upper for upper, _ in INNER_LIP_PAIRS)
_LOWER_PAIR = tuple(lower for _, lower in INNER_LIP_PAIRS)
# Shapes that may explain an open mouth, and how unwilling each is. In talk and in smiles alike the lips do most of a
# small opening: the upper lip makes a quarter of it, and the chin goes down by about a third.
_OPENING_COSTS = {"jaw_open": 3.0, "mouth_lower_down_l": 0.5, "mouth_lower_down_r": 0.5, "mouth_upper_up_l": 0.5,
                  "mouth_upper_up_r": 0.5}  # fmt: skip


@dataclass(frozen=True)
class PortraitGeometry:
    """The face of one picture, taken apart: picture px (canonical axes) = head.apply(neutral + own_expression).

    Attributes:
        shape: (478, 3) float64, canonical units, the face as photographed.
        neutral: (478, 3) float64, the same with the lips just touching.
        own_expression: (478, 3) float64, shape - neutral: the opening of the mouth and nothing else; zero where the
            photo's lips touch.
        head: where the head is: canonical units to px with y up and z towards the camera.
    """

    shape: np.ndarray
    neutral: np.ndarray
    own_expression: np.ndarray
    head: Similarity


@dataclass(frozen=True)
class ClipGeometry:
    """The face of one clip, taken apart.

    Attributes:
        neutral: (478, 3) float64, canonical units, lips just touching.
        motion: T frames.
        heads: T placements, unsmoothed: px (canonical axes) ≈ heads[t].apply(neutral + expression[t]).
    """

    neutral: np.ndarray
    motion: MeshMotion
    heads: tuple[Similarity, ...]


def lip_gap(shape: np.ndarray) -> np.ndarray:
    """Height between the nine inner lip pairs, (..., 9) for (..., 478, 3), in the shape's unit; negative overlaps."""
    return shape[..., _UPPER_PAIR, 1] - shape[..., _LOWER_PAIR, 1]


def portrait_geometry(face: Face) -> PortraitGeometry:
    """One picture's face in canonical space, with its own opening of the mouth set apart."""
    head = fit_head(face.landmarks)
    shape = head.invert(to_canonical_axes(face.landmarks.astype(np.float64)))
    opening = opening_field(np.maximum(lip_gap(shape) - _TOUCHING, 0.0))
    return PortraitGeometry(shape, shape - opening, opening, head)


def clip_geometry(landmarks: np.ndarray, found: np.ndarray, reference_frame: int | None = None) -> ClipGeometry:
    """A tracked clip as the person's neutral shape and their motion.

    Args:
        landmarks: (T, 478, 3) px, MediaPipe axes, 25 fps.
        found: (T,) bool; frames without a face are filled in from their neighbours.
        reference_frame: the frame whose head placement counts as zero; None takes the mean placement.

    Raises:
        NoFaceError: no frame has a face.
        OptionError: the shapes do not fit.
    """
    if landmarks.shape[1:] != (NUM_POINTS, 3) or found.shape != landmarks.shape[:1]:
        raise OptionError(f"landmarks (T, {NUM_POINTS}, 3) and found (T,) needed, not {landmarks.shape}, {found.shape}")
    if not found.any():
        raise NoFaceError("no frame of the clip shows a face")
    landmarks = _fill_gaps(np.asarray(landmarks, np.float64), found)
    points = to_canonical_axes(landmarks)
    _, shapes = _fit_heads(landmarks, points, None)  # the mean face finds a first neutral ...
    neutral = _neutral_shape(shapes, found)
    heads, shapes = _fit_heads(landmarks, points, neutral)  # ... and that the person's own pose
    closed = neutral - opening_field(np.maximum(lip_gap(neutral) - _TOUCHING, 0.0))
    expression = shapes - closed
    expression[:, NUM_SKIN_POINTS:] = 0.0
    rotation, translation = _relative_pose(heads, reference_frame)
    motion = MeshMotion(_smooth_expression(expression), _smooth(rotation, 9), _smooth(translation, 9),
                        _smooth(_gaze(shapes), 5))  # fmt: skip
    return ClipGeometry(closed, motion, heads)


def _fit_heads(
    landmarks: np.ndarray, points: np.ndarray, reference: np.ndarray | None
) -> tuple[tuple[Similarity, ...], np.ndarray]:
    heads = tuple(fit_head(frame, reference) for frame in landmarks)
    return heads, np.stack([head.invert(frame) for head, frame in zip(heads, points, strict=True)])


def _fill_gaps(landmarks: np.ndarray, found: np.ndarray) -> np.ndarray:
    if found.all():
        return landmarks
    frames, known = np.arange(len(landmarks)), np.flatnonzero(found)
    flat = landmarks.reshape(len(landmarks), -1)
    filled = np.stack([np.interp(frames, known, column[known]) for column in flat.T], axis=1)
    return filled.reshape(landmarks.shape)


def _neutral_shape(shapes: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The median of the quietest frames, at canonical size and pose."""
    gap = np.where(found, lip_gap(shapes).mean(axis=1), np.inf)
    quiet = np.argsort(gap, kind="stable")[: max(1, round(_QUIET_SHARE * int(found.sum())))]
    median = np.median(shapes[quiet], axis=0)
    return fit_head(to_canonical_axes(median)).invert(median)


def _relative_pose(heads: tuple[Similarity, ...], reference_frame: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) rotation vectors in the head's own axes and (T, 3) pivot shift (units) with log scale."""
    rotations = Rotation.from_matrix(np.stack([head.rotation for head in heads]))
    scales = np.array([head.scale for head in heads])
    pivots = np.stack([head.apply(HEAD_PIVOT) for head in heads])
    if reference_frame is None:
        rest, rest_scale, rest_pivot = rotations.mean(), float(np.exp(np.log(scales).mean())), pivots.mean(axis=0)
    else:
        rest, rest_scale = rotations[reference_frame], float(scales[reference_frame])
        rest_pivot = pivots[reference_frame]
    shift = (pivots - rest_pivot)[:, :2] / rest_scale
    return (rest.inv() * rotations).as_rotvec(), np.column_stack([shift, np.log(scales / rest_scale)])


def _gaze(shapes: np.ndarray) -> np.ndarray:
    """(T, 2) mean shift of both irises from the middle of the eye corners, without its median."""
    right = shapes[:, 468] - shapes[:, (33, 133)].mean(axis=1)
    left = shapes[:, 473] - shapes[:, (263, 362)].mean(axis=1)
    shift = (right + left)[:, :2] / 2
    return np.clip(shift - np.median(shift, axis=0), -_GAZE_LIMIT, _GAZE_LIMIT)


def _smooth_expression(expression: np.ndarray) -> np.ndarray:
    """Light smoothing; hardly any for the mouth and the lids, whose fast events are real."""
    gentle = np.apply_along_axis(np.convolve, 0, np.pad(expression, ((1, 1), (0, 0), (0, 0)), "edge"),
                                 np.array(_MOUTH_KERNEL), "valid")  # fmt: skip
    return gentle + _calm_share()[:, None] * (_smooth(expression, 5) - gentle)


@cache
def _calm_share() -> np.ndarray:
    """How much of the stronger smoothing each point takes, (478,): none below the mouth's top and on the lids."""
    share = np.clip((canonical_vertices()[:, 1] + 3.0) / 2.0, 0.0, 1.0).astype(np.float64)
    share[[*LEFT_EYE, *RIGHT_EYE]] = 0.0
    return share


def _smooth(series: np.ndarray, window: int) -> np.ndarray:
    """Savitzky-Golay of order two along time; clips shorter than the window stay as they are."""
    return series if len(series) < window else savgol_filter(series, window, 2, axis=0, mode="interp")


@cache
def _opening_shapes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rig's opening shapes (P, 478, 3), their gaps (9, P), and fields (9, 478, 3) that open single pairs."""
    rig = default_rig()
    shapes = np.stack([rig.shapes[rig.index(name)] for name in _OPENING_COSTS]).astype(np.float64)
    lips = [point for ring in UPPER_LIP + LOWER_LIP for point in ring]
    far = [i for i, (x, y, _) in enumerate(closed_vertices()[:NUM_SKIN_POINTS])
           if i not in lips and (y > -2.6 or y < -7.5 or abs(x) > 4.2)]  # fmt: skip
    single = []
    for column in range(1, len(INNER_LIP_PAIRS) + 1):
        handles = dict.fromkeys([*far, *lips], (0.0, 0.0, 0.0))
        for follow, upper_ring, lower_ring in zip(_RING_FOLLOWS, UPPER_LIP, LOWER_LIP, strict=True):
            handles[upper_ring[column]] = (0.0, 0.25 * follow, 0.0)
            handles[lower_ring[column]] = (0.0, -0.75 * follow, 0.0)
        single.append(smooth_field(handles))
    return shapes, lip_gap(shapes).T, np.stack(single)


def opening_field(gap: np.ndarray) -> np.ndarray:
    """The displacement that opens closed lips by exactly the given gaps, with jaw and cheeks taking their part.

    Args:
        gap: (9,) height between each inner lip pair of INNER_LIP_PAIRS, canonical units, not negative.

    Returns:
        (478, 3) float64; zero for a gap of zero.
    """
    if not gap.any():
        return np.zeros((NUM_POINTS, 3))
    shapes, gaps, single = _opening_shapes()
    costs = np.diag(list(_OPENING_COSTS.values()))
    system, target = np.vstack([gaps, costs]), np.concatenate([gap, np.zeros(len(costs))])
    weights = lsq_linear(system, target, bounds=(0.0, 1.0)).x
    field = np.tensordot(weights, shapes, axes=1)
    return field + np.tensordot(gap - lip_gap(field), single, axes=1)
