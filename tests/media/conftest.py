"""Media made on the spot: sounds, pictures and videos of every kind, none of them stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest


def speechlike(duration_s: float, sample_rate_hz: int, seed: int = 0) -> np.ndarray:
    """(S,) float32: three wavering tones in a rhythm of syllables, so that its lag against itself is unmistakable."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    tones = ((180, 1.7), (420, 3.4), (1330, 5.1))
    sound = sum(np.sin(2 * np.pi * f * time_s + 3 * np.sin(2 * np.pi * wobble * time_s)) for f, wobble in tones)
    syllables = np.arange(0, duration_s + 0.2, 0.1)
    rhythm = np.interp(time_s, syllables, rng.uniform(0, 1, len(syllables)))
    return (0.2 * sound * rhythm).astype(np.float32)


def write_sound(
    path: Path,
    samples: np.ndarray,
    sample_rate_hz: int,
    codec: str,
    form: str = "fltp",
    layout: str = "mono",
    **options: str,
) -> Path:
    """Encodes (C, S) float32 samples with any codec into the container of the file's ending."""
    scaled = {
        "u8": lambda x: np.round(x * 127 + 128).astype(np.uint8),
        "s16": lambda x: np.round(x * 32767).astype(np.int16),
        "s32": lambda x: np.round(x.astype(np.float64) * (2**31 - 1)).astype(np.int32),
        "flt": lambda x: x.astype(np.float32),
        "fltp": lambda x: x.astype(np.float32),
        "dbl": lambda x: x.astype(np.float64),
    }[form](samples)
    packed = scaled if form.endswith("p") else np.ascontiguousarray(scaled.T.reshape(1, -1))
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=sample_rate_hz, layout=layout)
        stream.codec_context.format = form
        if codec in ("aac", "mp3", "libopus", "mp2"):
            stream.codec_context.bit_rate = 192_000
        frame = av.AudioFrame.from_ndarray(packed, form, layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate_hz, 0, Fraction(1, sample_rate_hz)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_clip(
    path: Path,
    frames: list[np.ndarray],
    fps: Fraction | int = 25,
    *,
    times: list[int] | None = None,
    codec: str = "libx264",
    sound: tuple[np.ndarray, int, str] | None = None,
    sound_delay_s: float = 0.0,
    rotation: int = 0,
    aspect: Fraction | None = None,
) -> Path:
    """Encodes RGB frames, optionally with a mono sound (samples, rate, codec) that starts later."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        if codec == "libx264":
            video.options = {"crf": "10", "preset": "ultrafast"}
        else:
            video.codec_context.bit_rate = 4_000_000
        if rotation:
            video.set_display_rotation(rotation)
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        audio = container.add_stream(sound[2], rate=sound[1], layout="mono") if sound else None
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = (times[index] if times else index), 1 / Fraction(fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound and audio is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[0][None]), "fltp", "mono")
            frame.sample_rate, frame.time_base = sound[1], Fraction(1, sound[1])
            frame.pts = round(sound_delay_s * sound[1])
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def lag_and_correlation(heard: np.ndarray, source: np.ndarray) -> tuple[int, float]:
    """Samples by which `heard` comes late, and the correlation of the two at that lag."""
    size = 2 * max(len(heard), len(source))
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(source, size)), size)
    lag = int(np.argmax(product))
    lag = lag - size if lag > size // 2 else lag
    a, b = (heard[lag:], source) if lag >= 0 else (heard, source[-lag:])
    length = min(len(a), len(b))
    return lag, float(np.corrcoef(a[:length], b[:length])[0, 1])


def numbered_frames(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Frames whose grey level tells their number: 3 levels a frame from 20."""
    return [np.full((height, width, 3), 20 + 3 * index, np.uint8) for index in range(count)]


def in_blocks(frames: list[np.ndarray], size: int = 4) -> Iterator[np.ndarray]:
    for start in range(0, len(frames), size):
        yield np.stack(frames[start : start + size])


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """A second and a half of 48 kHz stereo, 16 bits."""
    left = speechlike(1.5, 48_000)
    return write_sound(tmp_path / "voice.wav", np.stack([left, 0.5 * left]), 48_000, "pcm_s16le", "s16", "stereo")


@pytest.fixture
def hide_from_reader(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file unreadable even for root, whom permissions do not stop."""

    def hide(path: Path) -> None:
        real_open = Path.open

        def refuse(self: Path, *args: object, **kwargs: object) -> object:
            if self == path:
                raise PermissionError(13, "Permission denied", str(path))
            return real_open(self, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(Path, "open", refuse)

    return hide


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The functions above, for the tests beside this file."""
    return SimpleNamespace(
        speechlike=speechlike,
        write_sound=write_sound,
        write_clip=write_clip,
        lag_and_correlation=lag_and_correlation,
        numbered_frames=numbered_frames,
        in_blocks=in_blocks,
    )
