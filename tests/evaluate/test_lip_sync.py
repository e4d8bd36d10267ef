"""A clip's figures together, where they are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avatar.errors import OptionError
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.lip_sync import score_lip_sync
from avatar.types import Waveform

FPS = 25.0
Curves = Callable[[int, int], np.ndarray]
Faces = Callable[..., np.ndarray]


def test_a_video_equal_to_the_truth_scores_perfectly(smooth_noise: Curves, faces: Faces) -> None:
    opening = 0.1 + 0.02 * smooth_noise(100, 3)
    track = FaceTrack.from_landmarks(faces(opening), np.ones(100, bool), FPS)
    speech = Waveform((np.random.default_rng(0).normal(size=64_000) * 0.1).astype(np.float32))
    score = score_lip_sync(track, track, speech)
    assert score.opening.at_zero == pytest.approx(1.0)
    assert score.range_ratio == pytest.approx(1.0)
    assert score.jitter == score.truth_jitter
    assert abs(score.sound_rms.at_zero) < 0.5
    assert score.num_frames == 100
    assert score.shift_rank == 1.0
    assert score.above_envelope == 1
    assert score.best_envelope == max(score.sound_rms.best, score.sound_band.best)
    assert score.gaze_spread == score.truth_gaze_spread


def test_a_still_mouth_is_not_above_the_envelope(smooth_noise: Curves, faces: Faces) -> None:
    truth = FaceTrack.from_landmarks(faces(0.1 + 0.02 * smooth_noise(100, 3)), np.ones(100, bool), FPS)
    still = FaceTrack.from_landmarks(np.repeat(faces(np.zeros(1)), 100, axis=0), np.ones(100, bool), FPS)
    score = score_lip_sync(still, truth, Waveform(np.random.default_rng(1).normal(size=64_000).astype(np.float32)))
    assert score.above_envelope == 0


def test_flat_scores_name_every_number_once(smooth_noise: Curves, faces: Faces) -> None:
    track = FaceTrack.from_landmarks(faces(0.1 + 0.02 * smooth_noise(60, 3)), np.ones(60, bool), FPS)
    flat = score_lip_sync(track, track, Waveform(np.ones(16_000, np.float32))).flat()
    assert {"opening.best", "opening.lag_frames", "shift_rank", "closures_hit"} <= set(flat)
    assert not any(isinstance(value, dict) for value in flat.values())


def test_tracks_of_different_rates_are_refused(faces: Faces) -> None:
    at_25 = FaceTrack.from_landmarks(faces(np.zeros(5)), np.ones(5, bool), 25.0)
    at_30 = FaceTrack.from_landmarks(faces(np.zeros(5)), np.ones(5, bool), 30.0)
    with pytest.raises(OptionError, match="25.0 and 30.0"):
        score_lip_sync(at_25, at_30, Waveform(np.zeros(16_000, np.float32)))


def test_footage_whose_sound_is_early_is_judged_in_step_when_the_offset_is_told(
    smooth_noise: Curves, faces: Faces
) -> None:
    opening = 0.1 + 0.02 * smooth_noise(120, 1)
    spoken = FaceTrack.from_landmarks(
        faces(opening[6:]), np.ones(114, bool), FPS
    )  # follows the sound, which is 6 frames early
    shown = FaceTrack.from_landmarks(faces(opening[:-6]), np.ones(114, bool), FPS)
    speech = Waveform((np.random.default_rng(0).normal(size=114 * 640) * 0.1).astype(np.float32))
    score = score_lip_sync(spoken, shown, speech, own_offset_frames=6)
    assert score.opening.best < 0.8
    assert score.opening_in_step.at_zero == pytest.approx(1.0)
    assert score.opening_in_step.lag_frames == 0
    assert score.above_in_step == 1
    assert score_lip_sync(spoken, shown, speech).opening_in_step == score.opening
