"""Likeness of curves whose likeness is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from avatar.evaluate.correlation import correlation, delayed, lag_correlation, shift_rank

Curves = Callable[[int, int], np.ndarray]


def test_correlation_is_one_minus_one_and_undefined(smooth_noise: Curves) -> None:
    a = smooth_noise(100, 0)
    assert correlation(a, 3 * a + 2) == pytest.approx(1.0)
    assert correlation(a, -a) == pytest.approx(-1.0)
    assert math.isnan(correlation(a, np.ones(100)))


def test_unknown_frames_are_left_out() -> None:
    signal = np.array([1.0, np.nan, 3.0, 4.0, 7.0])
    assert correlation(signal, np.array([2.0, 100.0, 6.0, 8.0, 14.0])) == pytest.approx(1.0)


@pytest.mark.parametrize("lag", [-3, -1, 0, 2, 3])
def test_the_lag_is_found_and_positive_means_late(smooth_noise: Curves, lag: int) -> None:
    source = smooth_noise(220, 1)
    truth = source[10:210]
    late_by_lag = source[10 - lag : 210 - lag]
    result = lag_correlation(late_by_lag, truth)
    assert result.lag_frames == lag
    assert result.best == pytest.approx(1.0)
    assert result.at_zero == pytest.approx(1.0) if lag == 0 else result.at_zero < result.best


def test_a_lag_beyond_the_allowed_is_not_found(smooth_noise: Curves) -> None:
    source = smooth_noise(220, 2)
    assert lag_correlation(source[2:202], source[10:210]).best < 0.9


def test_the_right_place_outranks_every_shift(smooth_noise: Curves) -> None:
    truth = smooth_noise(200, 4)
    assert shift_rank(truth + 0.3 * smooth_noise(200, 5), truth, 25) == 1.0


def test_a_signal_that_is_shifted_ranks_below_its_right_place(smooth_noise: Curves) -> None:
    truth = smooth_noise(200, 4)
    assert shift_rank(np.roll(truth, 60), truth, 25) < 1.0


def test_an_unrelated_signal_ranks_in_the_middle_on_average(smooth_noise: Curves) -> None:
    ranks = [shift_rank(smooth_noise(150, 10 + k), smooth_noise(150, 50 + k), 25) for k in range(12)]
    assert 0.3 < np.mean(ranks) < 0.7


def test_no_rank_without_room_to_shift_or_without_movement(smooth_noise: Curves) -> None:
    assert math.isnan(shift_rank(smooth_noise(49, 0), smooth_noise(49, 0), 25))
    assert math.isnan(shift_rank(np.zeros(100), smooth_noise(100, 0), 25))


def test_a_delayed_signal_is_unknown_where_it_has_not_begun() -> None:
    signal = np.arange(5.0)
    np.testing.assert_array_equal(delayed(signal, 2), [np.nan, np.nan, 0, 1, 2])
    np.testing.assert_array_equal(delayed(signal, -2), [2, 3, 4, np.nan, np.nan])
    np.testing.assert_array_equal(delayed(signal, 0), signal)
    assert np.isnan(delayed(signal, 9)).all()
