"""The life that goes on anyway: a function of seed and time, and as lively as people are."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.codec.mesh.idle import IdleMotion
from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.face_mesh import LIPS

TEN_MINUTES = int(600 * MOTION_FPS)


def _lid_closure(idle: IdleMotion, start: int, stop: int) -> np.ndarray:
    """(T,) in [0, 1], from the lids of the mesh."""
    rig = default_rig()
    shut = rig.displacement(rig.weights(1, eye_blink=1.0))[0].ravel()
    parts = []
    for begin in range(start, stop, 500):
        expression = idle.frames(begin, min(begin + 500, stop)).expression
        parts.append(expression.reshape(len(expression), -1) @ shut / (shut @ shut))
    return np.concatenate(parts)


def _blinks(closure: np.ndarray) -> np.ndarray:
    """Frames at which the lids come down."""
    return np.flatnonzero((closure[1:] > 0.5) & (closure[:-1] <= 0.5)) + 1


@pytest.mark.parametrize("cuts", [[0, 1, 2, 50, 99], [0, 33, 66, 99]])
def test_made_in_pieces_equals_made_at_once(cuts: list[int]) -> None:
    offset = 1450  # across the border of a minute
    idle = IdleMotion(3)
    whole = idle.frames(offset, offset + 99)
    pieces = MeshMotion.concatenate([idle.frames(offset + a, offset + b) for a, b in zip(cuts, cuts[1:], strict=False)])
    for name in ("expression", "rotation", "translation", "gaze"):
        assert np.allclose(getattr(whole, name), getattr(pieces, name), atol=1e-6), name


def test_no_frames_are_no_motion() -> None:
    assert len(IdleMotion(0).frames(7, 7)) == 0


def test_seeds_differ_and_repeat() -> None:
    one, same, other = (IdleMotion(seed).frames(0, 200) for seed in (1, 1, 2))
    for name in ("expression", "rotation", "translation", "gaze"):
        assert np.array_equal(getattr(one, name), getattr(same, name)), name
        assert not np.allclose(getattr(one, name), getattr(other, name), atol=1e-3), name


def test_it_starts_at_zero_and_comes_in_smoothly() -> None:
    motion = IdleMotion(5).frames(0, 50)
    for name in ("expression", "rotation", "translation", "gaze"):
        assert not getattr(motion, name)[0].any(), name
    assert np.abs(np.diff(motion.rotation, axis=0)).max() < np.radians(1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_people_blink_8_to_30_times_a_minute(seed: int) -> None:
    closure = _lid_closure(IdleMotion(seed), 0, TEN_MINUTES)
    assert 8 <= len(_blinks(closure)) / 10 <= 30
    assert closure.max() == pytest.approx(1, abs=1e-3)  # lids close fully
    assert closure.min() > -1e-4
    assert np.diff(_blinks(closure)).max() < 10 * MOTION_FPS  # nobody stares
    assert (closure > 0.5).mean() < 0.1


def test_the_head_moves_about_and_never_far() -> None:
    motion = IdleMotion(4)
    rotation = np.concatenate([motion.frames(a, a + 250).rotation for a in range(0, 5000, 250)])
    degrees = np.degrees(rotation)
    assert (degrees.std(axis=0) > 0.4).all()
    assert np.abs(degrees).max() < 13
    assert np.abs(np.diff(degrees, axis=0)).max() < 1.0  # per frame, 25° a second: it moves, it does not jerk


def test_head_motion_scales_the_head_and_nothing_else() -> None:
    still, natural, lively = (IdleMotion(6, head_motion=x).frames(100, 300) for x in (0.0, 1.0, 2.0))
    assert not still.rotation.any() and not still.translation.any()
    assert np.allclose(lively.rotation, 2 * natural.rotation, atol=1e-6)
    assert np.array_equal(still.expression, natural.expression) and np.array_equal(still.gaze, natural.gaze)
    assert still.gaze.any()


def test_without_eyes_only_the_head_lives() -> None:
    motion = IdleMotion(6, eyes=False).frames(0, 300)
    assert not motion.expression.any() and not motion.gaze.any()
    assert motion.rotation.any()


def test_idle_life_leaves_the_lips_alone() -> None:
    expression = IdleMotion(7).frames(0, 500).expression
    assert np.abs(expression[:, list(LIPS)]).max() < 1e-3


def test_eyes_mostly_rest_on_the_viewer() -> None:
    gaze = np.concatenate([IdleMotion(8).frames(a, a + 250).gaze for a in range(0, 5000, 250)])
    assert np.abs(gaze).max() < 0.6
    assert 0.02 < gaze[:, 0].std() < 0.2


def test_head_motion_spreads_over_seconds_about_as_much_as_peoples() -> None:
    """Half to twice the 4.7° (median over 7-second clips, yaw, pitch and roll together) of tracked speakers."""
    clips = [np.degrees(IdleMotion(seed).frames(0, 190).rotation) for seed in range(24)]
    spread = np.median([np.sqrt(clip.var(axis=0).sum()) for clip in clips])
    assert 4.7 / 2 < spread < 2 * 4.7
