"""Finds faces with face-alignment's 68 three-dimensional points: an optional `FaceDetector` for when MediaPipe fails.

Bulat & Tzimiropoulos 2017, "How far are we from solving the 2D & 3D face alignment problem?". The mesh has 478 points
and 68 are measured, so the rest is *estimated*: the mean face is laid on the 68 by a similarity, and what is left is
spread smoothly between them. Lips, lids and jaw line are then right at the measured points, cheeks and forehead follow
the mean face, and the irises sit in the middle of the eyes: good enough to animate, not to measure gaze by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import RBFInterpolator

from avatar import face_mesh
from avatar.errors import MissingDependencyError
from avatar.identity.crop import landmark_box
from avatar.types import Face

# iBUG 68 order: jaw line (17), brows (5 + 5), nose (4 + 5), eyes (6 + 6), outer lips (12), inner lips (8).
MESH_INDEX_OF_68 = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
_JAW = 17  # the first 17 slide along the jaw with the head's turn: they weigh less in the fit
WEIGHT_FILES = ("s3fd-619a316812.pth", "3DFAN4-7835d9f11d.pth.tar", "depth-2a464da4ea.pth.tar")
WEIGHTS_URL = "https://www.adrianbulat.com/downloads/python-fan/"


class FaceAlignmentFaces:
    """A `FaceDetector` on face-alignment.

    Args:
        allow_download: whether face-alignment may fetch its weights if they are not in torch.hub's cache.
        device: a torch device.

    Raises:
        MissingDependencyError: the package, or its weights, are absent; says where both come from.
    """

    def __init__(self, *, allow_download: bool = False, device: str = "cpu") -> None:
        try:
            import face_alignment
        except ImportError as err:
            raise MissingDependencyError(
                f"this detector needs face-alignment ({err}); install it: pip install avatar[face-alignment]. "
                f"{_about_weights()}"
            ) from err
        if not allow_download:
            _require_weights()
        self._model: Any = face_alignment.FaceAlignment(
            face_alignment.LandmarksType.THREE_D, device=device, compile=False
        )

    def detect(self, image: np.ndarray) -> list[Face]:
        """All faces in a picture (H, W, 3) uint8 RGB, largest first; 478 points estimated from 68."""
        boxes = self._model.face_detector.detect_from_image(image.copy())
        if len(boxes) == 0:
            return []
        found = self._model.get_landmarks_from_image(image, detected_faces=boxes)
        faces = [_face(np.asarray(points, np.float64)) for points in found or ()]
        return sorted(faces, key=lambda face: -face.bbox.width * face.bbox.height)


def mesh_from_68(points: np.ndarray) -> np.ndarray:
    """A full mesh through 68 measured points.

    Args:
        points: (68, 3) px, x right, y down, z of either sign: the one that fits a face better is taken.

    Returns:
        (478, 3) float32 px, MediaPipe's axes (z negative towards the camera); passes through the 68 points.
    """
    index = list(MESH_INDEX_OF_68)
    reference = face_mesh.canonical_vertices()
    weights = np.where(np.arange(68) < _JAW, 0.2, 1.0)
    best: tuple[float, np.ndarray, face_mesh.Similarity] | None = None
    for towards_camera in (1.0, -1.0):
        target = points * (1.0, -1.0, towards_camera)
        fit = face_mesh.fit_similarity(reference[index], target, weights)
        error = float((weights * ((fit.apply(reference[index]) - target) ** 2).sum(axis=1)).sum())
        if best is None or error < best[0]:
            best = error, target, fit
    assert best is not None
    _, target, fit = best
    leftover = fit.invert(target) - reference[index]
    spread = RBFInterpolator(reference[index], leftover, kernel="linear", smoothing=0.0)
    shape = reference + spread(reference)
    for iris, corners in ((face_mesh.RIGHT_IRIS, (33, 133)), (face_mesh.LEFT_IRIS, (263, 362))):
        rigid = reference[list(iris)] - reference[iris[0]]
        shape[list(iris)] = rigid + shape[list(corners)].mean(axis=0) + (0.0, 0.0, 0.15)
    return face_mesh.to_picture_axes(fit.apply(shape)).astype(np.float32)


def _face(points: np.ndarray) -> Face:
    landmarks = mesh_from_68(points)
    return Face(landmark_box(landmarks), landmarks, face_mesh.head_pose(face_mesh.fit_head(landmarks).rotation))


def _require_weights() -> None:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = [name for name in WEIGHT_FILES if not (folder / name).is_file()]
    if missing:
        raise MissingDependencyError(
            f"face-alignment's weights {', '.join(missing)} are not in {folder}. {_about_weights()}"
        )


def _about_weights() -> str:
    return (
        f"Its weights come from {WEIGHTS_URL} (BSD code; the weights state no licence of their own); "
        "FaceAlignmentFaces(allow_download=True) lets it fetch them"
    )
