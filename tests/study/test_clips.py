"""What would tell systems apart is refused by name; noise has exactly the length that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.errors import OptionError
from avatar.media import VideoInfo, write_video
from avatar.study.clips import Source, _message, common_target, find_source, padded_size, write_clip
from avatar.study.spec import MediaSpec
from avatar.types import Waveform


def source(system: str, width: int = 512, height: int = 512, duration_s: float = 4.0) -> Source:
    info = VideoInfo(width, height, 25.0, duration_s, None, has_audio=True)
    return Source(system, "anna", Path(f"{system}.mp4"), info, Path("anna.wav"))


def test_sizes_that_are_near_become_one() -> None:
    target = common_target([source("a", 640, 480), source("b", 512, 384, 4.08)], MediaSpec(size_px=320))
    assert (target.width_px, target.height_px, target.num_frames) == (320, 240, 100)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (source("b", duration_s=4.2), "differ in length: 4.20 s from b, 4.00 s from a"),
        (source("b", 512, 480), "differ in shape: 512x480 px from b, 512x512 px from a; crop them alike"),
        (
            source("b", 256, 256),
            r"differ in size: 512x512 px from a, 256x256 px from b; .* raise media.max_scale \(1.5\)",
        ),
    ],
)
def test_tell_tale_differences_are_refused_by_name(other: Source, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        common_target([source("a"), other], MediaSpec())


def test_a_larger_scale_may_be_allowed() -> None:
    assert common_target([source("a"), source("b", 256, 256)], MediaSpec(max_scale=2)).width_px == 512


def test_noise_is_as_long_as_asked_and_needs_no_escaping() -> None:
    noise = np.random.default_rng(0)
    for num_bytes in [*range(40, 1200), 65_536, 100_001]:
        message = _message(num_bytes, noise)
        assert len(message) == num_bytes
        assert int.from_bytes(message[:4], "big") == num_bytes - 4
        assert b"\0\0" not in message[4:]
        at = 5
        while at < num_bytes - 1:  # type, length in steps of 255, content; then the stop bit
            assert message[at] == 5
            at, length = at + 1, 0
            while message[at] == 255:
                at, length = at + 1, length + 255
            at += 1 + length + message[at]
        assert at == num_bytes - 1 and message[at] == 0x80


def test_files_get_room_for_the_largest() -> None:
    assert padded_size(1) == padded_size(65_535) == 65_536 and padded_size(65_536) == 131_072


def test_a_clip_without_sound_and_silence_are_refused(tmp_path: Path) -> None:
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    write_video(tmp_path / "mute.mp4", iter([frames]), fps=25, speech=None)
    with pytest.raises(OptionError, match="of system a has no sound; give item x a speech file"):
        find_source("a", "x", tmp_path / "mute.mp4", None, "speech")
    silence = Waveform(np.zeros(12_800, np.float32))
    write_video(tmp_path / "silent.mp4", iter([frames]), fps=25, speech=silence)
    silent = find_source("a", "x", tmp_path / "silent.mp4", None, "own")
    media = MediaSpec(size_px=64)
    with pytest.raises(OptionError, match="is silent or shorter than 0.4 s"):
        write_clip(silent, common_target([silent], media), media, tmp_path / "out.mp4")
