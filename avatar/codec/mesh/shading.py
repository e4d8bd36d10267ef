"""How the light on a face changes as it turns and moves: brightness factors per vertex, from the photo's own light.

The photo's light is fitted as brightness ≈ a + b · normal over the skin; a moved face is brighter or darker by the
quotient of that model, as in quotient images (Shashua and Riklin-Raviv 2001), so no new colours arise.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from avatar.codec.mesh.mouth_colours import CHEEKS, polygon_pixels
from avatar.codec.mesh.surface import smooth_ramp
from avatar.face_mesh import (
    CHIN,
    FOREHEAD_TOP,
    LEFT_BROW,
    LEFT_EYE,
    LIPS,
    NUM_POINTS,
    NUM_SKIN_POINTS,
    RIGHT_BROW,
    RIGHT_EYE,
    Similarity,
    triangles,
)

_RIDGE = 0.05  # pull of the light's direction towards none
_MOST_DIRECTED = 0.6  # |b| / a: harder light than this is mostly make-up, beard and shadow
_STRENGTH = 0.7
_RANGE = (0.80, 1.18)
_KEEP = tuple(set(LIPS + RIGHT_EYE + LEFT_EYE))  # lids and lips fold: their normals say little about light
# Where skin folds: vertices, and the most they darken. Person's right, then left.
_NASOLABIAL = ((129, 203, 206, 216), (358, 423, 426, 436))
_BELOW_CORNER = ((57, 43), (287, 273))
_BETWEEN_BROWS = (9, 8, 107, 336, 55, 285)
_GRAIN = (0.6, 1.0)  # grey levels of fine detail on the cheeks: flat drawings have less, and get no shading
_FOLD = 0.10
_FURROW = 0.10


class Shading:
    """The light of one portrait.

    Args:
        crop: (H, W, 3) uint8.
        landmarks_px: (478, 2) in it.
        shape: (478, 3) the face as photographed, canonical units.
        head: its placement.
    """

    def __init__(self, crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray, head: Similarity) -> None:
        self._shape = shape
        faces = triangles()
        self._faces = faces
        corners = np.arange(len(faces)).repeat(3)
        self._gather = csr_matrix((np.ones(corners.size), (faces.ravel(), corners)), (NUM_SKIN_POINTS, len(faces)))
        links = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        links = np.concatenate([links, links[:, ::-1], np.arange(NUM_SKIN_POINTS)[:, None].repeat(2, axis=1)])
        joined = csr_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), (NUM_SKIN_POINTS, NUM_SKIN_POINTS))
        joined.data[:] = 1.0
        self._smooth = csr_matrix(joined.multiply(1 / joined.sum(axis=1)))
        self._mean, self._direction = self._fit_light(crop, landmarks_px, shape, head)
        self._rest = self._light(shape, head)
        self._share = smooth_ramp(*_GRAIN, _skin_grain(crop, landmarks_px))

    def gain(self, displacement: np.ndarray, head: Similarity) -> np.ndarray:
        """Brightness factor of every face vertex, (478,) float32; exactly 1 without motion.

        Args:
            displacement: (478, 3) canonical, from the face as photographed.
            head: the new placement.
        """
        quotient = self._light(self._shape + displacement, head) / self._rest
        change = self._smooth @ (quotient - 1) * _STRENGTH + self._folds(displacement)
        change *= self._share
        change[list(_KEEP)] = 0.0
        gain = np.ones(NUM_POINTS, np.float32)
        gain[:NUM_SKIN_POINTS] = np.clip(1 + change, *_RANGE)
        return gain

    def _folds(self, displacement: np.ndarray) -> np.ndarray:
        """Soft darkening where smiles, frowns and furrows fold the skin, (468,)."""
        change = np.zeros(NUM_SKIN_POINTS)
        for side, corner, sign in ((0, 61, -1.0), (1, 291, 1.0)):
            outward, up = sign * displacement[corner, 0], displacement[corner, 1]
            smile = np.clip(0.9 * outward + 0.6 * up, -0.4, 1.0)
            change[list(_NASOLABIAL[side])] -= _FOLD * smile
            change[list(_BELOW_CORNER[side])] -= 0.5 * _FOLD * np.clip(-up, 0.0, 1.0)
        inner = displacement[[55, 285]]
        furrow = np.clip(-0.8 * inner[:, 1].mean() + 0.8 * (inner[0, 0] - inner[1, 0]), 0.0, 1.0)
        change[list(_BETWEEN_BROWS)] -= _FURROW * furrow
        return change

    def _normals(self, shape: np.ndarray) -> np.ndarray:
        """(468, 3) unit normals, canonical axes, towards the camera for the middle of the face."""
        a, b, c = (shape[self._faces[:, k]] for k in range(3))
        normals = self._gather @ np.cross(b - a, c - a)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)

    def _light(self, shape: np.ndarray, head: Similarity) -> np.ndarray:
        """Brightness by the fitted light, (468,), never near zero."""
        normals = self._normals(shape) @ head.rotation.T
        return np.maximum(self._mean + normals @ self._direction, 0.25 * self._mean)

    def _fit_light(
        self, crop: np.ndarray, landmarks_px: np.ndarray, shape: np.ndarray, head: Similarity
    ) -> tuple[float, np.ndarray]:
        """a and b (3,) of brightness ≈ a + b · normal, normals in the picture's axes."""
        left_out = set(_KEEP) | set(RIGHT_BROW) | set(LEFT_BROW)
        skin = [i for i in range(NUM_SKIN_POINTS) if i not in left_out]
        soft = cv2.GaussianBlur(crop, (0, 0), max(1.0, 0.4 * head.scale))
        at = np.clip(np.round(landmarks_px[skin]).astype(int), 0, (crop.shape[1] - 1, crop.shape[0] - 1))
        brightness = soft[at[:, 1], at[:, 0]].max(axis=1).astype(np.float64)
        normals = self._normals(shape)[skin] @ head.rotation.T
        seen = normals[:, 2] > 0.2
        brightness, normals = brightness[seen], normals[seen]
        keep = np.ones(len(brightness), bool)
        direction, mean = np.zeros(3), float(brightness.mean())
        for _ in range(3):  # refit without what light does not explain: moles, beard, glints
            centre = normals[keep].mean(axis=0)
            spread = normals[keep] - centre
            gram = spread.T @ spread / keep.sum() + _RIDGE * np.eye(3)
            direction = np.linalg.solve(gram, spread.T @ (brightness[keep] - brightness[keep].mean()) / keep.sum())
            mean = float(brightness[keep].mean() - centre @ direction)
            error = np.abs(mean + normals @ direction - brightness)
            keep = error <= np.quantile(error, 0.8)
        mean = max(mean, 1.0)
        length = float(np.linalg.norm(direction))
        return mean, direction * min(1.0, _MOST_DIRECTED * mean / max(length, 1e-9))


def _skin_grain(crop: np.ndarray, landmarks_px: np.ndarray) -> float:
    """How much fine detail the cheeks show, grey levels, in a face 200 px high."""
    scale = 200 / max(float(np.linalg.norm(landmarks_px[FOREHEAD_TOP] - landmarks_px[CHIN])), 1.0)
    size = (max(8, round(crop.shape[1] * scale)), max(8, round(crop.shape[0] * scale)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = np.abs(small - cv2.GaussianBlur(small, (0, 0), 2.0))
    return float(np.mean([np.median(polygon_pixels(detail, landmarks_px[list(c)] * scale)) for c in CHEEKS]))
