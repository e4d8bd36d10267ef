"""Jitter, blinks and spreads of movements that are known."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.evaluate.movement import blinks_per_minute, gaze_spread, head_spread_deg, jitter

FPS = 25.0


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


def test_gaze_spread_adds_the_variances_and_leaves_out_unknown_frames() -> None:
    assert gaze_spread(np.array([[0.3, 0.4], [np.nan, 1.0], [-0.3, -0.4]])) == pytest.approx(0.5)
