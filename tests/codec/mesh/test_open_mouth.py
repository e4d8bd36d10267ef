"""Laws of what a photo with an open mouth shows: where its lips end, and whose teeth are whose."""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar.codec.mesh.lip_edges import edge_shift
from avatar.codec.mesh.mouth import Mouth, part_lips
from avatar.codec.mesh.mouth_colours import MouthColours
from avatar.codec.mesh.own_mouth import OwnInterior
from avatar.codec.mesh.pose import project
from avatar.codec.mesh.rig import default_rig
from avatar.errors import NoFaceError
from avatar.face_mesh import LIPS_INNER, LIPS_OUTER, Similarity, canonical_vertices

_SIDE = 480
_SKIN, _LIP, _TOOTH, _DARK = (205, 160, 140), (150, 80, 80), (220, 215, 205), (60, 30, 30)
_HEAD = Similarity(20.0, np.eye(3), np.array([_SIDE / 2, -_SIDE / 4, 0.0]))


def open_shape() -> np.ndarray:
    rig = default_rig()
    return canonical_vertices().astype(float) + rig.displacement(rig.weights(1, jaw_open=0.5))[0]


def face_with(upper: float, lower: float) -> tuple[np.ndarray, np.ndarray]:
    """A drawn face and its landmarks; teeth fill shares of its open mouth from above and from below."""
    points = project(open_shape(), _HEAD)
    crop = np.full((_SIDE, _SIDE, 3), _SKIN, np.uint8)
    cv2.fillPoly(crop, [np.round(points[list(LIPS_OUTER)]).astype(np.int32)], _LIP)
    ring = points[list(LIPS_INNER)]
    cv2.fillPoly(crop, [np.round(ring).astype(np.int32)], _DARK)
    top, bottom = ring[:11], np.concatenate([ring[:1], ring[:9:-1]])
    for start, end in ((0.0, upper), (1.0 - lower, 1.0)):
        if end > start:
            edges = [top + share * (bottom - top) for share in (start, end)]
            cv2.fillPoly(crop, [np.round(np.concatenate([edges[0], edges[1][::-1]])).astype(np.int32)], _TOOTH)
    return crop, points


def own_teeth(crop: np.ndarray, points: np.ndarray) -> OwnInterior | None:
    return OwnInterior.of(crop, points, open_shape(), MouthColours.of(crop, points, open_shape()))


def test_upper_teeth_of_the_photo_are_kept() -> None:
    assert own_teeth(*face_with(upper=0.75, lower=0.0)) is not None


@pytest.mark.parametrize(("upper", "lower"), [(0.0, 0.6), (0.35, 0.35)])
def test_lower_teeth_of_the_photo_are_not_fixed_to_the_skull(upper: float, lower: float) -> None:
    assert own_teeth(*face_with(upper, lower)) is None


def test_teeth_drawn_anew_have_the_colour_of_the_photos_own() -> None:
    white, dark = (MouthColours.of(*face_with(lower, lower), open_shape()).enamel for lower in (0.45, 0.0))
    assert np.abs(white - _TOOTH).mean() < np.abs(dark - _TOOTH).mean()


def test_edges_that_lie_on_lip_stay() -> None:
    crop, points = face_with(0.0, 0.0)
    ring = list(LIPS_INNER)
    inner = points.copy()
    inner[ring] += 0.15 * (points[list(LIPS_OUTER)] - points[ring])  # well on the lip
    shift = edge_shift(crop, inner, _HEAD.scale)
    assert np.abs(shift[[4, 5, 6, *range(11, 20)]]).max() == 0


def test_edges_that_lie_on_teeth_move_outwards_onto_the_lip() -> None:
    crop, points = face_with(0.5, 0.5)
    lower = list(LIPS_INNER[11:])
    tracked = points.copy()
    outward = points[list(LIPS_OUTER[11:])] - points[lower]
    tracked[lower] -= 0.25 * outward  # where a tracker saw the lip on the lower teeth
    shift = edge_shift(crop, tracked, _HEAD.scale)
    assert (shift[[0, 10]] == 0).all()
    assert (np.einsum("ij,ij->i", shift[13:18], outward[2:7]) > 0).all()
    reached = np.round(tracked[lower] + shift[11:]).astype(int)[2:7]
    before = np.round(tracked[lower]).astype(int)[2:7]
    assert crop[reached[:, 1], reached[:, 0], 1].mean() < crop[before[:, 1], before[:, 0], 1].mean() - 60


def test_lips_that_hardly_part_leave_the_teeth_in_the_dark() -> None:
    shape = canonical_vertices().astype(float)
    crop = np.full((_SIDE, _SIDE, 3), _SKIN, np.uint8)
    lips = project(shape, _HEAD)[list(LIPS_OUTER)]
    cv2.fillPoly(crop, [np.round(lips).astype(np.int32)], _DARK)  # all that is bright will be teeth
    mouth = Mouth(crop, project(shape, _HEAD), shape, shape, _HEAD, seed=1)
    rig, brightest = default_rig(), []
    for jaw in (0.04, 0.3):
        displacement = rig.displacement(rig.weights(1, jaw_open=jaw))[0].astype(float)
        gap = part_lips(shape, shape, displacement)
        view = np.full_like(crop, _DARK)
        mouth.draw(view, project(shape + displacement, _HEAD), displacement, gap, _HEAD)
        brightest.append(np.percentile(view[(view != _DARK).any(axis=2)].min(axis=1), 95))
    assert brightest[0] < 0.8 * brightest[1]


def test_a_clip_that_fades_in_is_measured_from_its_first_usable_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path(__file__).parents[3] / "scripts" / "measure_renderer.py"
    first_portrait = runpy.run_path(str(script), run_name="imported")["first_portrait"]
    frames = [np.full((8, 8, 3), value, np.uint8) for value in range(40)]

    def choose(image: np.ndarray, faces: list[int]) -> int:
        if image[0, 0, 0] < 15:
            raise NoFaceError("too dark")
        return faces[0]

    class Faces:
        def detect(self, image: np.ndarray) -> list[int]:
            return [1]

    monkeypatch.setitem(first_portrait.__globals__, "read_video", lambda path: iter(frames))
    monkeypatch.setitem(first_portrait.__globals__, "choose_face", choose)
    assert first_portrait(Path("clip"), 40, Faces()) == 20
    assert first_portrait(Path("clip"), 12, Faces()) is None
