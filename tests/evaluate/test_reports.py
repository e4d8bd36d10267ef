"""Tables and pictures of scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.figures import Figure, figures_table
from avatar.evaluate.plots import plot_scores
from avatar.evaluate.tables import markdown_table, mean_of, number


def test_a_table_has_a_rule_below_its_heads() -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_means_leave_out_what_is_unknown() -> None:
    assert mean_of([{"x": 1.0}, {"x": math.nan}, {"x": 3.0}], "x") == 2.0
    assert math.isnan(mean_of([{"x": math.nan}], "x"))


def test_numbers_keep_the_digits_worth_reading() -> None:
    assert [number(value) for value in (math.nan, 3, 0.0, 0.01234, 0.567, 12.345)] == [
        "–",
        "3",
        "0",
        "0.0123",
        "0.57",
        "12.35",
    ]


def test_a_picture_is_drawn_even_of_few_clips(
    tmp_path: Path, smooth_noise: Callable[[int, int], np.ndarray], faces: Callable[..., np.ndarray]
) -> None:
    track = FaceTrack.from_landmarks(faces(0.1 + 0.02 * smooth_noise(30, 3)), np.ones(30, bool), 25.0)
    row = {"clip": "a", "language": "en", "opening.best": 0.5, "sound_rms.best": 0.2, "sound_band.best": 0.1,
           "closures_hit": math.nan, "num_closures": 0}  # fmt: skip
    plot_scores(
        [row, {**row, "clip": "b", "opening.best": math.nan}],
        {"a": (track, track), "b": (track, track)},
        tmp_path / "x.png",
    )
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_a_law_is_written_out_and_judged() -> None:
    figures = [Figure("a", 0.96, at_least=0.95), Figure("b", 0.5, at_most=0.25), Figure("c", 12, 8, 30), Figure("d", 7)]
    assert [figure.law for figure in figures] == ["≥ 0.95", "≤ 0.25", "8 to 30", ""]
    assert [figure.verdict for figure in figures] == ["pass", "fail", "pass", ""]
    assert figures_table(figures[:1]).splitlines()[-1] == "| a | 0.96 | ≥ 0.95 | pass |"


def test_a_figure_that_could_not_be_measured_fails() -> None:
    assert Figure("a", math.nan, at_least=0).verdict == "fail"
