"""Laws of the renderer, on the one portrait of the repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.rig import default_rig
from avatar.errors import OptionError
from avatar.face_mesh import LEFT_EYE, LIPS_INNER, RIGHT_EYE
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.types import BBox, Face, Portrait

_DEGREE = np.pi / 180
_MAGENTA = np.array([255, 0, 255], np.float32)


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    path = Path(__file__).parents[3] / "examples" / "astronaut.png"
    image = cv2.imread(str(path))[..., ::-1].copy()
    return Portrait(image, MediaPipeFaces().detect(image)[0])


@pytest.fixture
def stage(portrait: Portrait) -> Stage:
    return Stage(portrait)


def at_rest(stage: Stage, num_frames: int) -> MeshMotion:
    """The photo's own expression, held."""
    zeros = MeshMotion.zeros(num_frames)
    return replace(zeros, expression=np.repeat(stage.own_expression[None], num_frames, axis=0))


def speaking(num_frames: int = 12) -> MeshMotion:
    """Lively speech with modest head motion, by hand."""
    t = np.arange(num_frames) / 5
    rig, blink = default_rig(), np.clip(np.sin(2 * t), 0, 1)
    weights = rig.weights(num_frames, jaw_open=0.3 + 0.3 * np.sin(3 * t), mouth_pucker=0.4 + 0.4 * np.cos(2 * t),
                          eye_blink_l=blink, eye_blink_r=blink)  # fmt: skip
    turn = 8 * _DEGREE * np.stack([np.sin(t), np.cos(t), np.sin(2 * t)], axis=1)
    shift = np.stack([0.4 * np.sin(t), 0.3 * np.cos(t), 0.02 * np.sin(t)], axis=1)
    return MeshMotion(rig.displacement(weights), turn, shift, 0.2 * np.stack([np.sin(t), np.cos(t)], axis=1))


def expression(**weights: float) -> np.ndarray:
    """(1, 478, 3) of named rig weights."""
    rig = default_rig()
    return rig.displacement(rig.weights(1, **weights))


def turned(stage: Stage, axis: int, degrees: float) -> MeshMotion:
    rotation = np.zeros((1, 3))
    rotation[0, axis] = degrees * _DEGREE
    return replace(at_rest(stage, 1), rotation=rotation)


def test_zero_motion_returns_the_photo(portrait: Portrait) -> None:
    for size_px in (None, 384):
        stage = Stage(portrait, size_px)
        frame = stage.render(at_rest(stage, 1))[0]
        difference = np.abs(frame.astype(float) - stage.still).mean(axis=2)
        rows, columns = (side // 16 for side in difference.shape)
        blocks = difference[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).mean(axis=(1, 3))
        assert blocks.max() <= 1.0
    assert (Stage(portrait).still == portrait.image).all()


def test_the_background_is_still(stage: Stage, portrait: Portrait) -> None:
    frames = stage.render(speaking()).astype(np.float32)
    reach = int(0.15 * portrait.face.bbox.height)
    person = (MediaPipeFaces().person_mask(portrait.image) > 0.1).astype(np.uint8)
    background = cv2.dilate(person, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) == 0
    assert background.mean() > 0.2
    assert frames.std(axis=0)[background].max() <= 0.01
    assert frames.std(axis=0)[~background].max() > 5  # the person does move


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [-15.0, 15.0])
def test_turns_leave_no_hole_and_no_tear(stage: Stage, axis: int, degrees: float) -> None:
    stage._identity_map = np.full_like(stage._identity_map, np.nan)
    stage.render(turned(stage, axis, degrees))
    inner = stage._map[1:-1, 1:-1]
    assert np.isfinite(inner).all()
    down, across = (np.abs(np.diff(inner, axis=axis)).max(axis=2) for axis in (0, 1))
    jumps = np.maximum(down[:, 1:], across[1:])
    assert (jumps > 4).mean() < 0.01  # only where the nose or a cheek hides what is behind it
    assert jumps.max() < 0.25 * stage._face_px


def test_the_head_really_turns(stage: Stage) -> None:
    rest = stage.landmarks(at_rest(stage, 1))[0]
    to_the_right = stage.landmarks(turned(stage, 1, 12.0))[0]
    assert to_the_right[1, 0] - rest[1, 0] > 5  # the nose tip moves right, y up and right-handed: positive yaw


def test_turns_beyond_what_a_photo_shows_are_limited(stage: Stage) -> None:
    far, farther = (stage.landmarks(turned(stage, 1, degrees))[0] for degrees in (40.0, 80.0))
    assert np.abs(far - farther).max() < 0.5


def test_the_crop_leaves_no_seam_in_the_photo(stage: Stage) -> None:
    frames = stage.render(speaking())
    left, top, right, bottom = stage._box
    edge = np.ones(stage.size, bool)
    edge[top + 1 : bottom - 1, left + 1 : right - 1] = False
    if top == 0:  # the photo itself ends here: nothing to join
        edge[0, left:right] = False
    assert np.abs(frames.astype(int) - stage.still)[:, edge].max() <= 2


def test_closed_lips_show_no_cavity(stage: Stage) -> None:
    for motion in (MeshMotion.zeros(1), replace(MeshMotion.zeros(1), expression=expression(mouth_pucker=0.8))):
        plain = stage.render(motion)
        painted = _with_magenta_mouth(stage).render(motion)
        assert (plain == painted).all()


def test_open_lips_show_a_cavity(stage: Stage) -> None:
    motion = replace(MeshMotion.zeros(1), expression=expression(jaw_open=0.8))
    plain = stage.render(motion)
    assert (plain != _with_magenta_mouth(stage).render(motion)).any()


def _with_magenta_mouth(stage: Stage) -> Stage:
    mouth = stage._mouth
    mouth._own = None
    mouth._colours = replace(mouth._colours, cavity=_MAGENTA, tongue=_MAGENTA)
    mouth._upper.colour[:] = (255, 0, 255, 1)
    mouth._lower.colour[:] = (255, 0, 255, 1)
    return stage


def test_an_open_mouthed_portrait_does_not_double_its_opening(stage: Stage) -> None:
    scale = stage._mover.rest.scale
    assert np.ptp(stage.own_expression[[13, 14], 1]) > 0.5  # this portrait smiles with open lips
    for jaw in (0.0, 0.3, 0.7):
        moved = expression(jaw_open=jaw)
        asked = moved[0, 13, 1] - moved[0, 14, 1]
        lips = stage.landmarks(replace(MeshMotion.zeros(1), expression=moved))[0]
        opening = np.linalg.norm(lips[14] - lips[13]) / scale
        assert abs(opening - asked) < 0.1


def test_lips_never_cross(stage: Stage) -> None:
    pressed = expression(mouth_press_l=1.0, mouth_press_r=1.0, mouth_roll_lower=1.0, mouth_roll_upper=1.0)
    lips = stage.landmarks(replace(MeshMotion.zeros(1), expression=pressed - 3 * expression(jaw_open=0.2)))[0]
    upper, lower = lips[list(LIPS_INNER[1:10])], lips[list(LIPS_INNER[:10:-1])]
    assert (lower[:, 1] - upper[:, 1] > -0.3).all()  # px; the head is tilted by three degrees


def test_lids_close_fully(stage: Stage) -> None:
    motion = at_rest(stage, 1)
    motion = replace(motion, expression=motion.expression + expression(eye_blink_l=1.0, eye_blink_r=1.0))
    points = stage.landmarks(motion)[0]
    for ring in (RIGHT_EYE, LEFT_EYE):
        lower, upper = points[list(ring[1:8])], points[list(ring[:8:-1])]
        width = np.linalg.norm(points[ring[0]] - points[ring[8]])
        assert np.abs(upper[:, 1] - lower[:, 1]).max() < 0.03 * width
    plain = stage.render(motion)
    for eye in stage._eyes:
        eye._ball[:] = _MAGENTA
    assert (plain == stage.render(motion)).all()


def test_gaze_moves_the_iris_without_squashing_it(stage: Stage) -> None:
    for eye in stage._eyes:
        size = eye._ball.shape[:2]
        carry = np.eye(2, 3)
        rest = eye._sample(eye._corner, size, carry, np.zeros(2))
        for look in ((2, 0), (-2, 0), (0, 1), (0, -1)):
            moved = eye._sample(eye._corner, size, carry, np.array(look, float))
            back = np.roll(moved, (-look[1], -look[0]), axis=(0, 1))
            x, y = eye._centre - eye._corner
            rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
            iris = np.hypot(columns - x, rows - y) < eye._radius
            assert np.abs(back - rest)[iris].max() < 1.0


def test_a_frame_depends_on_its_own_motion_only(stage: Stage) -> None:
    motion = speaking(6)
    assert (stage.render(motion)[4] == stage.render(motion[4:5])[0]).all()


def test_two_people_in_one_picture_move_independently(portrait: Portrait) -> None:
    image = np.concatenate([portrait.image, portrait.image], axis=1)
    width = portrait.image.shape[1]
    face = portrait.face
    points = face.landmarks + np.array([width, 0, 0], np.float32)
    box = BBox(face.bbox.left + width, face.bbox.top, face.bbox.right + width, face.bbox.bottom)
    other = Face(box, points, face.pose)
    mask = np.tile(MediaPipeFaces().person_mask(portrait.image), (1, 2))
    first = Stage(Portrait(image, face), others=[other], person_mask=mask)
    second = Stage(Portrait(image, other), others=[face], person_mask=mask)
    motion = speaking(3)
    canvas = first.still.copy()
    first.draw(canvas, motion, 2)
    second.draw(canvas, at_rest(second, 1), 0)
    assert (canvas == first.render(motion)[2]).all()
    second.draw(canvas, motion, 2)
    difference = np.abs(canvas[:, :width].astype(int) - canvas[:, width:])
    assert difference.mean() < 0.02  # a regular grid can be triangulated in more than one way


def test_a_size_that_is_no_size_is_refused(portrait: Portrait) -> None:
    with pytest.raises(OptionError, match="at least 16"):
        Stage(portrait, 8)


def test_sides_are_even_and_the_longer_one_is_as_asked(portrait: Portrait) -> None:
    wide = Portrait(portrait.image[:381], portrait.face)
    assert Stage(wide, 333).size == (248, 332)
