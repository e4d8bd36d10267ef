"""Lip-sync figures on signals whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avatar import face_mesh
from avatar.errors import OptionError
from avatar.evaluate.lip_sync import (
    FaceTrack,
    blinks_per_minute,
    correlation,
    head_spread_deg,
    jitter,
    lag_correlation,
    score_lip_sync,
    silent_frames,
    sound_envelope,
)
from avatar.types import Waveform

FPS = 25.0


def _smooth_noise(length: int, seed: int) -> np.ndarray:
    return np.convolve(np.random.default_rng(seed).normal(size=length + 8), np.ones(5) / 5, mode="valid")[:length]


def _faces(openings: np.ndarray, yaw_deg: float = 0.0, scale_px: float = 20.0) -> np.ndarray:
    """Landmarks whose inner lips stand apart by `openings` (parts of the outer-eye distance), turned by `yaw_deg`."""
    neutral = face_mesh.canonical_vertices().astype(np.float64)
    yaw = math.radians(yaw_deg)
    turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    faces = np.repeat(neutral[None], len(openings), axis=0)
    for face, opening in zip(faces, openings, strict=True):
        gap = opening * face_mesh.outer_eye_distance(neutral)
        for up, low in face_mesh.INNER_LIP_PAIRS:
            middle = (neutral[up, 1] + neutral[low, 1]) / 2
            face[up, 1], face[low, 1] = middle + gap / 2, middle - gap / 2
    return (face_mesh.to_picture_axes(faces @ turn.T * scale_px) + [300, 300, 0]).astype(np.float32)


@pytest.mark.parametrize("yaw_deg", [0.0, 25.0])
@pytest.mark.parametrize("scale_px", [5.0, 40.0])
def test_opening_is_the_gap_whatever_the_heads_turn_and_size(yaw_deg: float, scale_px: float) -> None:
    openings = np.array([0.0, 0.1, 0.25])
    track = FaceTrack.from_landmarks(_faces(openings, yaw_deg, scale_px), np.ones(3, bool), FPS)
    np.testing.assert_allclose(track.opening, openings, atol=2e-4)
    np.testing.assert_allclose(track.head_deg[:, 0], yaw_deg, atol=0.05)


def test_frames_without_a_face_are_nan_and_left_out() -> None:
    found = np.array([True, False, True])
    track = FaceTrack.from_landmarks(_faces(np.array([0.1, 0.2, 0.3])), found, FPS)
    assert np.isnan(track.opening[1])
    assert np.isfinite(track.opening[[0, 2]]).all()
    signal = np.array([1.0, np.nan, 3.0, 4.0, 7.0])
    assert correlation(signal, np.array([2.0, 100.0, 6.0, 8.0, 14.0])) == pytest.approx(1.0)


def test_correlation_is_one_minus_one_and_undefined() -> None:
    a = _smooth_noise(100, 0)
    assert correlation(a, 3 * a + 2) == pytest.approx(1.0)
    assert correlation(a, -a) == pytest.approx(-1.0)
    assert math.isnan(correlation(a, np.ones(100)))


@pytest.mark.parametrize("lag", [-3, -1, 0, 2, 3])
def test_the_lag_is_found_and_positive_means_late(lag: int) -> None:
    source = _smooth_noise(220, 1)
    truth = source[10:210]
    late_by_lag = source[10 - lag : 210 - lag]
    result = lag_correlation(late_by_lag, truth)
    assert result.lag_frames == lag
    assert result.best == pytest.approx(1.0)
    assert result.at_zero == pytest.approx(1.0) if lag == 0 else result.at_zero < result.best


def test_a_lag_beyond_the_allowed_is_not_found() -> None:
    source = _smooth_noise(220, 2)
    assert lag_correlation(source[2:202], source[10:210]).best < 0.9


def test_envelope_of_a_tone_is_its_rms_and_the_band_keeps_or_drops_it() -> None:
    rate = 16_000
    time_s = np.arange(rate) / rate
    speech = Waveform((0.5 * np.sin(2 * np.pi * 500 * time_s)).astype(np.float32), rate)
    np.testing.assert_allclose(sound_envelope(speech, 25, FPS), 0.5 / math.sqrt(2), atol=1e-3)
    np.testing.assert_allclose(sound_envelope(speech, 25, FPS, (300, 1000)), 0.5 / math.sqrt(2), atol=1e-3)
    np.testing.assert_allclose(sound_envelope(speech, 25, FPS, (1500, 3000)), 0.0, atol=1e-3)


def test_envelope_is_zero_beyond_the_end_of_the_sound() -> None:
    envelope = sound_envelope(Waveform(np.ones(16_000, np.float32)), 50, FPS)
    np.testing.assert_allclose(envelope[:25], 1.0)
    assert not envelope[25:].any()


def test_a_pause_is_silent_but_not_its_edges() -> None:
    envelope = np.concatenate([np.full(40, 0.2), np.full(20, 1e-4), np.full(40, 0.2)])
    silent = silent_frames(envelope)
    assert np.flatnonzero(silent).tolist() == list(range(43, 57))


def test_steady_motion_has_no_jitter_and_alternation_has_four_times_its_amplitude() -> None:
    assert jitter(np.linspace(0, 1, 50)) == pytest.approx(0.0, abs=1e-12)
    assert jitter(0.01 * (-1.0) ** np.arange(50)) == pytest.approx(0.04)


def test_blinks_are_counted_once_each() -> None:
    eyes = np.full(250, 0.3)
    for start in (50, 120, 200):
        eyes[start : start + 5] = [0.2, 0.1, 0.03, 0.1, 0.2]
    assert blinks_per_minute(eyes, FPS) == pytest.approx(3 * 6)
    assert blinks_per_minute(np.full(250, 0.3), FPS) == 0


def test_head_spread_adds_the_variances() -> None:
    angles = np.array([[3.0, 4.0, 0.0], [-3.0, -4.0, 0.0]])
    assert head_spread_deg(angles) == pytest.approx(5.0)


def test_a_video_equal_to_the_truth_scores_perfectly() -> None:
    opening = 0.1 + 0.02 * _smooth_noise(100, 3)
    track = FaceTrack.from_landmarks(_faces(opening), np.ones(100, bool), FPS)
    speech = Waveform((np.random.default_rng(0).normal(size=64_000) * 0.1).astype(np.float32))
    score = score_lip_sync(track, track, speech)
    assert score.opening.at_zero == pytest.approx(1.0)
    assert score.range_ratio == pytest.approx(1.0)
    assert score.jitter == score.truth_jitter
    assert abs(score.sound_rms.at_zero) < 0.5
    assert score.num_frames == 100


def test_tracks_of_different_rates_are_refused() -> None:
    at_25 = FaceTrack.from_landmarks(_faces(np.zeros(5)), np.ones(5, bool), 25.0)
    at_30 = FaceTrack.from_landmarks(_faces(np.zeros(5)), np.ones(5, bool), 30.0)
    with pytest.raises(OptionError, match="25.0 and 30.0"):
        score_lip_sync(at_25, at_30, Waveform(np.zeros(16_000, np.float32)))
