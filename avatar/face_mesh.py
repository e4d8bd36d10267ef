"""The 478-point face mesh every stage shares: its mean shape, its triangles, its named points, and the similarity fit.

The mean shape and triangles are MediaPipe's canonical face model (Apache-2.0, see NOTICE). Canonical space: units of
about 1 cm, x to the picture's right, y up, z towards the camera. "Right" and "left" in names are the person's own, as
in MediaPipe: the person's right eye is on the picture's left.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from avatar.types import HeadPose

NUM_POINTS = 478
NUM_SKIN_POINTS = 468  # the rest are the two irises

# Rings are closed and in order; upper/lower partners of the inner lips are listed corner to corner.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIPS_MIDDLE_INNER = (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292, 325, 319, 403, 316, 15, 86, 179, 89, 96)
LIPS_MIDDLE_OUTER = (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306, 307, 320, 404, 315, 16, 85, 180, 90, 77)
LIPS = LIPS_OUTER + LIPS_MIDDLE_OUTER + LIPS_MIDDLE_INNER + LIPS_INNER
INNER_LIP_PAIRS = ((191, 95), (80, 88), (81, 178), (82, 87), (13, 14), (312, 317), (311, 402), (310, 318), (415, 324))
MOUTH_CORNERS = (61, 291)

# Lid rings: outer corner, lower lid, inner corner, upper lid.
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
# Irises: centre, then the rim to the picture's right, up, left, down.
RIGHT_IRIS = (468, 469, 470, 471, 472)
LEFT_IRIS = (473, 474, 475, 476, 477)
NOSE = (
    168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 64, 48, 115, 220, 45, 294, 278, 344, 440, 275,
    129, 358, 122, 351, 196, 419, 193, 417, 198, 420, 49, 279,
)  # fmt: skip
CHIN = 152
FOREHEAD_TOP = 10
NOSE_TIP = 1
OUTER_EYE_CORNERS = (33, 263)

STABLE = (
    10, 338, 297, 332, 284, 251, 109, 67, 103, 54, 21, 151, 9, 8, 168, 6, 197, 195, 5, 4, 33, 133, 362, 263,
    127, 356, 162, 389, 234, 454, 129, 358, 193, 417, 122, 351, 196, 419,
)  # fmt: skip
"""Points that hardly move with the expression: the head's pose is fitted to them."""
_FIRM = frozenset((33, 133, 263, 362, 168, 6, 197, 195))
_LOOSE = frozenset((5, 4, 129, 358, 234, 454))
STABLE_WEIGHTS = tuple(3.0 if i in _FIRM else 0.5 if i in _LOOSE else 1.0 for i in STABLE)


class Similarity(NamedTuple):
    """`points ≈ scale * reference @ rotation.T + translation`.

    Attributes:
        scale: units of the points per unit of the reference.
        rotation: (3, 3), proper.
        translation: (3,), units of the points.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, reference: np.ndarray) -> np.ndarray:
        """Reference space to point space, (..., 3)."""
        return self.scale * reference @ self.rotation.T + self.translation

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Point space to reference space, (..., 3)."""
        return (points - self.translation) @ self.rotation / self.scale


@cache
def _data() -> dict[str, np.ndarray]:
    with files("avatar").joinpath("face_mesh.npz").open("rb") as file, np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["triangles"] = arrays["triangles"].astype(np.int64)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def canonical_vertices() -> np.ndarray:
    """The mean face, (478, 3) float32, canonical units; read-only.

    The last ten are the irises, which the official model lacks: the middle of the eye corners at the mean depth of
    the lids (where the tracker itself puts them), and a rim of radius 0.6.
    """
    return _data()["vertices"]


def canonical_uv() -> np.ndarray:
    """The official texture coordinates, (468, 2) float32 in [0, 1], v up; read-only."""
    return _data()["uv"]


def triangles() -> np.ndarray:
    """All 898 triangles of the official model, (898, 3) int64; lids and mouth are filled; read-only."""
    return _data()["triangles"]


@cache
def skin_triangles() -> np.ndarray:
    """The 852 triangles left when the eyes and the mouth are open holes, (852, 3) int64; read-only."""
    faces = triangles()
    in_hole = np.zeros(len(faces), bool)
    for ring in (RIGHT_EYE, LEFT_EYE, LIPS_INNER):
        in_hole |= np.isin(faces, ring).all(axis=1)
    skin = faces[~in_hole]
    skin.setflags(write=False)
    return skin


@cache
def mirror_points() -> np.ndarray:
    """(478,) int64: the point on the other side of the face; the mesh is symmetric. Read-only."""
    skin = canonical_vertices()[:NUM_SKIN_POINTS].astype(np.float64)
    partner = ((skin[:, None] * (-1, 1, 1) - skin[None]) ** 2).sum(axis=2).argmin(axis=1)
    centre, right, up, left, down = range(5)
    rim = [centre, left, up, right, down]
    mirrored = np.concatenate([partner, np.array(LEFT_IRIS)[rim], np.array(RIGHT_IRIS)[rim]])
    mirrored.setflags(write=False)
    return mirrored


def to_canonical_axes(landmarks: np.ndarray) -> np.ndarray:
    """Picture landmarks (…, 3) (y down, z away from the camera) with y up and z towards the camera, still in px."""
    return landmarks * np.array([1, -1, -1], landmarks.dtype)


def to_picture_axes(points: np.ndarray) -> np.ndarray:
    """The inverse of `to_canonical_axes`, which is its own inverse."""
    return to_canonical_axes(points)


def fit_similarity(reference: np.ndarray, points: np.ndarray, weights: np.ndarray | None = None) -> Similarity:
    """The scale, rotation and translation that bring a reference closest to points, in weighted least squares.

    Args:
        reference: (N, 3), for example canonical units.
        points: (N, 3), for example px in canonical axes.
        weights: (N,) not negative; None weighs all the same.

    Returns:
        The similarity; its rotation is never a reflection.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", eq. 40
    """
    reference, points = np.asarray(reference, np.float64), np.asarray(points, np.float64)
    share = np.full(len(reference), 1.0 / len(reference)) if weights is None else np.asarray(weights, np.float64)
    share = share / share.sum()
    mean_reference, mean_points = share @ reference, share @ points
    centred_reference, centred_points = reference - mean_reference, points - mean_points
    u, singular, vt = np.linalg.svd((centred_points * share[:, None]).T @ centred_reference)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = float((singular * signs).sum() / (share @ (centred_reference**2).sum(axis=1)))
    return Similarity(scale, rotation, mean_points - scale * rotation @ mean_reference)


def fit_head(landmarks: np.ndarray, reference: np.ndarray | None = None) -> Similarity:
    """Where the head is: the similarity from canonical space to px (canonical axes), fitted on the stable points.

    Args:
        landmarks: (478, 3) picture landmarks, px, MediaPipe axes.
        reference: (478, 3) the person's own neutral shape in canonical units; None takes the mean face.

    Returns:
        The similarity; `fit.invert(to_canonical_axes(landmarks))` is the face in canonical space.
    """
    shape = canonical_vertices() if reference is None else reference
    stable = list(STABLE)
    return fit_similarity(shape[stable], to_canonical_axes(landmarks)[stable], np.array(STABLE_WEIGHTS))


def head_pose(rotation: np.ndarray) -> HeadPose:
    """The angles of a rotation (3, 3) in canonical axes: R = R_y(yaw) R_x(-pitch) R_z(-roll)."""
    yaw = np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[1, 2], -1.0, 1.0))
    roll = -np.arctan2(rotation[1, 0], rotation[1, 1])
    return HeadPose(*(float(np.degrees(angle)) for angle in (yaw, pitch, roll)))


def outer_eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance between the outer eye corners in three dimensions, (…) for (…, 478, 3); about 8.9 canonical units."""
    right, left = OUTER_EYE_CORNERS
    return np.linalg.norm(landmarks[..., right, :] - landmarks[..., left, :], axis=-1)
