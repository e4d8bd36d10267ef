"""Cuts to the frame, dissolves by the second check; flashes and pans are left whole (study, F.6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.data.curation.dissolves import find_dissolves, thumbnail
from avatar.data.curation.shots import ShotSettings, ShotsWork, find_pauses, find_shots
from avatar.media import read_video, write_video
from avatar.types import Waveform
from tests.data.curation.conftest import texture

RED, GREEN, BLUE, GREY = (200, 80, 40), (40, 160, 80), (60, 60, 200), (120, 110, 90)


def dissolve(first: list[np.ndarray], second: list[np.ndarray]) -> list[np.ndarray]:
    weights = np.linspace(0, 1, len(first) + 2)[1:-1]
    return [
        ((1 - w) * a.astype(float) + w * b).astype(np.uint8) for w, a, b in zip(weights, first, second, strict=True)
    ]


@pytest.mark.parametrize("speed", [0.0, 0.3, 1.0, 2.0])
def test_cuts_are_found_to_the_frame_and_the_dissolve_by_the_second_check(speed: float) -> None:
    one, two, three = (texture(seed, tint, 90, speed) for seed, tint in ((1, RED), (2, GREEN), (3, BLUE)))
    clip = one[:60] + two[:50] + dissolve(two[50:70], three[:20]) + three[20:80]
    shots = find_shots(iter(clip))
    assert shots.cuts == [60]
    ((first, last),) = shots.dissolves
    assert 104 <= first <= 114 and 125 <= last <= 137
    assert [a for a, _ in shots.spans][0] == 0 and shots.spans[-1][1] == len(clip)
    assert all(b <= 112 or a >= 128 for a, b in shots.spans)  # no mixture is in a shot


def test_the_dissolve_survives_h264(tmp_path: Path) -> None:
    two, three = texture(2, GREEN, 90), texture(3, BLUE, 90)
    clip = two[:50] + dissolve(two[50:70], three[:20]) + three[20:80]
    path = write_video(tmp_path / "d.mp4", iter([np.stack(clip)]), fps=25, speech=None, crf=28)
    shots = find_shots(read_video(path))
    assert shots.cuts == [] and len(shots.dissolves) == 1


def test_a_fade_through_black_is_one_transition() -> None:
    one, two = texture(1, RED, 50, 0.3), texture(2, GREEN, 50, 0.3)
    black = np.zeros_like(one[0])
    clip = one[:40] + dissolve(one[40:50], [black] * 10) + [black] * 4 + dissolve([black] * 10, two[:10]) + two[10:]
    shots = find_shots(iter(clip))
    assert len(shots.spans) == 2
    assert shots.spans[0][1] <= 40 + 1 and shots.spans[1][0] >= 62


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_not_cut(length: int) -> None:
    clip = texture(4, GREY, 80)
    for k in range(length):
        clip[40 + k] = np.full_like(clip[0], 250)
    shots = find_shots(iter(clip))
    assert shots.spans == [(0, 80)]


@pytest.mark.parametrize("speed", [4.0, 12.0, 24.0])
def test_a_pan_is_not_cut(speed: float) -> None:
    assert find_shots(iter(texture(5, GREY, 100, speed))).spans == [(0, 100)]


def test_a_change_of_light_is_not_a_dissolve() -> None:
    clip = texture(6, GREY, 100, 0.05)
    lit = [(frame * np.clip(0.5 + (k - 40) / 40, 0.5, 1.0)).astype(np.uint8) for k, frame in enumerate(clip)]
    assert find_shots(iter(lit)).spans == [(0, 100)]


def test_repeated_frames_of_a_slow_source_are_no_cuts() -> None:
    slow = texture(7, GREY, 30, 9.0)
    assert find_shots(frame for frame in slow for _ in range(3)).spans == [(0, 90)]


def test_the_second_check_can_be_left_out() -> None:
    two, three = texture(2, GREEN, 90), texture(3, BLUE, 90)
    clip = two[:50] + dissolve(two[50:70], three[:20]) + three[20:80]
    assert find_shots(iter(clip), ShotSettings(dissolves=False)).dissolves == []


def test_a_short_shot_has_no_dissolve() -> None:
    assert find_dissolves(np.stack([thumbnail(frame) for frame in texture(1, RED, 7)])) == []


def test_pauses_are_where_nobody_speaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    at = np.arange(6 * 16000) / 16000
    voice = np.sin(2 * np.pi * 140 * at) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * at)) + 0.3 * np.sin(2 * np.pi * 700 * at)
    voice = 0.3 * voice * ~((at > 2.0) & (at < 3.0)) + 1e-4 * rng.standard_normal(len(at))
    frames = np.zeros((150, 32, 32, 3), np.uint8)
    path = write_video(tmp_path / "p.mp4", iter([frames]), fps=25, speech=Waveform(voice.astype(np.float32)))
    (pause,) = [p for p in find_pauses(path) if 1 < p < 5]
    assert pause == pytest.approx(2.5, abs=0.15)


def test_frames_are_counted_from_the_source_s_start_where_a_window_is_meant(tmp_path: Path) -> None:
    clip = texture(1, RED, 60) + texture(2, GREEN, 60)
    path = write_video(tmp_path / "w.mp4", iter([np.stack(clip)]), fps=25, speech=None)
    row = {"source_uri": str(path), "window_start_s": 1.0, "window_end_s": 4.0, "n_channels": 0}
    (piece,) = [p for p in ShotsWork(ShotSettings()).run(row) if not isinstance(p, str)]
    assert piece.values["cut_frames"] == [60]
    assert piece.values["shot_first_frames"] == [25, 64] and piece.values["shot_last_frames"] == [56, 100]
