"""Reading video: upright frames at a constant rate by their timestamps."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatar.errors import MediaError, OptionError
from avatar.media import VideoInfo, probe_video, read_video


def _numbers(path: Path, fps: float = 25.0) -> list[int]:
    """Which stored frame each output frame is, by its grey level."""
    return [round((float(frame.mean()) - 20) / 3) for frame in read_video(path, fps)]


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("mkv", "libx264"),
        ("mpg", "mpeg1video"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
    ],
)
def test_every_format_gives_every_frame_once(ending: str, codec: str, kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_clip(tmp_path / f"clip.{ending}", kit.numbered_frames(40), codec=codec)
    assert np.abs(np.subtract(_numbers(path), range(40))).max() <= (0 if codec == "libx264" else 1)
    info = probe_video(path)
    assert (info.width, info.height, info.fps, info.has_audio) == (96, 64, 25.0, False)
    assert info.num_frames in (40, None)
    assert info.duration_s == pytest.approx(
        1.6, abs=0.5 if ending == "mpg" else 0.041
    )  # MPEG does not say; FFmpeg guesses


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30), Fraction(50), Fraction(30_000, 1001), Fraction(10)])
def test_other_rates_give_the_nearest_frame(fps: Fraction, kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_clip(tmp_path / "clip.mp4", kit.numbered_frames(60), fps)
    numbers = _numbers(path)
    assert len(numbers) == round(60 / fps * 25)
    assert all(abs(number / fps - index / 25) <= Fraction(501, 1000) / fps for index, number in enumerate(numbers[:-1]))


def test_the_rate_asked_for_is_given(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_clip(tmp_path / "clip.mp4", kit.numbered_frames(50))
    assert _numbers(path, 50.0)[:6] == [0, 0, 1, 1, 2, 2]
    assert _numbers(path, 12.5) == list(range(0, 50, 2))
    assert _numbers(path, 5.0) == list(range(0, 50, 5))


def test_variable_rates_follow_the_timestamps(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_clip(tmp_path / "phone.mp4", kit.numbered_frames(5), 25, times=[0, 2, 3, 7, 8])
    assert _numbers(path) == [0, 0, 1, 2, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270, -90])
def test_rotation_metadata_is_applied(turn_deg: int, kit: SimpleNamespace, tmp_path: Path) -> None:
    upright = np.full((64, 96, 3), 30, np.uint8)
    upright[:16, :24] = 220  # top left
    stored = np.rot90(upright, -(turn_deg // 90))  # shown again by turning counter-clockwise
    path = kit.write_clip(tmp_path / "phone.mp4", [stored] * 5, rotation=turn_deg)
    frame = next(read_video(path))
    info = probe_video(path)
    assert frame.shape == (64, 96, 3) and (info.height, info.width) == (64, 96) and frame.flags.c_contiguous
    assert np.abs(frame.astype(int) - upright).mean() < 3


def test_pixels_are_made_square(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_clip(tmp_path / "dvd.mp4", kit.numbered_frames(3), aspect=Fraction(16, 15))
    assert next(read_video(path)).shape == (64, 102, 3) and probe_video(path).width == 102


def test_the_probe_knows_of_sound(kit: SimpleNamespace, tmp_path: Path) -> None:
    sound = kit.speechlike(2.0, 48_000), 48_000, "aac"
    path = kit.write_clip(tmp_path / "clip.mp4", kit.numbered_frames(50), sound=sound)
    assert probe_video(path) == VideoInfo(96, 64, 25.0, 2.0, 50, True)


def test_untagged_colours_follow_the_convention(kit: SimpleNamespace, tmp_path: Path) -> None:
    """Small pictures are BT.601 where nothing is said, which is what the writer of these clips assumes too."""
    green = np.zeros((64, 96, 3), np.uint8)
    green[:] = (30, 200, 60)
    frame = next(read_video(kit.write_clip(tmp_path / "clip.mp4", [green] * 3)))
    assert np.abs(frame.astype(int) - green).mean() < 3


def _refuses(path: Path, words: str) -> None:
    for read in (lambda: probe_video(path), lambda: list(read_video(path))):
        with pytest.raises(MediaError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_bad_files_are_told_apart(wav: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "note.mp4").write_text("no video at all\n" * 50)
    _refuses(tmp_path / "none.mp4", "there is no file .*; give the path of a video file")
    _refuses(tmp_path, "is a folder; give one video file")
    _refuses(tmp_path / "empty.mp4", r"is empty \(0 bytes\)")
    _refuses(tmp_path / "note.mp4", "looks like text")
    _refuses(wav, "holds no moving picture .*looks like a WAV sound")


def test_bad_files_are_refused_before_the_first_frame_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="there is no file"):
        read_video(tmp_path / "none.mp4")


def test_permission_is_named(kit: SimpleNamespace, tmp_path: Path, hide_from_reader: Callable[[Path], None]) -> None:
    path = kit.write_clip(tmp_path / "clip.mp4", kit.numbered_frames(3))
    hide_from_reader(path)
    _refuses(path, "may not be read: Permission denied")


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mpg", "mpeg1video")])
def test_a_truncated_video_is_refused(ending: str, codec: str, kit: SimpleNamespace, tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), np.uint8))
    path = kit.write_clip(tmp_path / f"clip.{ending}", noise, codec=codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with pytest.raises(MediaError, match="truncated|not a video file that can be read"):
        list(read_video(path))


def test_rates_that_make_no_sense_are_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="fps must be positive, not 0"):
        read_video(kit.write_clip(tmp_path / "clip.mp4", kit.numbered_frames(3)), 0)
