"""Writing video: frame-exact, the sound as it was, the colours as they were, and a file that is whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from avatar.errors import MediaError, OptionError, OutputError
from avatar.media import check_output, probe_video, read_picture, read_video, read_waveform, write_video
from avatar.types import Waveform

PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "astronaut.png"


def _stream_lengths(path: Path) -> tuple[float, float]:
    """(picture, sound) in seconds, as the file declares them."""
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        return float(picture.duration * picture.time_base), float(sound.duration * sound.time_base)


def _write(path: Path, kit: SimpleNamespace, num_frames: int = 40, speech: object = None, **options: object) -> Path:
    return write_video(path, kit.in_blocks(kit.numbered_frames(num_frames)), fps=25, speech=speech, **options)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 40])
@pytest.mark.parametrize("fps", [25, 29.97, 30_000 / 1001, 60])
def test_every_frame_is_there_once(num_frames: int, fps: float, kit: SimpleNamespace, tmp_path: Path) -> None:
    frames = kit.numbered_frames(num_frames)
    path = write_video(tmp_path / "out.mp4", kit.in_blocks(frames, 3), fps=fps, speech=None)
    info = probe_video(path)
    assert (info.num_frames, info.has_audio) == (num_frames, False)
    assert info.fps == pytest.approx(fps, rel=1e-5) and info.duration_s == pytest.approx(num_frames / fps, rel=1e-4)
    levels = [float(frame.mean()) for frame in read_video(path, fps)]
    assert len(levels) == num_frames
    assert np.abs(np.subtract(levels, [frame.mean() for frame in frames])).max() < 1.5


def test_cutting_into_blocks_changes_nothing(kit: SimpleNamespace, tmp_path: Path) -> None:
    frames = kit.numbered_frames(20)
    files = [
        write_video(tmp_path / f"{size}.mp4", kit.in_blocks(frames, size), fps=25, speech=None, repeatable=True)
        for size in (1, 7, 20)
    ]
    assert len({path.read_bytes() for path in files}) == 1


def test_it_is_h264_aac_bt709_with_the_index_in_front(kit: SimpleNamespace, tmp_path: Path, wav: Path) -> None:
    path = _write(tmp_path / "out.mp4", kit, 38, wav)
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0].codec_context, container.streams.audio[0].codec_context
        assert (picture.name, picture.pix_fmt, sound.name, sound.profile) == ("h264", "yuv420p", "aac", "LC")
        assert (picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    assert b"colrnclx\x00\x01\x00\x01\x00\x01" in data


def test_colours_come_back(tmp_path: Path) -> None:
    patches = np.zeros((64, 128, 3), np.uint8)
    for index, colour in enumerate(
        [
            (224, 172, 140),
            (90, 56, 40),
            (200, 30, 30),
            (30, 160, 60),
            (20, 40, 190),
            (250, 250, 250),
            (5, 5, 5),
            (128, 128, 128),
        ]
    ):
        patches[:, 16 * index : 16 * index + 16] = colour
    path = write_video(tmp_path / "out.mp4", iter([patches[None]]), fps=25, speech=None)
    inside = (np.arange(128) % 16 >= 4) & (np.arange(128) % 16 < 12)  # chroma has half the resolution
    difference = next(read_video(path)).astype(int)[:, inside] - patches[:, inside]
    assert np.abs(difference).mean() < 1 and np.abs(difference).max() <= 4


def test_a_portrait_comes_back(tmp_path: Path) -> None:
    portrait = read_picture(PORTRAIT)
    path = write_video(tmp_path / "out.mp4", iter([np.stack([portrait] * 5)]), fps=25, speech=None)
    difference = next(read_video(path)).astype(int) - portrait
    assert np.abs(difference).mean() < 3  # of it 1.2 are the halved chroma of yuv420p
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.3  # no colour cast
    blurred = difference.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(blurred).mean() < 1.5


# ------------------------------------------------------------------------------------------------------------- sound

SOURCES = [
    ("wav", "pcm_s16le", "s16", 48_000, "stereo"),
    ("wav", "pcm_s24le", "s32", 96_000, "mono"),
    ("wav", "pcm_u8", "u8", 11_025, "mono"),
    ("wav", "pcm_f32le", "flt", 192_000, "mono"),
    ("wav", "pcm_s16le", "s16", 6_000, "mono"),
    ("flac", "flac", "s16", 44_100, "5.1"),
    ("mp3", "mp3", "fltp", 44_100, "stereo"),
    ("opus", "libopus", "flt", 48_000, "mono"),
    ("m4a", "aac", "fltp", 44_100, "stereo"),
    ("m4a", "aac", "fltp", 16_000, "mono"),
]


@pytest.mark.parametrize(("ending", "codec", "form", "rate_hz", "layout"), SOURCES)
def test_the_sound_is_kept_in_place_and_quality(
    ending: str, codec: str, form: str, rate_hz: int, layout: str, kit: SimpleNamespace, tmp_path: Path
) -> None:
    count = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    voice = np.stack([kit.speechlike(1.6, rate_hz)] * count)
    speech = kit.write_sound(tmp_path / f"voice.{ending}", voice, rate_hz, codec, form, layout)
    path = _write(tmp_path / "out.mp4", kit, 40, speech)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.sample_rate == {192_000: 48_000, 6_000: 8_000}.get(rate_hz, rate_hz)
        assert stream.codec_context.channels == count
    compare_hz = min(rate_hz, 48_000)
    lag, correlation = kit.lag_and_correlation(read_waveform(path, compare_hz).samples, kit.speechlike(1.6, compare_hz))
    assert abs(lag) <= compare_hz / 1000
    assert correlation > 0.99
    picture_s, sound_s = _stream_lengths(path)
    assert picture_s == pytest.approx(1.6) and abs(sound_s - picture_s) < 2e-4


def test_channels_keep_their_places(kit: SimpleNamespace, tmp_path: Path) -> None:
    voices = np.stack([kit.speechlike(1.6, 44_100, seed) * (seed != 3) for seed in range(6)])  # no bass in the fourth
    speech = kit.write_sound(tmp_path / "film.wav", voices, 44_100, "pcm_s16le", "s16", "5.1")
    with av.open(str(_write(tmp_path / "out.mp4", kit, 40, speech))) as container:
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    for channel in (0, 1, 2, 4, 5):
        lag, correlation = kit.lag_and_correlation(heard[channel], voices[channel])
        assert lag == 0 and correlation > 0.99


def test_aac_is_copied_bit_for_bit(kit: SimpleNamespace, tmp_path: Path) -> None:
    speech = kit.write_sound(tmp_path / "voice.m4a", kit.speechlike(1.6, 44_100)[None], 44_100, "aac")
    path = _write(tmp_path / "out.mp4", kit, 40, speech)

    def packets(file: Path) -> list[bytes]:
        with av.open(str(file)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(path) == packets(speech)[: len(packets(path))] and len(packets(path)) >= len(packets(speech)) - 1
    again = read_waveform(path, 44_100).samples
    assert np.array_equal(again, read_waveform(speech, 44_100).samples[: len(again)])


@pytest.mark.parametrize("delay_s", [0.0, 0.3])
@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("mkv", "libopus")])
def test_the_sound_of_a_video_keeps_its_place(
    ending: str, codec: str, delay_s: float, kit: SimpleNamespace, tmp_path: Path
) -> None:
    frames = kit.numbered_frames(50)
    sound = kit.speechlike(1.6, 48_000), 48_000, codec
    speech = kit.write_clip(tmp_path / f"clip.{ending}", frames, sound=sound, sound_delay_s=delay_s)
    path = _write(tmp_path / "out.mp4", kit, 50, speech)
    lag, correlation = kit.lag_and_correlation(read_waveform(path).samples, kit.speechlike(1.6, 16_000))
    assert abs(lag - delay_s * 16_000) <= 16 and correlation > 0.99


@pytest.mark.parametrize("ending", ["wav", "m4a"])
@pytest.mark.parametrize("num_frames", [1, 10, 39, 41, 75, 200])
def test_sound_and_picture_end_together(num_frames: int, ending: str, kit: SimpleNamespace, tmp_path: Path) -> None:
    codec, form = {"wav": ("pcm_s16le", "s16"), "m4a": ("aac", "fltp")}[ending]
    speech = kit.write_sound(tmp_path / f"voice.{ending}", kit.speechlike(1.6, 44_100)[None], 44_100, codec, form)
    blocks = kit.in_blocks([np.zeros((32, 32, 3), np.uint8)] * num_frames, 8)
    path = write_video(tmp_path / "out.mp4", blocks, fps=25, speech=speech)
    picture_s, sound_s = _stream_lengths(path)
    heard = read_waveform(path, 44_100).samples
    assert picture_s == pytest.approx(num_frames / 25)
    assert abs(sound_s - picture_s) < 1e-4
    assert abs(len(heard) / 44_100 - picture_s) < 1e-4
    assert np.abs(heard[round(1.7 * 44_100) :]).max(initial=0.0) < 1e-4  # silence behind the end
    kept = min(len(heard), round(1.5 * 44_100))
    if num_frames >= 10:
        lag, correlation = kit.lag_and_correlation(heard[:kept], kit.speechlike(1.6, 44_100)[:kept])
        assert abs(lag) <= 1 and correlation > 0.99


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 20_000, 4_000])
def test_a_waveform_is_encoded(rate_hz: int, kit: SimpleNamespace, tmp_path: Path) -> None:
    path = _write(tmp_path / "out.mp4", kit, 40, Waveform(kit.speechlike(1.6, rate_hz), rate_hz))
    lag, correlation = kit.lag_and_correlation(read_waveform(path, rate_hz).samples, kit.speechlike(1.6, rate_hz))
    assert abs(lag) <= max(1, rate_hz / 1000) and correlation > 0.99


def test_an_empty_waveform_is_silence(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = _write(tmp_path / "out.mp4", kit, 25, Waveform(np.zeros(0, np.float32)))
    assert not read_waveform(path).samples.any() and _stream_lengths(path) == pytest.approx((1.0, 1.0), abs=1e-4)


def test_the_output_may_replace_its_own_source(kit: SimpleNamespace, tmp_path: Path) -> None:
    sound = kit.speechlike(1.6, 48_000), 48_000, "aac"
    clip = kit.write_clip(tmp_path / "clip.mp4", kit.numbered_frames(40), sound=sound)
    before = read_waveform(clip).samples
    _write(clip, kit, 40, clip, overwrite=True)
    assert len(read_waveform(clip).samples) == pytest.approx(len(before), abs=200)


def test_progress_counts_frames_in_the_callers_thread(kit: SimpleNamespace, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    _write(tmp_path / "out.mp4", kit, 10, progress=lambda n: told.append((n, threading.get_ident())))
    assert told == [(n, threading.get_ident()) for n in (4, 8, 10)]


def test_rendering_and_encoding_overlap_in_bounded_memory(
    kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avatar.media import writer

    handed, encoded, most = 0, 0, 0
    real = writer._Encoder._to_frame

    def slowly(self: object, image: np.ndarray, index: int) -> object:
        nonlocal encoded
        time.sleep(0.002)
        encoded = index
        return real(self, image, index)  # type: ignore[arg-type]

    def blocks() -> Iterator[np.ndarray]:
        nonlocal handed, most
        for _ in range(30):
            most = max(most, handed - encoded)
            handed += 4
            yield np.zeros((4, 64, 64, 3), np.uint8)

    monkeypatch.setattr(writer._Encoder, "_to_frame", slowly)
    write_video(tmp_path / "out.mp4", blocks(), fps=25, speech=None)
    assert 4 < most <= 4 * (writer._QUEUED_BLOCKS + 3)


# ------------------------------------------------------------------------------------------------- whole or not at all


class _Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [_Stop, KeyboardInterrupt, OSError])
@pytest.mark.parametrize(("after", "nameless"), [(0, True), (30, True), (30, False)])
def test_a_failure_while_rendering_leaves_nothing(
    stop: type[BaseException],
    after: int,
    nameless: bool,
    kit: SimpleNamespace,
    tmp_path: Path,
    wav: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not nameless:
        monkeypatch.setattr("avatar.media.output._open_nameless", lambda folder: None)
    (tmp_path / "old.mp4").write_bytes(b"an older video")

    def blocks() -> Iterator[np.ndarray]:
        for _ in range(after):
            yield np.zeros((4, 64, 64, 3), np.uint8)
        raise stop("in the middle")

    for name in ("new.mp4", "old.mp4"):
        with pytest.raises(stop, match="in the middle"):
            write_video(tmp_path / name, blocks(), fps=25, speech=wav, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.mp4", "voice.wav"]
    assert (tmp_path / "old.mp4").read_bytes() == b"an older video"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("avatar-encoder")]


def _killed_run(folder: Path, how: int) -> subprocess.Popen[bytes]:
    code = (
        "import numpy as np, itertools, sys, time\nfrom avatar.media import write_video\n"
        "rng = np.random.default_rng(0)\n"
        "def blocks():\n"
        "    for n in itertools.count():\n"
        "        if n == 10: print('now', flush=True)\n"
        "        yield rng.integers(0, 255, (4, 128, 128, 3), np.uint8)\n"
        f"write_video({str(folder / 'out.mp4')!r}, blocks(), fps=25, speech=None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells start background jobs deaf to it
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"now\n"
        process.send_signal(how)
        process.wait(20)
    finally:
        process.kill()
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_nothing(how: int, tmp_path: Path) -> None:
    if how != signal.SIGINT and not hasattr(os, "O_TMPFILE"):
        pytest.skip("only Linux has files without a name")
    assert _killed_run(tmp_path, how).returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["mux", "close"])
def test_a_full_disk_is_named_and_leaves_nothing(
    when: str, kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = av.open

    class Full:
        def __init__(self, container: object) -> None:
            self._container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def _fail(self, *_: object) -> None:
            raise av.error.OSError(errno.ENOSPC, "No space left on device")

        def mux(self, packets: object) -> None:
            self._fail() if when == "mux" else self._container.mux(packets)  # type: ignore[attr-defined]

        def close(self) -> None:
            self._container.close()  # type: ignore[attr-defined]
            self._fail()

    monkeypatch.setattr(av, "open", lambda file, mode="r", **rest: Full(real_open(file, mode, **rest)))
    with pytest.raises(
        OutputError, match="out.mp4 cannot be written: No space left on device; free some space"
    ) as caught:
        _write(tmp_path / "out.mp4", kit, 200)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_really_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    noise = np.random.default_rng(0).integers(0, 255, (4, 256, 256, 3), np.uint8)
    try:
        with pytest.raises(OutputError, match="No space left on device"):
            write_video(tmp_path / "out.mp4", iter([noise] * 40), fps=25, speech=None)
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "ballast").write_bytes(bytes(1_500_000))
        with pytest.raises(OutputError, match=r"the disk is full \([\d,]+ bytes free\)"):
            check_output(tmp_path / "out.mp4")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_limit_on_file_size_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import numpy as np, resource\nfrom avatar.media import write_video\nfrom avatar.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "noise = np.random.default_rng(0).integers(0, 255, (4, 128, 128, 3), np.uint8)\n"
        "try:\n"
        f"    write_video({str(tmp_path / 'out.mp4')!r}, iter([noise] * 40), fps=25, speech=None)\n"
        "except OutputError as err:\n"
        "    print(err)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot be written: File too large" in run.stdout, run.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- bad input


def _refuses(path: Path, error: type[Exception], words: str, *, overwrite: bool = False) -> None:
    for attempt in (
        lambda: check_output(path, overwrite),
        lambda: write_video(path, iter([np.zeros((1, 16, 16, 3), np.uint8)]), fps=25, speech=None, overwrite=overwrite),
    ):
        with pytest.raises(error, match=words) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_outputs_that_cannot_be_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"an older video")
    (tmp_path / "dir.mp4").mkdir()
    _refuses(tmp_path / "old.mp4", OutputError, "old.mp4 exists; .*--overwrite")
    _refuses(tmp_path / "dir.mp4", OutputError, "is a folder; name a file in it", overwrite=True)
    _refuses(tmp_path / "none" / "out.mp4", OutputError, "the folder .*none does not exist; make it first")
    _refuses(tmp_path / "old.mp4" / "out.mp4", OutputError, "is not a folder")
    for name in ("out.avi", "out", "mp4", "out.mp4.txt"):
        _refuses(tmp_path / name, OptionError, r"must end in \.mp4, not ")
    assert check_output(tmp_path / "OUT.MP4") == tmp_path / "OUT.MP4"
    assert check_output(tmp_path / "old.mp4", True) == tmp_path / "old.mp4"
    assert (tmp_path / "old.mp4").read_bytes() == b"an older video"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir.mp4", "old.mp4"]


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:  # permissions do not stop root, so the refusal is played
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("avatar.media.output.tempfile.TemporaryFile", refuse)
    _refuses(tmp_path / "out.mp4", OutputError, "cannot be written: Permission denied .*choose another folder")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that even root cannot write to")
def test_a_folder_that_even_root_cannot_write_to_is_named() -> None:
    _refuses(Path("/proc/out.mp4"), OutputError, "cannot be written: .*choose another folder")


def test_a_file_that_appears_meanwhile_is_kept(kit: SimpleNamespace, tmp_path: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield from kit.in_blocks(kit.numbered_frames(8))
        (tmp_path / "out.mp4").write_bytes(b"from elsewhere")

    with pytest.raises(OutputError, match="meanwhile"):
        write_video(tmp_path / "out.mp4", blocks(), fps=25, speech=None)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"from elsewhere"]


def test_a_link_keeps_pointing_at_its_file(kit: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"an older video")
    (tmp_path / "link.mp4").symlink_to("real.mp4")
    _write(tmp_path / "link.mp4", kit, 3, overwrite=True)
    assert (tmp_path / "link.mp4").is_symlink() and probe_video(tmp_path / "real.mp4").num_frames == 3


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("nameless", [True, False])
def test_the_result_has_ordinary_permissions(
    nameless: bool, kit: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nameless:
        monkeypatch.setattr("avatar.media.output._open_nameless", lambda folder: None)
    umask = os.umask(0)
    os.umask(umask)
    assert _write(tmp_path / "out.mp4", kit, 3).stat().st_mode & 0o777 == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(("block", "words"), [
    (np.zeros((1, 15, 16, 3), np.uint8), "even sides .* not 16x15"),
    (np.zeros((1, 16, 17, 3), np.uint8), "even sides .* not 17x16"),
    (np.zeros((1, 16, 20_000, 3), np.uint8), "even sides .* not 20000x16"),
    (np.zeros((16, 16, 3), np.uint8), r"blocks \(T, H, W, 3\) uint8, not \(16, 16, 3\)"),
    (np.zeros((1, 16, 16, 4), np.uint8), r"not \(1, 16, 16, 4\)"),
    (np.zeros((1, 16, 16, 3), np.float32), "float32"),
])  # fmt: skip
def test_frames_of_another_kind_are_refused(block: np.ndarray, words: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=words):
        write_video(tmp_path / "out.mp4", iter([block]), fps=25, speech=None)
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_change_are_refused(tmp_path: Path) -> None:
    blocks = iter([np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 16, 32, 3), np.uint8)])
    with pytest.raises(OptionError, match="one size: 16x16 came first, then 32x16"):
        write_video(tmp_path / "out.mp4", blocks, fps=25, speech=None)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_refused(tmp_path: Path, wav: Path) -> None:
    for blocks in (iter([]), iter([np.zeros((0, 16, 16, 3), np.uint8)])):
        with pytest.raises(OptionError, match="at least one frame"):
            write_video(tmp_path / "out.mp4", blocks, fps=25, speech=wav)
    assert [path.name for path in tmp_path.iterdir()] == ["voice.wav"]


@pytest.mark.parametrize(("options", "words"), [
    ({"fps": 0}, "fps must be above 0"), ({"fps": float("nan")}, "fps must be"),
    ({"crf": 52}, "crf must be 0"), ({"preset": "best"}, "accepted: ultrafast"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=words):
        write_video(
            tmp_path / "out.mp4", iter([np.zeros((1, 16, 16, 3), np.uint8)]), **{"fps": 25, "speech": None, **options}
        )


def test_bad_speech_is_refused_and_leaves_nothing(kit: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "note.wav").write_text("no sound at all\n" * 50)
    damaged = kit.write_sound(tmp_path / "cut.flac", kit.speechlike(3.0, 44_100)[None], 44_100, "flac", "s16")
    damaged.write_bytes(damaged.read_bytes()[:-3000])
    inputs = sorted(path.name for path in tmp_path.iterdir())
    for speech, words in (
        (tmp_path / "none.wav", "there is no file"),
        (tmp_path / "note.wav", "not a sound file"),
        (damaged, "truncated"),
        (Waveform(np.full(16_000, np.nan, np.float32)), "NaN"),
    ):
        with pytest.raises(MediaError, match=words):
            _write(tmp_path / "out.mp4", kit, 75, speech)
        assert sorted(path.name for path in tmp_path.iterdir()) == inputs


def test_a_missing_system_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ImportError('libxcb.so.1: cannot open shared object file')")
    code = (
        "from avatar.errors import MissingDependencyError\n"
        "try:\n    import avatar.media\nexcept MissingDependencyError as err:\n    print(err)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PORTRAIT.parents[1])])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "libxcb.so.1: cannot open shared object file" in run.stdout and "pip install" in run.stdout, run.stderr


def test_rates_of_film_are_exact(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = write_video(tmp_path / "out.mp4", kit.in_blocks(kit.numbered_frames(24)), fps=24_000 / 1001, speech=None)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction(24_000, 1001)
