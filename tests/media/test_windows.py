"""A window of a file is that part of the whole file, however it is sought in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.errors import OptionError
from avatar.media import read_video, read_waveform, write_video
from avatar.media.video import read_video_frames
from avatar.types import Waveform


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s at 30 fps of numbers that can be told apart, with a chirp; keyframes 8 s apart."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    frames = np.stack([np.roll(base, 3 * k, axis=1) for k in range(360)])
    at = np.arange(12 * 16000) / 16000
    sound = Waveform((0.5 * np.sin(2 * np.pi * (200 + 50 * at) * at)).astype(np.float32))
    return write_video(path, iter([frames]), fps=30, speech=sound)


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.0), (3.0, 5.0), (9.04, 10.2), (11.0, 20.0)])
def test_a_window_of_pictures_is_that_part_of_all_pictures(long_video: Path, start_s: float, end_s: float) -> None:
    whole = np.stack(list(read_video(long_video)))
    window = np.stack(list(read_video(long_video, start_s=start_s, end_s=end_s)))
    np.testing.assert_array_equal(window, whole[round(start_s * 25) : round(end_s * 25)])


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.0), (3.0, 5.0), (9.04, 10.2), (11.0, 20.0)])
def test_a_window_of_sound_is_that_part_of_all_sound(long_video: Path, start_s: float, end_s: float) -> None:
    whole = read_waveform(long_video).samples
    window = read_waveform(long_video, start_s=start_s, end_s=end_s).samples
    np.testing.assert_allclose(window, whole[round(start_s * 16000) : round(end_s * 16000)], atol=2e-3)


def test_single_frames_are_those_of_the_whole(long_video: Path) -> None:
    whole = list(read_video(long_video))
    found = read_video_frames(long_video, [250, 3, 9999])
    assert sorted(found) == [3, 250]
    np.testing.assert_array_equal(found[250], whole[250])


def test_a_window_behind_the_end_is_empty(long_video: Path) -> None:
    assert list(read_video(long_video, start_s=60)) == []
    assert len(read_waveform(long_video, start_s=60).samples) == 0


def test_frames_are_scaled_down_and_never_up(long_video: Path) -> None:
    assert next(read_video(long_video, max_side_px=64)).shape == (48, 64, 3)
    assert next(read_video(long_video, max_side_px=640)).shape == (96, 128, 3)


def test_an_empty_window_is_refused(long_video: Path) -> None:
    with pytest.raises(OptionError, match="holds no frame"):
        read_video(long_video, start_s=2, end_s=2)
    with pytest.raises(OptionError, match="is empty"):
        read_waveform(long_video, start_s=2, end_s=1)
