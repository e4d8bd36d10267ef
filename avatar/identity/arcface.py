"""Turns a face into an ArcFace embedding with insightface: an optional `IdentityEmbedder`, and the metric of choice.

Deng et al. 2019, "ArcFace". Only the recognition network is used: the face is aligned by our own landmarks, so
insightface's detector, and its weights, are not needed. Nothing is downloaded: the licence is not ours to accept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avatar import face_mesh
from avatar.errors import MissingDependencyError
from avatar.types import Face, Portrait

DEFAULT_WEIGHTS = Path("~/.insightface/models/buffalo_l/w600k_r50.onnx")
WEIGHTS_URL = "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip"


class ArcFaceEmbedder:
    """An `IdentityEmbedder` of 512 numbers.

    Args:
        weights: an ArcFace ONNX file; None takes insightface's own place for it.

    Raises:
        MissingDependencyError: insightface or the weights are absent; says where both come from.
    """

    num_features = 512

    def __init__(self, weights: Path | None = None) -> None:
        try:
            from insightface.model_zoo import get_model
        except ImportError as err:
            raise MissingDependencyError(
                f"ArcFace needs insightface and onnxruntime ({err}); install them: pip install avatar[insightface]. "
                f"{_about_weights()}"
            ) from err
        path = (weights or DEFAULT_WEIGHTS).expanduser()
        if not path.is_file():
            raise MissingDependencyError(f"there is no ArcFace weight file at {path}. {_about_weights()}")
        self._model: Any = get_model(str(path), providers=["CPUExecutionProvider"])
        if getattr(self._model, "taskname", None) != "recognition":
            raise MissingDependencyError(f"{path} is not a face recognition network. {_about_weights()}")
        self._model.prepare(ctx_id=-1)

    def embed(self, portrait: Portrait) -> np.ndarray:
        """A unit vector (512,) float32; the cosine of two photos of one person is usually above 0.3."""
        from insightface.app.common import Face as InsightFace

        bgr = np.ascontiguousarray(portrait.image[:, :, ::-1])
        embedding = np.asarray(self._model.get(bgr, InsightFace(kps=five_points(portrait.face))), np.float32)
        return embedding / max(float(np.linalg.norm(embedding)), 1e-8)


def five_points(face: Face) -> np.ndarray:
    """The points ArcFace is aligned by, (5, 2) float32 px: eye on the picture's left, on its right, nose, corners."""
    points = face.landmarks[:, :2]
    corners = [points[i] for i in face_mesh.MOUTH_CORNERS]
    eyes = [points[list(ring)].mean(axis=0) for ring in (face_mesh.RIGHT_EYE, face_mesh.LEFT_EYE)]
    return np.stack([*eyes, points[face_mesh.NOSE_TIP], *corners]).astype(np.float32)


def _about_weights() -> str:
    return (
        f"The weights are in {WEIGHTS_URL} (w600k_r50.onnx, to be put at {DEFAULT_WEIGHTS}); "
        "insightface gives them for non-commercial research only"
    )
