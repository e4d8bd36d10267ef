"""Every kind of file is either described or named as unreadable; none is changed (study, F.6)."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avatar.data.curation.probe import ProbeWork, is_uneven, probe
from avatar.errors import MediaError
from avatar.media import write_video
from avatar.types import Waveform

FRAMES = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3)).astype(np.uint8)
TONE = Waveform((0.2 * np.sin(np.arange(19200) / 9)).astype(np.float32))


def encode(path: Path, times: list[int], rate: int = 25, rotation: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv444p"  # odd sizes
        if rotation:
            stream.set_display_rotation(rotation)
        for at, image in zip(times, FRAMES, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[: size[0], : size[1]]), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_plain_video_is_described(tmp_path: Path) -> None:
    found = probe(write_video(tmp_path / "a.mp4", iter([FRAMES]), fps=25, speech=TONE))
    assert (found["width_px"], found["height_px"], found["rotation_deg"]) == (64, 48, 0)
    assert (found["source_fps"], found["is_vfr"], found["n_channels"], found["sample_rate_hz"]) == (25, False, 1, 16000)
    assert found["source_duration_s"] == pytest.approx(1.2)


def test_a_video_without_sound_has_no_channels(tmp_path: Path) -> None:
    found = probe(write_video(tmp_path / "a.mp4", iter([FRAMES]), fps=25, speech=None))
    assert found["n_channels"] == 0 and found["sample_rate_hz"] is None


def test_a_varying_rate_is_flagged(tmp_path: Path) -> None:
    uneven = np.cumsum([1, 1, 3, 1, 4, 1, 1, 2] * 3).tolist()
    assert probe(encode(tmp_path / "v.mp4", uneven))["is_vfr"]
    assert not probe(encode(tmp_path / "c.mp4", list(range(24))))["is_vfr"]


def test_milliseconds_of_matroska_are_no_varying_rate() -> None:
    assert not is_uneven(np.array([0.033, 0.034, 0.033, 0.033, 0.034]))


def test_a_rotated_video_has_the_size_as_shown(tmp_path: Path) -> None:
    found = probe(encode(tmp_path / "r.mp4", list(range(20)), rotation=90))
    assert found["rotation_deg"] in (90, 270)
    assert (found["width_px"], found["height_px"]) == (48, 64)


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    found = probe(encode(tmp_path / "o.mp4", list(range(20)), size=(47, 63)))
    assert (found["width_px"], found["height_px"]) == (63, 47)


@pytest.mark.parametrize("name", ["ünï côdé.mp4", "spaces and 'quotes\".mp4", "中文: part 1.mp4", "-leading.mp4"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / "plain.mp4", list(range(20))).rename(tmp_path / name)
    assert probe(path)["width_px"] == 64


def test_a_truncated_file_is_an_error_of_its_row_and_no_crash(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", iter([FRAMES]), fps=25, speech=TONE).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    (piece,) = [p for p in ProbeWork().run({"source_uri": str(path)}) if not isinstance(p, str)]
    assert piece.values == {} and piece.error is not None and "truncated" in piece.error


def test_what_is_no_video_is_an_error_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(MediaError):
        probe(path)


def test_the_source_is_not_touched(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", iter([FRAMES]), fps=25, speech=TONE)
    before = path.read_bytes(), path.stat().st_mtime_ns
    found = probe(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert found["source_sha256"] == hashlib.sha256(before[0]).hexdigest()
