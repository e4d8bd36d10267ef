"""The astronaut's face pasted at known places: found, counted, measured, followed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar.data.clip_media import ClipMedia, FaceTrack, read_tracks
from avatar.data.scorer import create_scorer, score_clip
from avatar.data.scorers.faces import FacesScorer, identity_likeness
from avatar.errors import OptionError
from avatar.identity.crop import landmark_box
from avatar.identity.mediapipe_faces import thread_faces
from avatar.types import BBox

ASTRONAUT = Path(__file__).resolve().parents[3] / "examples" / "astronaut.png"
HEIGHT, WIDTH, FRAMES = 240, 426, 31


class FramesClip(ClipMedia):
    """A clip whose frames are given instead of decoded."""

    def __init__(self, frames: np.ndarray, root: Path, scale: float = 1.0) -> None:
        super().__init__({"clip_id": "ab12", "source_uri": "none.mp4", "start_s": 0.0, "end_s": len(frames) / 25}, root)
        self._frames[640] = frames
        self._given_scale = scale

    @property
    def scale(self) -> float:
        return self._given_scale


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """The astronaut's head and shoulders, 180 px a side."""
    picture = cv2.imread(str(ASTRONAUT))[0:260, 90:350, ::-1]
    return np.ascontiguousarray(cv2.resize(picture, (180, 180), interpolation=cv2.INTER_AREA))


@pytest.fixture(scope="module")
def face_in_head(head: np.ndarray) -> BBox:
    return thread_faces().detect(head)[0].bbox


def pasted(head: np.ndarray, places: Sequence[Sequence[tuple[int, int] | None]]) -> np.ndarray:
    """Frames with the head's top left corner at the places of each frame."""
    frames = np.full((len(places), HEIGHT, WIDTH, 3), 90, np.uint8)
    frames[:, ::8] = 110
    for frame, corners in zip(frames, places, strict=True):
        for left, top in (corner for corner in corners if corner is not None):
            part = head[: HEIGHT - top, : WIDTH - left]
            frame[top : top + part.shape[0], left : left + part.shape[1]] = part
    return frames


def values_of(clip: FramesClip, **options: int) -> dict[str, object]:
    scorer = FacesScorer(**options)
    values, error = score_clip(scorer, clip)
    assert error is None
    return values


def test_one_face_is_found_measured_and_followed_in_source_pixels(
    head: np.ndarray, face_in_head: BBox, tmp_path: Path
) -> None:
    places = [[(60 + 2 * t, 30)] for t in range(FRAMES)]
    clip = FramesClip(pasted(head, places), tmp_path, scale=0.5)
    values = values_of(clip)
    assert (values["n_faces_max"], values["n_tracks"], values["main_track_cov"]) == (1, 1, 1.0)
    assert values["face_w_px"] == pytest.approx(2 * face_in_head.width, rel=0.06)
    assert values["face_h_px"] == pytest.approx(2 * face_in_head.height, rel=0.06)
    assert values["face_cx"] == pytest.approx((face_in_head.centre[0] + 60 + FRAMES - 1) / WIDTH, abs=0.01)
    assert values["id_cos_min"] > 0.95
    assert values["face_jitter"] < 0.01
    assert values["corner_face_score"] == 0.0
    [track] = read_tracks(tmp_path / str(values["track_uri"]))
    assert track.frames.tolist() == list(range(FRAMES))
    for t in range(0, FRAMES, 6):
        left, top = places[t][0]
        box = landmark_box(track.landmarks[t] / 2)
        true = BBox(
            face_in_head.left + left, face_in_head.top + top, face_in_head.right + left, face_in_head.bottom + top
        )
        assert box.iou(true) > 0.8


def test_two_faces_end_the_stage_before_anything_is_tracked(head: np.ndarray, tmp_path: Path) -> None:
    clip = FramesClip(pasted(head, [[(20, 30), (230, 30)]] * FRAMES), tmp_path)
    values = values_of(clip)
    assert (values["n_faces_max"], values["n_tracks"]) == (2, 2)
    assert values["track_uri"] is None and values["yaw_deg_p95"] is None
    assert values["face_w_px"] > 50


def test_two_faces_have_two_tracks_where_two_are_wanted(head: np.ndarray, tmp_path: Path) -> None:
    clip = FramesClip(pasted(head, [[(20, 30), (230, 30)]] * 12), tmp_path)
    values = values_of(clip, max_faces=2)
    tracks = read_tracks(tmp_path / str(values["track_uri"]))
    centres = sorted(float(track.landmarks[0, :, 0].mean()) for track in tracks)
    assert centres[1] - centres[0] == pytest.approx(210, abs=8)


def test_no_face_is_zero_and_what_needs_one_is_not_measured(head: np.ndarray, tmp_path: Path) -> None:
    clip = FramesClip(pasted(head, [[]] * 12), tmp_path)
    values = values_of(clip)
    assert (values["n_faces_max"], values["n_tracks"], values["main_track_cov"]) == (0, 0, 0.0)
    assert values["face_w_px"] is None and values["track_uri"] is None and values["id_cos_min"] is None


def test_a_face_that_leaves_and_comes_back_is_covered_while_it_is_there(head: np.ndarray, tmp_path: Path) -> None:
    places = [[(100, 30)] if t < 20 or t >= 40 else [] for t in range(60)]
    values = values_of(FramesClip(pasted(head, places), tmp_path))
    assert values["n_faces_max"] == 1
    assert values["main_track_cov"] == pytest.approx(40 / 60, abs=0.05)


def test_a_small_face_in_a_corner_is_scored_as_such(head: np.ndarray, tmp_path: Path) -> None:
    small = cv2.resize(head, (84, 84), interpolation=cv2.INTER_AREA)
    values = values_of(FramesClip(pasted(small, [[(WIDTH - 84, HEIGHT - 84)]] * 12), tmp_path))
    assert values["corner_face_score"] > 0.5


def test_another_appearance_half_way_lowers_the_likeness(head: np.ndarray) -> None:
    frames = pasted(head, [[(100, 30)]] * 12)
    found, _ = thread_faces().track(frames)
    track = FaceTrack(np.arange(12, dtype=np.int32), found)
    same = identity_likeness(frames, track)
    other = frames.copy()
    other[6:] = 255 - other[6:]
    changed = identity_likeness(other, track)
    assert same is not None and changed is not None
    assert same > 0.98 and changed < 0.5


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        create_scorer("faces", {"max_faces": 0})
