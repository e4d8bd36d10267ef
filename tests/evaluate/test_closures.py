"""Closures of mouths whose closures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avatar.evaluate.closures import closed_or_dipping, closures, closures_hit, closures_hit_by_chance

OPEN, SHUT = 0.15, 0.005


def _mouth(length: int, *shut: tuple[int, int], low: float = SHUT) -> np.ndarray:
    opening = np.full(length, OPEN)
    for start, stop in shut:
        opening[start:stop] = low
    return opening


def test_closures_are_stretches_of_two_frames_after_the_mouth_was_open() -> None:
    assert closures(_mouth(60, (10, 14), (30, 31), (40, 42))) == [(10, 14), (40, 42)]


def test_a_mouth_that_starts_closed_has_not_closed() -> None:
    assert closures(_mouth(40, (0, 10), (20, 24))) == [(20, 24)]


def test_a_gap_that_hovers_at_the_threshold_closes_once() -> None:
    opening = _mouth(40, (10, 20))
    opening[14:16] = 0.03  # neither closed nor open
    assert closures(opening) == [(10, 14)]


def test_unknown_frames_are_not_closed() -> None:
    opening = _mouth(40, (10, 14))
    opening[10:13] = np.nan
    assert closures(opening) == []


def test_a_dip_counts_only_below_the_median_and_deep_enough_on_both_sides() -> None:
    opening = OPEN + 0.05 * np.sin(np.arange(100) * 2 * np.pi / 10)
    opening[52] = 0.12  # a shoulder on the way down, no minimum of its own worth seeing
    bottoms = np.flatnonzero(closed_or_dipping(opening))
    assert 50 not in bottoms
    assert set(range(8, 90, 10)) - {48, 58} <= set(bottoms.tolist())
    ripple = OPEN + 0.05 * np.sin(np.arange(100) * 2 * np.pi / 50) + 0.004 * (-1.0) ** np.arange(100)
    assert closed_or_dipping(ripple).sum() <= 2


@pytest.mark.parametrize(("late", "share"), [(0, 1.0), (4, 1.0), (8, 0.0), (-4, 1.0), (-8, 0.0)])
def test_a_closure_is_hit_within_three_frames(late: int, share: float) -> None:
    truth = _mouth(120, (30, 33), (80, 83))
    generated = _mouth(120, (30 + late, 33 + late), (80 + late, 83 + late))
    assert closures_hit(generated, truth) == share


def test_a_dip_that_does_not_close_hits_too_and_an_open_mouth_does_not() -> None:
    truth = _mouth(120, (30, 33), (80, 83))
    assert closures_hit(_mouth(120, (31, 32), (80, 83), low=0.08), truth) == 1.0
    assert closures_hit(_mouth(120, (31, 32)), truth) == 0.5
    assert closures_hit(np.full(120, OPEN), truth) == 0.0


def test_a_mouth_that_never_opens_hits_all_and_so_does_chance() -> None:
    truth = _mouth(120, (30, 33), (80, 83))
    assert closures_hit(np.zeros(120), truth) == 1.0
    assert closures_hit_by_chance(np.zeros(120), truth, 25) == 1.0


def test_chance_is_low_where_closures_are_rare() -> None:
    truth = _mouth(200, (30, 33), (100, 103))
    assert closures_hit_by_chance(truth, truth, 25) < 0.2


def test_without_closures_there_is_no_share() -> None:
    assert math.isnan(closures_hit(np.zeros(50), np.full(50, OPEN)))
    assert math.isnan(closures_hit_by_chance(np.zeros(80), np.full(80, OPEN), 25))
