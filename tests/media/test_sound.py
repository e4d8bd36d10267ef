"""Reading sound: every kind of file gives the same waveform; what is broken says so in one line."""

from __future__ import annotations

import re
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avatar.errors import MediaError, OptionError
from avatar.media import iter_waveform, read_waveform

# ending, codec, sample form, Hz, extra muxer options, largest lag in samples of 16 kHz
KINDS = [
    ("wav", "pcm_u8", "u8", 44_100, {}, 0),
    ("wav", "pcm_s16le", "s16", 8_000, {}, 0),
    ("wav", "pcm_s24le", "s32", 48_000, {}, 0),
    ("wav", "pcm_s32le", "s32", 96_000, {}, 0),
    ("wav", "pcm_f32le", "flt", 16_000, {}, 0),
    ("wav", "pcm_f64le", "dbl", 22_050, {}, 0),
    ("wav", "pcm_alaw", "s16", 16_000, {}, 0),
    ("flac", "flac", "s16", 44_100, {}, 0),
    ("mp3", "mp3", "fltp", 44_100, {}, 1),
    ("mp3", "mp3", "fltp", 24_000, {}, 1),
    ("m4a", "aac", "fltp", 44_100, {}, 1),
    ("m4a", "aac", "fltp", 16_000, {}, 1),
    ("opus", "libopus", "flt", 48_000, {}, 1),
    ("ogg", "libopus", "flt", 48_000, {}, 1),
    ("mka", "aac", "fltp", 48_000, {}, 1),
    ("aiff", "pcm_s16be", "s16", 44_100, {}, 0),
]


@pytest.mark.parametrize(("ending", "codec", "form", "rate_hz", "options", "most"), KINDS)
def test_every_format_gives_the_same_waveform(
    ending: str,
    codec: str,
    form: str,
    rate_hz: int,
    options: dict[str, str],
    most: int,
    kit: SimpleNamespace,
    tmp_path: Path,
) -> None:
    path = kit.write_sound(
        tmp_path / f"voice.{ending}", kit.speechlike(2.0, rate_hz)[None], rate_hz, codec, form, **options
    )
    waveform = read_waveform(path)
    lag, correlation = kit.lag_and_correlation(waveform.samples, kit.speechlike(2.0, 16_000))
    assert waveform.sample_rate_hz == 16_000 and waveform.samples.dtype == np.float32
    assert abs(lag) <= most
    assert correlation > 0.99
    assert abs(waveform.duration_s - 2.0) < 0.03
    assert np.abs(waveform.samples).max() == pytest.approx(np.abs(kit.speechlike(2.0, 16_000)).max(), rel=0.15)


def test_vorbis_is_read(kit: SimpleNamespace, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "voice.ogg", kit.speechlike(2.0, 44_100), 44_100)
    waveform = read_waveform(tmp_path / "voice.ogg")
    lag, correlation = kit.lag_and_correlation(waveform.samples, kit.speechlike(2.0, 16_000))
    assert (lag, len(waveform.samples)) == (0, 32_000) and correlation > 0.99


@pytest.mark.parametrize(
    ("ending", "video_codec", "sound_codec"),
    [
        ("mp4", "libx264", "aac"),
        ("mov", "libx264", "aac"),
        ("mkv", "libx264", "libopus"),
        ("mpg", "mpeg1video", "mp2"),
    ],
)
@pytest.mark.parametrize("delay_s", [0.0, 0.4])
def test_the_sound_of_a_video_starts_with_its_first_picture(
    ending: str, video_codec: str, sound_codec: str, delay_s: float, kit: SimpleNamespace, tmp_path: Path
) -> None:
    sound = kit.speechlike(1.6, 48_000), 48_000, sound_codec
    frames = kit.numbered_frames(50)
    path = kit.write_clip(tmp_path / f"clip.{ending}", frames, codec=video_codec, sound=sound, sound_delay_s=delay_s)
    waveform = read_waveform(path)
    lag, correlation = kit.lag_and_correlation(waveform.samples, kit.speechlike(1.6, 16_000))
    # mp2 and its clock of 90 kHz start within a frame of the encoder's delay; the others are exact
    assert abs(lag - delay_s * 16_000) <= (16_000 * 0.035 if ending == "mpg" else 16)
    assert correlation > 0.99


def test_cover_art_is_no_video(kit: SimpleNamespace, tmp_path: Path) -> None:
    import av

    path = kit.write_sound(tmp_path / "plain.m4a", kit.speechlike(1.0, 44_100)[None], 44_100, "aac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "art.m4a"), "w", format="mp4") as out:
        sound = out.add_stream_from_template(source.streams.audio[0])
        art = out.add_stream("mjpeg", rate=1)
        art.width = art.height = 32
        art.pix_fmt = "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        out.mux(art.encode(av.VideoFrame(32, 32, "yuvj420p")))
        out.mux(art.encode(None))
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                out.mux(packet)
    assert np.array_equal(read_waveform(tmp_path / "art.m4a").samples, read_waveform(path).samples)


def test_channels_are_averaged_without_clipping(kit: SimpleNamespace, tmp_path: Path) -> None:
    loud = 0.9 * np.sign(np.sin(np.arange(32_000) / 50)).astype(np.float32)
    for layout, count in (("mono", 1), ("stereo", 2), ("5.1", 6)):
        path = kit.write_sound(tmp_path / f"{count}.wav", np.stack([loud] * count), 16_000, "pcm_f32le", "flt", layout)
        assert np.abs(read_waveform(path).samples - loud).max() < 1e-3, layout
    one_sided = np.stack([loud, np.zeros_like(loud)])
    path = kit.write_sound(tmp_path / "left.wav", one_sided, 16_000, "pcm_s16le", "s16", "stereo")
    assert np.abs(read_waveform(path).samples - 0.5 * loud).max() < 1e-3


def test_the_voice_in_the_centre_of_5_1_is_kept(kit: SimpleNamespace, tmp_path: Path) -> None:
    voice = kit.speechlike(1.0, 48_000)
    channels = np.zeros((6, len(voice)), np.float32)
    channels[2] = voice  # FL FR FC LFE BL BR
    path = kit.write_sound(tmp_path / "film.flac", channels, 48_000, "flac", "s16", "5.1")
    lag, correlation = kit.lag_and_correlation(read_waveform(path).samples, kit.speechlike(1.0, 16_000))
    assert lag == 0 and correlation > 0.99


@pytest.mark.parametrize("channels", [3, 4, 7, 8])
def test_odd_numbers_of_channels_are_read(channels: int, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "many.wav"), "wb") as file:
        file.setnchannels(channels), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(np.full((16_000, channels), 8000, np.int16).tobytes())
    assert read_waveform(tmp_path / "many.wav").duration_s == 1.0


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 192_000])
def test_one_sample_is_sound(rate_hz: int, kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "one.wav", np.full((1, 1), 0.5), rate_hz, "pcm_s16le", "s16")
    assert 1 <= len(read_waveform(path).samples) <= 2


def test_silence_is_sound(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "still.wav", np.zeros((1, 44_100)), 44_100, "pcm_s16le", "s16")
    assert not read_waveform(path).samples.any() and read_waveform(path).duration_s == 1.0


def test_length_is_kept_to_a_sample(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "long.flac", kit.speechlike(3.3, 44_100)[None], 44_100, "flac", "s16")
    assert abs(len(read_waveform(path).samples) - 3.3 * 16_000) <= 1
    assert len(read_waveform(path, 44_100).samples) == round(3.3 * 44_100)


def test_mp4_padding_behind_the_declared_end_is_cut(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "end.m4a", kit.speechlike(1.0, 44_100)[None], 44_100, "aac")
    assert len(read_waveform(path, 44_100).samples) == 44_100


@pytest.mark.parametrize("block_s", [0.01, 0.25, 60.0])
def test_blocks_together_are_the_whole(block_s: float, wav: Path) -> None:
    blocks = list(iter_waveform(wav, block_s))
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), read_waveform(wav).samples)
    assert {len(block.samples) for block in blocks[:-1]} <= {round(block_s * 16_000)}


def test_overshoot_is_clipped(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "hot.wav", np.full((1, 1600), 1.5), 16_000, "pcm_f32le", "flt")
    assert read_waveform(path).samples.max() == 1.0


def test_a_wav_written_into_a_pipe_is_whole(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "piped.wav", kit.speechlike(1.0, 16_000)[None], 16_000, "pcm_s16le", "s16")
    whole = bytearray(path.read_bytes())
    at = whole.find(b"data") + 4
    for promise in (0, 0x7FFFF000, 0xFFFFFFFF):  # nobody, espeak-ng, ffmpeg
        whole[at : at + 4] = struct.pack("<I", promise)
        path.write_bytes(whole)
        assert read_waveform(path).duration_s == 1.0


def test_names_with_colons_accents_and_spaces_are_files(wav: Path) -> None:
    for name in ("12:30 memo.wav", "Grüße – 你好.wav", "-y.wav", "%d.wav", "concat:x.wav"):
        path = wav.rename(wav.with_name(name))
        assert read_waveform(path).duration_s == 1.5
        wav = path


def test_memory_is_that_of_the_result(kit: SimpleNamespace, tmp_path: Path) -> None:
    import subprocess
    import sys

    minutes = np.tile(
        kit.speechlike(10.0, 48_000), 18
    )  # three minutes: 69 MB as the stereo floats that a decoder gives
    path = kit.write_sound(tmp_path / "long.wav", np.stack([minutes, minutes]), 48_000, "pcm_s16le", "s16", "stereo")
    code = (
        "import resource, sys\nfrom avatar.media import read_waveform\n"
        f"read_waveform({str(wav_head(path))!r})\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"size = read_waveform({str(path)!r}).samples.nbytes\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size)"
    )
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in kilobytes on Linux alone")
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 1.7, f"{grown} times the result"


def wav_head(path: Path) -> Path:
    head = path.with_name("head.wav")
    with wave.open(str(path)) as source, wave.open(str(head), "wb") as out:
        out.setparams(source.getparams())
        out.writeframes(source.readframes(48_000))
    return head


# ---------------------------------------------------------------------------------------------------------- bad input


def _refuses(path: Path, words: str) -> None:
    with pytest.raises(MediaError, match=words) as caught:
        read_waveform(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(MediaError, match=words):
        list(iter_waveform(path))


def test_missing_folder_and_empty_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    _refuses(tmp_path / "none.wav", "there is no file .*none.wav; give the path of a sound file")
    _refuses(tmp_path, "is a folder; give one sound file")
    _refuses(tmp_path / "empty.wav", r"is empty \(0 bytes\)")


def test_a_device_is_no_file() -> None:
    _refuses(Path("/dev/zero"), "not a regular file")


def test_permission_is_named(wav: Path, hide_from_reader: Callable[[Path], None]) -> None:
    hide_from_reader(wav)
    _refuses(wav, "may not be read: Permission denied")


@pytest.mark.parametrize("ending", ["wav", "mp3", "m4a", "flac", "ogg", "mp4", "txt"])
def test_text_renamed_is_refused(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"note.{ending}").write_text("Dear friend, this is a letter and no sound.\n" * 30)
    _refuses(tmp_path / f"note.{ending}", "(not a sound file|holds no sound).*looks like text.*accepted: wav, mp3")


def test_a_picture_is_no_sound(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "me.png")
    _refuses(tmp_path / "me.png", "looks like a PNG picture")


def test_a_video_without_sound_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    _refuses(kit.write_clip(tmp_path / "mute.mp4", kit.numbered_frames(5)), "holds no sound")


def test_zero_samples_are_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "zero.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
    _refuses(tmp_path / "zero.wav", "holds no sound: 0 samples")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float, kit: SimpleNamespace, tmp_path: Path) -> None:
    samples = kit.speechlike(2.0, 22_050)
    samples[22_050] = bad
    path = kit.write_sound(tmp_path / "bad.wav", samples[None], 22_050, "pcm_f32le", "flt")
    _refuses(path, r"NaN or infinite samples near [01]\.\d+ s")


def test_floats_at_the_scale_of_integers_are_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(
        tmp_path / "huge.wav", 20_000 * kit.speechlike(1.0, 16_000)[None], 16_000, "pcm_f32le", "flt"
    )
    _refuses(path, "full scale is 1.0")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    ("ending", "codec", "form"),
    [
        ("wav", "pcm_s16le", "s16"),
        ("mp3", "mp3", "fltp"),
        ("m4a", "aac", "fltp"),
        ("flac", "flac", "s16"),
        ("opus", "libopus", "flt"),
        ("mka", "aac", "fltp"),
    ],
)
def test_a_truncated_file_is_refused(
    ending: str, codec: str, form: str, share: float, kit: SimpleNamespace, tmp_path: Path
) -> None:
    whole = kit.write_sound(
        tmp_path / f"whole.{ending}", kit.speechlike(3.0, 48_000)[None], 48_000, codec, form
    ).read_bytes()
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole[: int(len(whole) * share)])
    _refuses(cut, "truncated|not a sound file that can be read|holds no sound")


def test_a_truncated_mp3_without_an_index_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "old.mp3", kit.speechlike(3.0, 44_100)[None], 44_100, "mp3", write_xing="0")
    assert read_waveform(path).duration_s == pytest.approx(3.0, abs=0.06)
    path.write_bytes(path.read_bytes()[:-200])
    _refuses(path, "truncated")


def test_a_truncated_m4a_with_its_index_in_front_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "a.m4a", kit.speechlike(3.0, 44_100)[None], 44_100, "aac", movflags="+faststart")
    path.write_bytes(path.read_bytes()[:-20_000])
    _refuses(path, "is truncated: its header promises")


def test_damage_in_the_middle_is_refused(kit: SimpleNamespace, tmp_path: Path) -> None:
    path = kit.write_sound(tmp_path / "a.flac", kit.speechlike(3.0, 44_100)[None], 44_100, "flac", "s16")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(data)
    _refuses(path, r"damaged or truncated(: it declares 3.00 s and 2\.\d\d s| after \d\.\d\d s)")


def test_rates_and_blocks_that_make_no_sense_are_refused(wav: Path) -> None:
    with pytest.raises(OptionError, match="sample_rate_hz must be positive, not 0"):
        read_waveform(wav, 0)
    with pytest.raises(OptionError, match=re.escape("block_s must hold at least one sample, not 0.0 s")):
        list(iter_waveform(wav, 0.0))
