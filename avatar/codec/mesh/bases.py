"""Finds the linear bases of the geometry latent from motion of the rig, so that no footage of anybody is needed.

Each region of the face gets spatial modes shared by all frames; over a group of four frames every mode's course is
written in the four-point cosine transform. Modes come from the rig in random motion plus a prior of generic smooth
motion of the skin (a Gaussian process over the mesh), which is what lets real faces through. Which (mode, frequency)
pairs are kept is decided by their variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from avatar.codec.mesh.rig import Rig
from avatar.codec.mesh.rig_shapes_field import closed_vertices
from avatar.face_mesh import (
    FACE_OVAL,
    LEFT_EYE,
    LEFT_IRIS,
    LIPS,
    LIPS_INNER,
    LIPS_OUTER,
    NUM_POINTS,
    RIGHT_EYE,
    RIGHT_IRIS,
)

GROUP_FRAMES = 4
REGION_NUMBERS = {"mouth": 96, "eyes": 64, "brow": 32, "mid": 32}
"""How many numbers of a latent frame each region gets; pose and gaze take the remaining 32 exactly."""

_LIP_EDGE_IMPORTANCE, _LIP_IMPORTANCE, _JAW_IMPORTANCE, _LID_IMPORTANCE = 10.0, 4.0, 2.0, 2.0  # other points 1
_DEPTH_IMPORTANCE = 0.2  # trackers guess z, and a frontal portrait hardly shows it
_PRIOR_LENGTH = {"mouth": 1.1, "eyes": 0.7, "brow": 1.6, "mid": 1.6}  # canonical units
_PRIOR_STD = {"mouth": 0.10, "eyes": 0.10, "brow": 0.10, "mid": 0.10}
_PRIOR_SPECTRUM = (1.0, 0.18, 0.10, 0.07)  # variance by cosine frequency, as filtered noise has it
_FLOOR = 0.03  # smallest scale, as a share of the region's largest

# How much each kind of shape takes part in talking: (standard deviation of the weight, smoothing in frames).
_SPEECH = {
    "jaw_open": (0.22, 1.6), "jaw_forward": (0.06, 3.0), "jaw_left": (0.03, 4.0), "mouth_close": (0.10, 1.3),
    "mouth_funnel": (0.22, 1.8), "mouth_pucker": (0.25, 1.8), "mouth_left": (0.03, 4.0), "mouth_smile": (0.12, 4.0),
    "mouth_frown": (0.06, 5.0), "mouth_dimple": (0.08, 2.5), "mouth_stretch": (0.18, 2.0),
    "mouth_roll": (0.16, 1.3), "mouth_shrug": (0.10, 1.8), "mouth_press": (0.15, 1.5),
    "mouth_lower_down": (0.20, 1.6), "mouth_upper_up": (0.14, 1.6), "cheek_puff": (0.03, 2.0),
    "cheek_squint": (0.06, 6.0), "nose_sneer": (0.04, 4.0), "brow": (0.14, 4.0), "eye_blink": (0.20, 1.2),
    "eye_squint": (0.08, 5.0), "eye_wide": (0.08, 4.0), "lip_detail": (0.10, 1.5),
}  # fmt: skip
_SIDE_CORRELATION = 0.95


@dataclass(frozen=True)
class RegionBasis:
    """One region's code.

    Attributes:
        points: (n,) int64 mesh points of the region.
        modes: (M, n, 3) float32 displacement per unit of a mode's coefficient.
        duals: (M, n, 3) float32: the inner product with a displacement gives the coefficient.
        pairs: (K, 2) int64 (mode, cosine frequency) of each kept number, by falling variance.
        scale: (K,) float32 standard deviation of each number over rig motion and prior, with a floor.
    """

    points: np.ndarray
    modes: np.ndarray
    duals: np.ndarray
    pairs: np.ndarray
    scale: np.ndarray


def cosine_transform() -> np.ndarray:
    """The orthonormal cosine transform of a group, (4 frequencies, 4 frames) float64."""
    k, t = np.arange(GROUP_FRAMES)[:, None], np.arange(GROUP_FRAMES)[None]
    transform = np.cos(np.pi * (t + 0.5) * k / GROUP_FRAMES) * np.sqrt(2.0 / GROUP_FRAMES)
    transform[0] /= np.sqrt(2.0)
    return transform


def region_points() -> dict[str, np.ndarray]:
    """Which mesh points belong to which region; every point to exactly one."""
    x, y, _ = closed_vertices().T
    lids = np.zeros(NUM_POINTS, bool)
    lids[[*LEFT_EYE, *RIGHT_EYE, *LEFT_IRIS, *RIGHT_IRIS]] = True
    eyes = lids | ((y > 1.0) & (y < 3.3) & (np.abs(x) > 1.0))
    mouth = (y < -2.2) & ~eyes
    brow = (y >= 3.0) & ~eyes
    masks = {"mouth": mouth, "eyes": eyes, "brow": brow, "mid": ~(mouth | eyes | brow)}
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def random_speech(rig: Rig, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Weights (T, P) float32 of a face that babbles, blinks and changes its mien: for statistics, not for show."""
    weights = np.zeros((num_frames, len(rig)), np.float32)
    courses: dict[str, np.ndarray] = {}
    for column, name in enumerate(rig.names):
        spread, smoothing = next(value for key, value in _SPEECH.items() if name.startswith(key))
        stem = name[:-2] if name.endswith(("_l", "_r")) else name
        if stem not in courses:
            courses[stem] = _smooth_noise(num_frames, smoothing, rng)
        course = courses[stem]
        if stem != name:
            own = _smooth_noise(num_frames, smoothing, rng)
            course = np.sqrt(_SIDE_CORRELATION) * course + np.sqrt(1 - _SIDE_CORRELATION) * own
        if rig.lower[column] == 0:  # unsigned: at rest most of the time
            course = np.maximum(course - 0.3, 0.0) * 1.7
        weights[:, column] = np.clip(spread * course, rig.lower[column], rig.upper[column])
    return weights


def _smooth_noise(num_frames: int, smoothing: float, rng: np.random.Generator) -> np.ndarray:
    noise = gaussian_filter1d(rng.standard_normal(num_frames), smoothing, mode="wrap")
    return noise / max(float(noise.std()), 1e-6)


def fit_region(name: str, points: np.ndarray, rig: Rig, weights: np.ndarray) -> RegionBasis:
    """The code of one region.

    Args:
        name: a key of REGION_NUMBERS.
        points: (n,) its mesh points.
        rig: the source of motion.
        weights: (T, P) random motion, T a multiple of four.
    """
    importance = _importance(points)
    root = np.sqrt(importance).ravel()
    shapes = rig.shapes[:, points].reshape(len(rig), -1) * root
    courses = _group_cosines(weights)  # (frequency, group, P)
    prior = _prior_covariance(name, points) * np.outer(root, root)
    moments = [course.T @ course / len(course) for course in courses]
    covariances = [shapes.T @ moment @ shapes + share * prior
                   for moment, share in zip(moments, _PRIOR_SPECTRUM, strict=True)]  # fmt: skip
    _, vectors = np.linalg.eigh(sum(covariances))
    vectors = vectors[:, ::-1].T  # (modes, 3n), falling variance, orthonormal in the weighted metric
    vectors *= np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)])[:, None]
    variance = np.stack([np.einsum("md,de,me->m", vectors, c, vectors, optimize=True) for c in covariances], axis=1)
    order = np.argsort(-variance, axis=None, kind="stable")[: REGION_NUMBERS[name]]
    pairs = np.stack(np.unravel_index(order, variance.shape), axis=1)
    num_modes = int(pairs[:, 0].max()) + 1
    modes, duals = vectors[:num_modes] / root, vectors[:num_modes] * root
    spread = np.sqrt(variance[pairs[:, 0], pairs[:, 1]])
    scale = np.maximum(spread, _FLOOR * spread.max())
    shape = (num_modes, len(points), 3)
    return RegionBasis(points, modes.reshape(shape).astype(np.float32), duals.reshape(shape).astype(np.float32),
                       pairs, scale.astype(np.float32))  # fmt: skip


def _importance(points: np.ndarray) -> np.ndarray:
    """(n, 3) weight of each coordinate in the error that the basis minimises."""
    importance = np.ones((NUM_POINTS, 3))
    importance[list(FACE_OVAL)] = _JAW_IMPORTANCE
    importance[list(LIPS)] = _LIP_IMPORTANCE
    importance[list(LIPS_OUTER + LIPS_INNER)] = _LIP_EDGE_IMPORTANCE
    importance[list(LEFT_EYE + RIGHT_EYE)] = _LID_IMPORTANCE
    importance[:, 2] *= _DEPTH_IMPORTANCE
    return importance[points]


def _prior_covariance(name: str, points: np.ndarray) -> np.ndarray:
    """(3n, 3n) covariance of generic smooth motion, with the mouth opened so that the lips are apart."""
    from avatar.codec.mesh.rig import default_rig

    rig = default_rig()
    spread_out = closed_vertices() + rig.shapes[rig.index("jaw_open")]
    place = spread_out[points]
    distance2 = ((place[:, None] - place[None]) ** 2).sum(axis=-1)
    kernel = _PRIOR_STD[name] ** 2 * np.exp(-0.5 * distance2 / _PRIOR_LENGTH[name] ** 2)
    return np.kron(kernel, np.eye(3))


def _group_cosines(series: np.ndarray) -> np.ndarray:
    """(T, P) to the cosine coefficients of each group of four frames, (4, T/4, P)."""
    groups = np.asarray(series, np.float64).reshape(-1, GROUP_FRAMES, series.shape[1])
    return np.einsum("kt,gtp->kgp", cosine_transform(), groups)


def fit_bases(rig: Rig, num_frames: int = 20_000, seed: int = 0) -> dict[str, RegionBasis]:
    """The codes of all regions; the same rig and seed give the same bases."""
    weights = random_speech(rig, num_frames, np.random.default_rng(seed))
    return {name: fit_region(name, points, rig, weights) for name, points in region_points().items()}
