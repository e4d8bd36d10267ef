"""Clips cover a shot without overlap, none is too long, and cuts go where nobody speaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from avatar.data.curation.segments import cut_points, segment


def test_clips_cover_the_shot_and_none_is_too_long() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        start = rng.integers(0, 500) / 25
        end = start + rng.integers(1, 2000) / 25
        pauses = sorted(rng.uniform(start, end, rng.integers(0, 40)).tolist())
        edges = [start, *cut_points(start, end, pauses, 10.0), end]
        lengths = np.diff(edges)
        assert (lengths > 0).all() and lengths.max() <= 10 + 1e-6
        assert len(lengths) == max(1, int(np.ceil((end - start) / 10 - 1e-9)))
        if end - start > 10:
            assert lengths.min() >= 3  # long enough to be of use
        assert np.allclose(np.array(edges) * 25, np.round(np.array(edges) * 25))


def test_a_cut_goes_to_the_nearest_pause() -> None:
    assert cut_points(0, 16, [1.0, 7.2, 8.6, 15.0], 10.0) == [8.6]


def test_without_a_pause_near_the_shot_is_cut_evenly() -> None:
    assert cut_points(0, 16, [1.0, 15.0], 10.0) == [8.0]


def sources(**changes: Any) -> pa.Table:
    row = {
        "source_key": "k", "source_id": "a.mp4", "source_uri": "/v/a.mp4", "source_sha256": "0" * 64,
        "width_px": 640, "height_px": 360, "n_channels": 1, "shot_first_frames": [0, 110], "shot_last_frames": [100, 510],
        "pauses_s": [], "source_error": None, "identity": "ann",
    }  # fmt: skip
    return pa.Table.from_pylist([{**row, **changes}])


def test_every_shot_becomes_clips_with_what_is_known_of_the_source() -> None:
    rows = segment(sources(), 10.0).to_pylist()
    assert [(row["start_s"], row["end_s"]) for row in rows] == [(0.0, 4.0), (4.4, 12.4), (12.4, 20.4)]
    assert {row["identity"] for row in rows} == {"ann"}
    assert len({row["clip_id"] for row in rows}) == 3
    assert rows[0]["n_frames"] == 100 and rows[0]["fps"] == 25


def test_the_same_content_twice_gives_two_clips_and_the_same_ids_each_time() -> None:
    both = pa.concat_tables([sources(), sources(source_key="l", source_id="b.mp4")])
    ids = segment(both, 10.0).column("clip_id").to_pylist()
    assert len(set(ids)) == 6
    assert ids[:3] == segment(sources(), 10.0).column("clip_id").to_pylist()


def test_an_unreadable_source_is_one_row() -> None:
    (row,) = segment(sources(source_error="probe: cut short"), 10.0).to_pylist()
    assert row["clip_id"] == "k" and row["start_s"] is None and row["source_error"] == "probe: cut short"


def test_a_source_without_a_shot_is_one_row_too() -> None:
    (row,) = segment(sources(shot_first_frames=[], shot_last_frames=[]), 10.0).to_pylist()
    assert row["clip_id"] == "k" and "nothing but transitions" in row["source_error"]


def test_a_crop_is_brought_inside_the_picture() -> None:
    crop = dict(crop_left_px=-5, crop_top_px=10, crop_right_px=300, crop_bottom_px=999)
    row = segment(sources(**crop), 10.0).to_pylist()[0]
    assert [row[f"crop_{side}_px"] for side in ("left", "top", "right", "bottom")] == [0, 10, 300, 360]
    assert (row["width_px"], row["height_px"]) == (300, 350)


@pytest.mark.parametrize("seconds", [0.4, 2.0])
def test_a_short_shot_stays_a_clip_for_a_limit_to_reject(seconds: float) -> None:
    table = sources(shot_first_frames=[0], shot_last_frames=[round(seconds * 25)])
    assert segment(table, 10.0).column("duration_s").to_pylist() == [pytest.approx(seconds)]
