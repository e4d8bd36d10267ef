"""Sound files, or the sound of videos, to float32 samples, decoded piece by piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph

from avatar.errors import MediaError, OptionError
from avatar.media.containers import decode, open_container, picture_stream, sound_stream, start_time
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

_FULL_SCALE_LIMIT = 8.0  # float files may overshoot 1.0 a little; beyond +18 dB their scale is another one
_MAX_LACK_S = 0.01
_RUN_UP_S = 0.5  # decoders and the resampler have settled by then
_MAX_TAIL_SAMPLES = 4096  # what a codec may add behind the end that an mp4 declares: two frames of AAC at most


@dataclass(frozen=True)
class SoundInfo:
    """What a sound stream is.

    Attributes:
        codec: FFmpeg's name, "aac" for instance; profile: "LC", "HE-AAC", … or None.
        sample_rate_hz, num_channels: as stored.
        container: FFmpeg's name of the file format.
        start_s: when the sound begins on the clock of the file's pictures; 0 for a sound file.
    """

    codec: str
    profile: str | None
    sample_rate_hz: int
    num_channels: int
    container: str
    start_s: float


def read_waveform(
    path: str | Path, sample_rate_hz: int = MODEL_SAMPLE_RATE_HZ, *, start_s: float = 0.0, end_s: float | None = None
) -> Waveform:
    """The sound of a file, all channels mixed to one.

    Decoding is streamed, so the memory needed is that of the result. The sound of a video starts with its first
    picture: silence is put before a sound that starts later, and gaps are filled with silence.

    Args:
        path: wav, mp3, m4a, flac, ogg, opus, or a video with sound; any rate, number of channels and bit depth.
        sample_rate_hz: rate of the result.
        start_s, end_s: a window, rounded to samples; only that part is decoded where the file can be sought in. None: to
            the end. Where the sound ends earlier the result is shorter, or empty.

    Returns:
        (S,) float32 in [-1, 1].

    Raises:
        MediaError: the file is missing, not sound, empty, damaged, truncated, or holds NaN or infinite samples.
        OptionError: the rate is not positive, or the window is empty.
    """
    if sample_rate_hz <= 0:
        raise OptionError(f"sample_rate_hz must be positive, not {sample_rate_hz}")
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise OptionError(f"the window from {start_s} to {end_s} s is empty; it is start_s < end_s, from 0 on")
    before_s = max(0.0, start_s - _RUN_UP_S)
    skipped = round((start_s - before_s) * sample_rate_hz)
    wanted = None if end_s is None else skipped + round((end_s - start_s) * sample_rate_hz)
    grown = bytearray()  # grows in place, unlike a list of blocks that is joined in a second copy
    for block in decode_sound(path, sample_rate_hz, "mono", before_s):
        grown += np.clip(block[0], -1.0, 1.0).tobytes()
        if wanted is not None and len(grown) >= 4 * wanted:
            break
    return Waveform(np.frombuffer(grown, np.float32)[skipped:wanted], sample_rate_hz)


def iter_waveform(
    path: str | Path, block_s: float = 1.0, sample_rate_hz: int = MODEL_SAMPLE_RATE_HZ
) -> Iterator[Waveform]:
    """The sound of a file in blocks of `block_s` seconds, the last one shorter; together they are `read_waveform`'s.

    Raises:
        As `read_waveform`, at the block where the trouble is.
    """
    num_samples = round(block_s * sample_rate_hz)
    if sample_rate_hz <= 0 or num_samples < 1:
        raise OptionError(f"block_s must hold at least one sample, not {block_s} s at {sample_rate_hz} Hz")
    held = np.zeros(0, np.float32)
    for block in decode_sound(path, sample_rate_hz, "mono"):
        held = np.concatenate([held, np.clip(block[0], -1.0, 1.0)])
        while len(held) >= num_samples:
            yield Waveform(held[:num_samples], sample_rate_hz)
            held = held[num_samples:]
    if len(held):
        yield Waveform(held, sample_rate_hz)


def probe_sound(path: str | Path) -> SoundInfo:
    """What the sound of a file is, without decoding it.

    Raises:
        MediaError: the file cannot be opened or holds no sound.
    """
    path = Path(path)
    with open_container(path, "sound") as container:
        stream = sound_stream(container, path)
        context = stream.codec_context
        pictures = picture_stream(container)
        start_s = start_time(stream) - start_time(pictures) if pictures is not None else Fraction(0)
        return SoundInfo(
            codec=context.codec.canonical_name,
            profile=context.profile,
            sample_rate_hz=context.sample_rate,
            num_channels=context.channels,
            container=container.format.name,
            start_s=float(start_s),
        )


def decode_sound(path: str | Path, sample_rate_hz: int, layout: str, start_s: float = 0.0) -> Iterator[np.ndarray]:
    """Decodes a file piece by piece.

    Args:
        path: a sound or video file.
        sample_rate_hz: rate of the result.
        layout: FFmpeg's name of a channel layout: "mono", "stereo", "5.1". Mixing down follows ITU-R BS.775 with
            weights that sum to one, so nothing clips.
        start_s: where to begin, after the first picture of a video or the first sample.

    Yields:
        (C, S) float32 pieces of any length; not clipped.

    Raises:
        MediaError: as `read_waveform`.
    """
    path = Path(path)
    num_samples = 0
    with open_container(path, "sound") as container:
        stream = sound_stream(container, path)
        target = f"{sample_rate_hz}:ochl={layout}:osf=fltp:rematrix_maxval=1.0"
        for block in _resampled(container, stream, path, target, start_s):
            _check_samples(block, path, start_s + num_samples / sample_rate_hz)
            num_samples += block.shape[1]
            yield block
    if not num_samples and not start_s:
        raise MediaError(f"{path} holds no sound: 0 samples; give a recording of at least one sample")


def _resampled(
    container: InputContainer, stream: AudioStream, path: Path, target: str, start_s: float
) -> Iterator[np.ndarray]:
    """Every frame through FFmpeg's resampler, in one filter graph for each form that the stream takes on."""
    pictures = picture_stream(container)
    # async=1 aligns the start and fills gaps by the clock, without stretching; a plain sound file needs neither.
    clocked = ":async=1:first_pts=0" if pictures is not None or start_s else ""
    zero_s = start_s + float(start_time(pictures if pictures is not None else stream))
    if start_s > _RUN_UP_S:
        _seek(container, stream, zero_s - _RUN_UP_S)
    graph: Graph | None = None
    form = None
    num_in = num_out = 0
    for frame in itertools.chain(_within_length(container, stream, path, not start_s), [None]):
        new_form = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        blocks: Iterator[np.ndarray] = iter(())
        if new_form != form and graph is not None:
            blocks, clocked = _push(graph, None), ""  # only the first graph starts at zero
        for block in blocks:
            num_out += block.shape[1]
            yield block
        if frame is None:
            break
        if new_form != form:
            graph, form = _make_graph(frame, target + clocked, path), new_form
        at_s = frame.time
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round((at_s - zero_s) * frame.sample_rate) if clocked and at_s is not None else num_in
        num_in += frame.samples
        assert graph is not None
        for block in _push(graph, frame):
            num_out += block.shape[1]
            yield block
    if num_in and not num_out:  # a sample or two at a high rate are less than one at a low rate
        yield np.zeros((1, 1), np.float32)


def _seek(container: InputContainer, stream: AudioStream, at_s: float) -> None:
    """Goes to `at_s` on the container's clock, or a little before; stays at the start where that cannot be done."""
    if stream.time_base:
        with suppress(av.FFmpegError):
            container.seek(int(at_s / stream.time_base), stream=stream)


def _within_length(container: InputContainer, stream: AudioStream, path: Path, is_whole: bool) -> Iterator[AudioFrame]:
    """The frames, held against the length that MP4 and FLAC declare.

    FFmpeg leaves the padding behind an MP4's end, and drops FLAC frames with a wrong checksum without a word.
    """
    num_samples = 0
    is_declared = "mp4" in container.format.name and stream.duration is not None
    end_s = float(start_time(stream) + (stream.duration or 0) * (stream.time_base or 0)) if is_declared else None
    for frame in decode(container, stream, path):
        if end_s is not None and frame.time is not None:
            surplus = frame.samples - round((end_s - frame.time) * frame.sample_rate)
            if frame.samples <= surplus <= _MAX_TAIL_SAMPLES:
                continue
            if 0 < surplus < frame.samples:
                frame = _first_samples(frame, frame.samples - surplus)
        num_samples += frame.samples
        yield frame
    if is_whole and container.format.name == "flac" and stream.duration and stream.time_base:
        read_s, declared_s = num_samples / stream.codec_context.sample_rate, float(stream.duration * stream.time_base)
        if read_s < declared_s - _MAX_LACK_S:
            raise MediaError(
                f"{path} is damaged or truncated: it declares {declared_s:.2f} s and {read_s:.2f} s of that "
                "can be read; copy or export it again"
            )


def _first_samples(frame: AudioFrame, num_samples: int) -> AudioFrame:
    samples = frame.to_ndarray()
    width = num_samples if frame.format.is_planar else num_samples * frame.layout.nb_channels
    cut = AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, :width]), frame.format.name, frame.layout.name)
    cut.sample_rate, cut.pts, cut.time_base = frame.sample_rate, frame.pts, frame.time_base
    return cut


def _make_graph(frame: AudioFrame, resample: str, path: Path) -> Graph:
    graph = Graph()
    try:
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        )
        graph.link_nodes(source, graph.add("aresample", resample), graph.add("abuffersink")).configure()
    except (av.FFmpegError, ValueError) as err:
        form = f"{frame.layout.name}, {frame.format.name}, {frame.sample_rate} Hz"
        raise MediaError(
            f"the sound of {path} ({form}) cannot be converted: {err}; convert it to a stereo wav"
        ) from err
    return graph


def _push(graph: Graph, frame: AudioFrame | None) -> Iterator[np.ndarray]:
    """Feeds a frame, or the end, and takes out what is ready."""
    graph.push(frame)
    while True:
        try:
            block = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield block.to_ndarray()


def _check_samples(block: np.ndarray, path: Path, at_s: float) -> None:
    if not np.isfinite(block).all():
        raise MediaError(f"{path} holds NaN or infinite samples near {at_s:.2f} s; export the recording again")
    peak = float(np.abs(block).max(initial=0.0))
    if peak > _FULL_SCALE_LIMIT:
        raise MediaError(
            f"the samples of {path} reach {peak:.0f} where full scale is 1.0; export it as 16-bit wav, or divide"
        )
