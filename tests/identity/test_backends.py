"""The optional back ends against stand-ins with the real packages' interface (insightface 2.1, face-alignment 1.5)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from avatar import face_mesh
from avatar.errors import MissingDependencyError
from avatar.identity.arcface import ArcFaceEmbedder, five_points
from avatar.identity.face_alignment_68 import MESH_INDEX_OF_68, WEIGHT_FILES, FaceAlignmentFaces, mesh_from_68
from avatar.types import Face, Portrait

FaceMaker = Callable[..., Face]


class _RecognitionModel:
    """insightface.model_zoo.arcface_onnx.ArcFaceONNX: aligns by `face.kps`, returns 512 raw numbers."""

    taskname = "recognition"

    def prepare(self, ctx_id: int) -> None:
        self.ctx_id = ctx_id

    def get(self, image: np.ndarray, face: dict) -> np.ndarray:
        self.seen = image, face["kps"]
        return np.arange(512, dtype=np.float32)


def _install_insightface(monkeypatch: pytest.MonkeyPatch, model: object) -> None:
    package, zoo, app, common = (ModuleType(name) for name in ("insightface", "model_zoo", "app", "common"))
    zoo.get_model = lambda path, **kwargs: model  # type: ignore[attr-defined]
    common.Face = dict  # type: ignore[attr-defined]
    modules = {"": package, ".model_zoo": zoo, ".app": app, ".app.common": common}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"insightface{name}", module)


def test_arcface_gets_bgr_and_five_points_and_gives_a_unit_vector(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, portrait: Portrait
) -> None:
    model, weights = _RecognitionModel(), tmp_path / "w600k_r50.onnx"
    weights.write_bytes(b"x")
    _install_insightface(monkeypatch, model)
    embedder = ArcFaceEmbedder(weights)
    vector = embedder.embed(portrait)
    assert vector.shape == (embedder.num_features,)
    assert np.linalg.norm(vector) == pytest.approx(1)
    image, points = model.seen
    np.testing.assert_array_equal(image, portrait.image[:, :, ::-1])
    assert points.shape == (5, 2)
    assert model.ctx_id == -1


def test_the_five_points_are_where_arcface_wants_them(portrait: Portrait) -> None:
    template = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
    points = five_points(portrait.face)
    matrix, _ = cv2.estimateAffinePartial2D(points, template.astype(np.float32), method=cv2.LMEDS)
    aligned = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(aligned - template, axis=1).max() < 8, "px of a 112 px crop"


def test_arcface_without_the_package_says_what_to_install_and_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "insightface", None)
    monkeypatch.setitem(sys.modules, "insightface.model_zoo", None)
    with pytest.raises(MissingDependencyError, match=r"pip install avatar\[insightface\].*https://.*non-commercial"):
        ArcFaceEmbedder()


def test_arcface_without_weights_says_where_they_come_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install_insightface(monkeypatch, _RecognitionModel())
    with pytest.raises(MissingDependencyError, match=r"nothing\.onnx.*https://.*non-commercial research only"):
        ArcFaceEmbedder(tmp_path / "nothing.onnx")


def test_arcface_refuses_another_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = tmp_path / "det_10g.onnx"
    weights.write_bytes(b"x")
    _install_insightface(monkeypatch, SimpleNamespace(taskname="detection"))
    with pytest.raises(MissingDependencyError, match="not a face recognition network"):
        ArcFaceEmbedder(weights)


def _install_face_alignment(monkeypatch: pytest.MonkeyPatch, faces: list[np.ndarray]) -> None:
    class FaceAlignment:
        def __init__(self, landmarks_type: int, *, device: str, compile: bool) -> None:
            boxes = [np.array([*points[:, :2].min(0), *points[:, :2].max(0), 0.99]) for points in faces]
            self.face_detector = SimpleNamespace(detect_from_image=lambda image: boxes)

        def get_landmarks_from_image(self, image: np.ndarray, detected_faces: list) -> list[np.ndarray]:
            return faces

    package = ModuleType("face_alignment")
    package.FaceAlignment = FaceAlignment  # type: ignore[attr-defined]
    package.LandmarksType = SimpleNamespace(THREE_D=3)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "face_alignment", package)


def test_68_points_become_a_mesh_close_to_the_true_one(portrait: Portrait) -> None:
    truth = portrait.face.landmarks
    measured = truth[list(MESH_INDEX_OF_68)].astype(float)
    for towards_camera in (1, -1):  # face-alignment's z has the other sign
        mesh = mesh_from_68(measured * (1, 1, towards_camera))
        np.testing.assert_allclose(mesh[list(MESH_INDEX_OF_68)], measured, atol=0.01)
        error = np.linalg.norm((mesh - truth)[:, :2], axis=1).mean() / face_mesh.outer_eye_distance(truth)
        assert error < 0.02


def test_face_alignment_gives_faces_largest_first(monkeypatch: pytest.MonkeyPatch, make_face: FaceMaker) -> None:
    small, large = (make_face(x, 200, size, yaw=10) for x, size in ((100, 40), (400, 90)))
    index = list(MESH_INDEX_OF_68)
    _install_face_alignment(monkeypatch, [face.landmarks[index] for face in (small, large)])
    found = FaceAlignmentFaces(allow_download=True).detect(np.zeros((400, 600, 3), np.uint8))
    assert [round(face.bbox.centre[0], -2) for face in found] == [400, 100]
    assert found[0].landmarks.shape == (478, 3)
    assert found[0].pose.yaw_deg == pytest.approx(10, abs=0.5)


def test_face_alignment_finds_nothing_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _install_face_alignment(monkeypatch, [])
    assert FaceAlignmentFaces(allow_download=True).detect(np.zeros((40, 40, 3), np.uint8)) == []


def test_face_alignment_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(MissingDependencyError, match=r"pip install avatar\[face-alignment\]"):
        FaceAlignmentFaces()


def test_face_alignment_downloads_nothing_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install_face_alignment(monkeypatch, [])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=rf"{WEIGHT_FILES[0]}.*https://.*allow_download=True"):
        FaceAlignmentFaces()
