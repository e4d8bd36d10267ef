"""Turns a face into numbers that say who it is, offline: its shape by region, and its low-pass, pose-free appearance.

Each row is one token's raw input, `FEATURE_DIM` wide. Shape rows can be made for a synthetic person without a picture;
the appearance rows are then zero, which the encoder reads as "unknown".
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from scipy.fft import dctn

from avatar import face_mesh
from avatar.identity.crop import SquareCrop
from avatar.types import Portrait

FEATURE_DIM = 64
_SHAPE_SCALE = 2.5  # displacements from the mean face are about 0.4 canonical units
_LIMIT = 4.0  # rows are softly limited to this, so that one odd point cannot dominate
_GRID = 24  # samples of the face per side
_CROP_PX = 96

# At most 21 points each (63 numbers); the mouth is taken closed.
GEOMETRY_REGIONS: dict[str, tuple[int, ...]] = {
    "jaw": (127, 234, 93, 132, 58, 172, 150, 176, 148, 152, 377, 400, 379, 397, 288, 361, 323, 454, 356, 10, 199),
    "mouth": (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178, 164),
    "nose": (168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 64, 294, 48, 278, 129, 358, 193, 417, 122, 351, 94),
    "eyes": (33, 133, 160, 158, 153, 144, 159, 145, 263, 362, 387, 385, 380, 373, 386, 374, 110, 339, 130, 359, 9),
    "brows": (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336, 151),
}
APPEARANCE_ROWS = ("light", "colour", "parts")
NUM_GEOMETRY_TOKENS = len(GEOMETRY_REGIONS)
NUM_APPEARANCE_TOKENS = len(APPEARANCE_ROWS)
NUM_FEATURE_TOKENS = NUM_GEOMETRY_TOKENS + NUM_APPEARANCE_TOKENS

# Places whose mean colour is taken: canonical (x, y) centre and radius, both in canonical units.
_PARTS: tuple[tuple[float, float, float], ...] = (
    (-4.0, -1.5, 1.0), (4.0, -1.5, 1.0), (0.0, 5.5, 1.2), (0.0, -7.5, 0.9), (0.0, 0.0, 0.7), (-4.5, 4.6, 0.8),
    (4.5, 4.6, 0.8), (-3.2, 2.6, 0.6), (3.2, 2.6, 0.6), (-1.2, -4.6, 0.5), (1.2, -4.6, 0.5), (0.0, -2.9, 0.5),
    (-3.2, 1.0, 0.6), (3.2, 1.0, 0.6), (-5.0, -5.0, 0.9), (5.0, -5.0, 0.9),
)  # fmt: skip


def identity_features(portrait: Portrait) -> np.ndarray:
    """All that the identity tokens are made of.

    The same for the same face at another size, place, turn in the picture plane or brightness, up to resampling.

    Args:
        portrait: the picture and its face.

    Returns:
        (NUM_FEATURE_TOKENS, FEATURE_DIM) float32, about unit scale: geometry rows, then appearance rows.
    """
    landmarks = portrait.face.landmarks
    shape = face_mesh.fit_head(landmarks).invert(face_mesh.to_canonical_axes(landmarks))
    return np.concatenate([geometry_features(shape), appearance_features(portrait)])


def geometry_features(neutral_shape: np.ndarray) -> np.ndarray:
    """How a face's shape differs from the mean, region by region; a mouth that is open is closed first.

    Args:
        neutral_shape: (478, 3) canonical units, in the canonical place and size.

    Returns:
        (NUM_GEOMETRY_TOKENS, FEATURE_DIM) float32 in (-4, 4), unused numbers zero.
    """
    offset = (close_lips(neutral_shape) - _closed_mean()) * _SHAPE_SCALE
    rows = np.zeros((NUM_GEOMETRY_TOKENS, FEATURE_DIM), np.float32)
    for row, points in zip(rows, GEOMETRY_REGIONS.values(), strict=True):
        row[: 3 * len(points)] = offset[list(points)].ravel()
    return _limited(rows)


def with_unknown_appearance(geometry: np.ndarray) -> np.ndarray:
    """Geometry rows (…, NUM_GEOMETRY_TOKENS, FEATURE_DIM) as full features whose appearance is unknown (zero)."""
    missing = np.zeros((*geometry.shape[:-2], NUM_APPEARANCE_TOKENS, FEATURE_DIM), np.float32)
    return np.concatenate([geometry, missing], axis=-2)


def close_lips(shape: np.ndarray) -> np.ndarray:
    """A face (478, 3), canonical units, with its lips brought together: a quarter from above, the rest by the jaw."""
    reference = face_mesh.canonical_vertices().astype(np.float64)
    upper, lower = (list(side) for side in zip(*face_mesh.INNER_LIP_PAIRS, strict=True))
    gaps = np.maximum(shape[upper, 1] - shape[lower, 1], 0.0)
    places = reference[upper, 0]
    gap = np.interp(reference[:, 0], places, gaps, left=0.0, right=0.0)
    below = (
        np.interp(reference[:, 0], places, reference[[*upper], 1] / 2 + reference[[*lower], 1] / 2) - reference[:, 1]
    )
    near = np.exp(-((below / 1.5) ** 2))
    jaw = near * gap + (1 - near) * float(gaps.max()) * np.exp(-((reference[:, 0] / 4.5) ** 2))
    closed = shape.copy()
    closed[:, 1] += np.where(below > 0, 0.75 * jaw, -0.25 * near * gap).astype(shape.dtype)
    return closed


def appearance_features(portrait: Portrait) -> np.ndarray:
    """Light and colour of the face, brought to the frontal mean shape: low frequencies, and the colours of its parts.

    Returns:
        (NUM_APPEARANCE_TOKENS, FEATURE_DIM) float32, about unit scale. Light is relative to the face's own mean and
        contrast; colour is the log ratio of red and blue to green, so a brighter picture gives the same numbers.
    """
    samples, inside = canonical_samples(portrait)
    logs = np.log(samples + 8.0)
    light = logs.mean(axis=2)
    mean, deviation = light[inside].mean(), max(float(light[inside].std()), 0.05)
    light = np.where(inside, (light - mean) / deviation, 0.0)
    chroma = np.stack([logs[..., 0] - logs[..., 1], logs[..., 2] - logs[..., 1]])
    chroma_mean = chroma[:, inside].mean(axis=1)
    chroma_detail = np.where(inside, chroma - chroma_mean[:, None, None], 0.0)
    rows = np.zeros((NUM_APPEARANCE_TOKENS, FEATURE_DIM), np.float32)
    rows[0] = dctn(light, norm="ortho")[:8, :8].ravel() / 3.0
    detail = dctn(chroma_detail, axes=(1, 2), norm="ortho")[:, :5, :6].reshape(2, 30)
    rows[1, :60] = detail.ravel() * 1.5
    rows[1, 60:62] = (chroma_mean - (0.30, -0.25)) * 4.0  # an average skin: red over green e^0.30
    for i, part in enumerate(_part_masks()):
        rows[2, 4 * i] = light[part].mean()
        rows[2, 4 * i + 1] = light[part].std()
        rows[2, 4 * i + 2 : 4 * i + 4] = chroma_detail[:, part].mean(axis=1) * 8.0
    return _limited(rows)


def canonical_samples(portrait: Portrait) -> tuple[np.ndarray, np.ndarray]:
    """The face's pixels on a regular grid over the frontal mean face, whatever the head's pose.

    Returns:
        colours (24, 24, 3) float32 in [0, 255], rows from the forehead down; and which samples are on the face.
    """
    landmarks = portrait.face.landmarks
    crop = SquareCrop.around_landmarks(landmarks, 1.15)
    small = cv2.GaussianBlur(crop.cut(portrait.image, _CROP_PX), (0, 0), 1.5)
    corners, weights, inside = _sample_places()
    flat = np.einsum("npk,np->nk", landmarks[corners][:, :, :2], weights)
    matrix = crop.matrix(_CROP_PX)
    places = (flat @ matrix[:, :2].T + matrix[:, 2] - 0.5).astype(np.float32).reshape(_GRID, _GRID, 2)
    colours = cv2.remap(small, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return colours.astype(np.float32), inside


@cache
def _closed_mean() -> np.ndarray:
    # The official mean face keeps its lips 0.3 to 0.5 units apart.
    return close_lips(face_mesh.canonical_vertices())


@cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Canonical x and y of the samples, (24, 24) each."""
    vertices = face_mesh.canonical_vertices()
    xs = np.linspace(vertices[:, 0].min(), vertices[:, 0].max(), _GRID)
    ys = np.linspace(vertices[:, 1].max(), vertices[:, 1].min(), _GRID)
    x, y = np.meshgrid(xs, ys)
    return x, y


@cache
def _sample_places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each sample: its triangle's corners (576, 3), barycentric weights (576, 3), and whether it is on the face.

    Of the triangles that cover a sample in the frontal view the nearest to the camera is taken.
    """
    x, y = _grid()
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    vertices, faces = face_mesh.canonical_vertices().astype(np.float64), face_mesh.triangles()
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.cross((b - a)[:, :2], (c - a)[:, :2])
    usable = np.abs(area) > 1e-6
    faces, a, b, c, area = faces[usable], a[usable], b[usable], c[usable], area[usable]
    to_point = points[:, None, :] - a[None, :, :2]
    v = np.cross(to_point, (c - a)[None, :, :2]) / area
    w = np.cross((b - a)[None, :, :2], to_point) / area
    u = 1 - v - w
    covers = (u >= -1e-9) & (v >= -1e-9) & (w >= -1e-9)
    depth = np.where(covers, u * a[:, 2] + v * b[:, 2] + w * c[:, 2], -np.inf)
    best = depth.argmax(axis=1)
    rows = np.arange(len(points))
    inside = covers.any(axis=1)
    weights = np.stack([u[rows, best], v[rows, best], w[rows, best]], axis=1)
    weights[~inside] = (1.0, 0.0, 0.0)
    return faces[best], weights, inside.reshape(_GRID, _GRID)


@cache
def _part_masks() -> tuple[np.ndarray, ...]:
    x, y = _grid()
    inside = _sample_places()[2]
    return tuple(((x - cx) ** 2 + (y - cy) ** 2 <= (r * 1.2) ** 2) & inside for cx, cy, r in _PARTS)


def _limited(rows: np.ndarray) -> np.ndarray:
    return (_LIMIT * np.tanh(rows / _LIMIT)).astype(np.float32)
