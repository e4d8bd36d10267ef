"""Who speaks, and which faces are refused; each message says what was seen and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avatar.errors import (
    FaceError,
    FaceTooSmallError,
    InputError,
    NoFaceError,
    OptionError,
    ProfileFaceError,
    SeveralFacesError,
)
from avatar.identity.choose import FACE_WORDS, choose_face, load_portrait
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.types import BBox, Face

FaceMaker = Callable[..., Face]
ASTRONAUT = Path(__file__).resolve().parents[2] / "examples" / "astronaut.png"

PICTURE = np.zeros((800, 1200, 3), np.uint8)


class _Finds:
    """A detector that finds what it is told to."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def detect(self, image: np.ndarray) -> list[Face]:
        return self.faces


def test_a_single_face_is_chosen(make_face: FaceMaker) -> None:
    face = make_face(400, 400)
    assert choose_face(PICTURE, [face]) is face


def test_no_face_says_how_large_the_picture_was() -> None:
    with pytest.raises(NoFaceError, match=r"no human face .*1200x800 px"):
        choose_face(PICTURE, [])


def test_several_faces_are_listed_with_the_ways_to_choose(make_face: FaceMaker) -> None:
    faces = [make_face(300, 400, 100), make_face(800, 400, 80)]
    with pytest.raises(
        SeveralFacesError, match=r"2 faces.*--face N.*--face left,top,right,bottom or a word .*: 1 = .*; 2 = "
    ) as err:
        choose_face(PICTURE, faces)
    assert "\n" not in str(err.value)
    assert isinstance(err.value, InputError)


def test_a_word_says_where_the_face_is(make_face: FaceMaker) -> None:
    left, middle, right = make_face(200, 500, 90), make_face(650, 300, 120), make_face(1000, 400, 100)
    passer_by = make_face(50, 700, 10)
    faces = [middle, right, left, passer_by]
    named = {"left": left, "middle": middle, "right": right, "top": middle, "bottom": left, "largest": middle}
    assert set(named) == set(FACE_WORDS)
    for word, face in named.items():
        assert choose_face(PICTURE, faces, word) is face, word
    with pytest.raises(OptionError, match="no face is called 'behind'; accepted: left, right, middle"):
        choose_face(PICTURE, faces, "behind")


def test_a_face_of_the_crowd_is_not_several(make_face: FaceMaker) -> None:
    face = make_face(300, 400, 120)
    assert choose_face(PICTURE, [face, make_face(900, 300, 20)]) is face
    with pytest.raises(SeveralFacesError):
        choose_face(PICTURE, [face, make_face(900, 300, 30)])


def test_a_number_counts_from_one(make_face: FaceMaker) -> None:
    faces = [make_face(300, 400, 100), make_face(800, 400, 80)]
    assert choose_face(PICTURE, faces, 1) is faces[0]
    assert choose_face(PICTURE, faces, 2) is faces[1]


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_number_without_a_face_is_an_error(make_face: FaceMaker, number: int) -> None:
    faces = [make_face(300, 400, 100), make_face(800, 400, 80)]
    with pytest.raises(OptionError, match=rf"no face {number}; there are 2 faces"):
        choose_face(PICTURE, faces, number)


def test_a_box_chooses_the_face_in_it(make_face: FaceMaker) -> None:
    faces = [make_face(300, 400, 100), make_face(800, 400, 80)]
    assert choose_face(PICTURE, faces, faces[1].bbox) is faces[1]
    assert choose_face(PICTURE, faces, BBox(600, 200, 1100, 700)) is faces[1], "a generous box"
    assert choose_face(PICTURE, faces, faces[0].bbox.scaled(0.7)) is faces[0], "a tight box"


def test_a_box_that_holds_none_or_two_is_an_error(make_face: FaceMaker) -> None:
    faces = [make_face(300, 400, 100), make_face(800, 400, 90)]
    with pytest.raises(NoFaceError, match=r"no face lies in the box 0,0,50,50; there are 2 faces"):
        choose_face(PICTURE, faces, BBox(0, 0, 50, 50))
    with pytest.raises(SeveralFacesError, match="holds 2 faces"):
        choose_face(PICTURE, faces, BBox(0, 0, 1200, 800))


def test_a_small_face_is_refused_with_its_measure(make_face: FaceMaker) -> None:
    with pytest.raises(FaceTooSmallError, match=r"21 px from eye to eye.*at least 36 px"):
        choose_face(PICTURE, [make_face(400, 400, 21)])


@pytest.mark.parametrize(
    ("yaw", "pitch", "said"), [(55, 0, "55 degrees"), (-60, 0, "60 degrees"), (0, 50, "and 50 up")]
)
def test_a_profile_is_refused_with_its_measure(make_face: FaceMaker, yaw: float, pitch: float, said: str) -> None:
    with pytest.raises(ProfileFaceError, match=said):
        choose_face(PICTURE, [make_face(400, 400, yaw=yaw, pitch=pitch)])


@pytest.mark.parametrize(("roll", "turn"), [(92, "90 degrees counter"), (-88, "90 degrees clock"), (175, "180 deg")])
def test_a_lying_face_is_refused_with_the_turn_to_make(make_face: FaceMaker, roll: float, turn: str) -> None:
    with pytest.raises(FaceError, match=turn):
        choose_face(PICTURE, [make_face(400, 400, roll=roll)])


def test_a_face_cut_through_the_mouth_is_refused(make_face: FaceMaker) -> None:
    with pytest.raises(FaceError, match="cuts off"):
        choose_face(PICTURE, [make_face(400, 780, 100)])


def test_the_other_flaws_are_named_in_the_list(make_face: FaceMaker) -> None:
    faces = [make_face(300, 400, 100), make_face(800, 400, 90, yaw=60), make_face(1100, 100, 30)]
    with pytest.raises(SeveralFacesError, match=r"turned away\).*too small\)"):
        choose_face(PICTURE, faces)


def test_load_portrait_reads_a_file_and_finds_the_face(detector: MediaPipeFaces) -> None:
    portrait = load_portrait(ASTRONAUT, detector=detector)
    assert portrait.image.shape == (512, 512, 3)
    assert portrait.face.bbox.iou(BBox(179, 69, 271, 178)) > 0.85


def test_load_portrait_names_the_file_in_its_refusal() -> None:
    with pytest.raises(NoFaceError, match=r"astronaut\.png: no human face"):
        load_portrait(ASTRONAUT, detector=_Finds())


def test_load_portrait_takes_arrays_of_one_kind_only(make_face: FaceMaker) -> None:
    face = make_face(400, 400)
    assert load_portrait(PICTURE, detector=_Finds(face)).face is face
    with pytest.raises(OptionError, match=r"\(H, W, 3\) uint8 RGB, not \(800, 1200\)"):
        load_portrait(PICTURE[..., 0], detector=_Finds(face))
    with pytest.raises(OptionError, match="float32"):
        load_portrait(PICTURE.astype(np.float32), detector=_Finds(face))
