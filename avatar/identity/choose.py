"""Decides which face in a picture speaks, and refuses the ones that cannot be animated well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avatar import face_mesh
from avatar.errors import (
    FaceError,
    FaceTooSmallError,
    NoFaceError,
    OptionError,
    ProfileFaceError,
    SeveralFacesError,
)
from avatar.identity.protocols import FaceDetector
from avatar.types import BBox, Face, FaceChoice, Picture, Portrait

MIN_EYE_DISTANCE_PX = 36  # between the outer eye corners; a 96 px head shot has about 60
MAX_YAW_DEG = 40.0  # beyond, half the mouth is hidden and would have to be invented
MAX_PITCH_DEG = 38.0
MAX_ROLL_DEG = 50.0
PASSER_BY_SIDE = 0.2  # a face smaller than this part of the largest one's side is taken for a passer-by
SAME_FACE_IOU = 0.5  # boxes that share this part are one face
MAX_LISTED = 8
# Words for a face, and what is smallest for it; passers-by are not counted. "left" is the picture's left.
FACE_WORDS: dict[str, Callable[[Face, tuple[int, int]], float]] = {
    "left": lambda face, size: face.bbox.centre[0],
    "right": lambda face, size: -face.bbox.centre[0],
    "middle": lambda face, size: abs(face.bbox.centre[0] - size[0] / 2),
    "top": lambda face, size: face.bbox.centre[1],
    "bottom": lambda face, size: -face.bbox.centre[1],
    "largest": lambda face, size: -_side(face),
}


def choose_face(image: np.ndarray, faces: list[Face], choice: FaceChoice = None) -> Face:
    """The face that will speak.

    Without a choice there must be exactly one face, not counting passers-by: faces less than a fifth as large (in side
    length) as the largest.

    Args:
        image: (H, W, 3) uint8, the picture the faces were found in.
        faces: what a `FaceDetector` found, largest first.
        choice: a face's number, counted from 1 in the order of `faces`; a box in px that holds or overlaps it; where it is:
            a key of `FACE_WORDS`; or None.

    Returns:
        One of `faces`.

    Raises:
        NoFaceError: there is no face, or none in the box.
        SeveralFacesError: several faces and no choice, or several in the box.
        OptionError: no face has this number, or no such word.
        FaceTooSmallError, ProfileFaceError: the chosen face is too small or turned too far away.
        FaceError: it lies on its side, or the picture's edge cuts its eyes or mouth off.
    """
    height, width = image.shape[:2]
    if not faces:
        raise NoFaceError(
            f"no human face was found in the picture ({width}x{height} px). A face is needed that looks towards the "
            f"camera, with at least {MIN_EYE_DISTANCE_PX} px from eye to eye; animals, backs of heads, full profiles "
            "and very abstract drawings are not recognised"
        )
    face = _by_choice(faces, choice, (width, height))
    _check_usable(face, width, height)
    return face


def load_portrait(picture: Picture, choice: FaceChoice = None, detector: FaceDetector | None = None) -> Portrait:
    """Reads a picture and finds the face that will speak.

    Args:
        picture: a file, or (H, W, 3) uint8 RGB; or a portrait, which is returned as it is unless another face is chosen.
        choice: see `choose_face`.
        detector: None takes MediaPipe's.

    Returns:
        The picture and the chosen face.

    Raises:
        MediaError: the file cannot be read as a picture.
        FaceError: see `choose_face`; the message begins with the file's name.
        MissingDependencyError: the detector's package, or a system library, is absent.
    """
    if isinstance(picture, Portrait):
        return picture if choice is None else load_portrait(picture.image, choice, detector)
    if detector is None:
        from avatar.identity.mediapipe_faces import thread_faces

        detector = thread_faces()
    if isinstance(picture, np.ndarray):
        return _portrait(_checked(picture), detector, choice)
    from avatar.media import read_picture

    image = read_picture(picture)
    try:
        return _portrait(image, detector, choice)
    except FaceError as err:
        raise type(err)(f"{picture}: {err}") from err


def _portrait(image: np.ndarray, detector: FaceDetector, choice: FaceChoice) -> Portrait:
    faces = detector.detect(image)
    chosen = choose_face(image, faces, choice)
    return Portrait(image, chosen, tuple(face for face in faces if face is not chosen))


def describe_faces(faces: list[Face]) -> str:
    """Each face's number, the box to choose it with, and its size, on one line; the first eight."""
    parts = []
    for number, face in enumerate(faces[:MAX_LISTED], start=1):
        box = face.bbox
        corners = ",".join(str(round(v)) for v in (box.left, box.top, box.right, box.bottom))
        parts.append(f"{number} = {corners} ({box.width:.0f}x{box.height:.0f} px{_flaw(face)})")
    if len(faces) > MAX_LISTED:
        parts.append(f"and {len(faces) - MAX_LISTED} smaller ones")
    return "; ".join(parts)


def _by_choice(faces: list[Face], choice: FaceChoice, size: tuple[int, int]) -> Face:
    if choice is None:
        return _only(faces)
    if isinstance(choice, str):
        if choice not in FACE_WORDS:
            raise OptionError(f"no face is called {choice!r}; accepted: {', '.join(FACE_WORDS)}, a number, or a box")
        return min(_prominent(faces), key=lambda face: FACE_WORDS[choice](face, size))
    if isinstance(choice, BBox):
        return _in_box(faces, choice)
    if not 1 <= choice <= len(faces):
        raise OptionError(
            f"there is no face {choice}; {_count(faces)}, numbered from 1, largest first: {describe_faces(faces)}"
        )
    return faces[choice - 1]


def _only(faces: list[Face]) -> Face:
    prominent = _prominent(faces)
    if len(prominent) > 1:
        raise SeveralFacesError(
            f"{_count(faces)}; say who speaks with --face N, --face left,top,right,bottom or a word (left, right): "
            f"{describe_faces(faces)}"
        )
    return prominent[0]


def _prominent(faces: list[Face]) -> list[Face]:
    """Without the passers-by."""
    largest = max(_side(face) for face in faces)
    return [face for face in faces if _side(face) >= PASSER_BY_SIDE * largest]


def _in_box(faces: list[Face], box: BBox) -> Face:
    inside = [face for face in faces if _holds(box, face.bbox.centre) or box.iou(face.bbox) > 0.3]
    if not inside:
        raise NoFaceError(
            f"no face lies in the box {_corners(box)}; {_count(faces)}, in px from the top left corner: "
            f"{describe_faces(faces)}"
        )
    inside.sort(key=lambda face: -box.iou(face.bbox))
    if len(inside) > 1 and box.iou(inside[0].bbox) < 2 * box.iou(inside[1].bbox):
        raise SeveralFacesError(
            f"the box {_corners(box)} holds {len(inside)} faces; draw it around one, or give its number: "
            f"{describe_faces(faces)}"
        )
    return inside[0]


def _check_usable(face: Face, width: int, height: int) -> None:
    distance = float(face_mesh.outer_eye_distance(face.landmarks))
    if distance < MIN_EYE_DISTANCE_PX:
        raise FaceTooSmallError(
            f"the face is too small: {distance:.0f} px from eye to eye (outer corners), at least "
            f"{MIN_EYE_DISTANCE_PX} px are needed; use a larger picture of the face"
        )
    pose = face.pose
    if abs(pose.roll_deg) > MAX_ROLL_DEG:
        way = "counter-clockwise" if pose.roll_deg > 0 else "clockwise"
        turn = 180 if abs(pose.roll_deg) > 135 else 90
        raise FaceError(
            f"the face does not stand upright: it is turned by {pose.roll_deg:.0f} degrees; "
            f"turn the picture by {turn} degrees {way}"
        )
    if abs(pose.yaw_deg) > MAX_YAW_DEG or abs(pose.pitch_deg) > MAX_PITCH_DEG:
        raise ProfileFaceError(
            f"the face is turned too far from the camera: {abs(pose.yaw_deg):.0f} degrees to the side and "
            f"{abs(pose.pitch_deg):.0f} up or down, where at most {MAX_YAW_DEG:.0f} and {MAX_PITCH_DEG:.0f} work; "
            "use a picture that shows both eyes and the whole mouth"
        )
    needed = face.landmarks[list(face_mesh.LIPS + face_mesh.RIGHT_EYE + face_mesh.LEFT_EYE), :2]
    if (needed < 0).any() or (needed > (width, height)).any():
        raise FaceError("the picture's edge cuts off the eyes or the mouth; use a picture that shows the whole face")


def check_distinct(faces: list[Face]) -> None:
    """Refuses one face for two speakers.

    Raises:
        OptionError: two of the faces lie on one another.
    """
    for index, face in enumerate(faces):
        if any(face.bbox.iou(other.bbox) > SAME_FACE_IOU for other in faces[:index]):
            raise OptionError("two speakers have the same face; choose another face for one of them")


def _flaw(face: Face) -> str:
    """Why a listed face could not be used, for the reader who is about to choose."""
    if float(face_mesh.outer_eye_distance(face.landmarks)) < MIN_EYE_DISTANCE_PX:
        return ", too small"
    if abs(face.pose.yaw_deg) > MAX_YAW_DEG or abs(face.pose.pitch_deg) > MAX_PITCH_DEG:
        return ", turned away"
    return ""


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise OptionError(f"a picture array is (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
    return image


def _count(faces: list[Face]) -> str:
    return "there is one face" if len(faces) == 1 else f"there are {len(faces)} faces"


def _side(face: Face) -> float:
    return max(face.bbox.width, face.bbox.height)


def _holds(box: BBox, point: tuple[float, float]) -> bool:
    return box.left <= point[0] <= box.right and box.top <= point[1] <= box.bottom


def _corners(box: BBox) -> str:
    return ",".join(f"{v:g}" for v in (box.left, box.top, box.right, box.bottom))
