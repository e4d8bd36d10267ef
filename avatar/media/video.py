"""Video files to upright RGB frames at a constant rate."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from avatar.errors import MediaError, OptionError
from avatar.media.containers import EXACT_COLOURS, VIDEO_FORMATS, decode, decoder_words, open_container, picture_stream
from avatar.media.files import describe_content
from avatar.types import DEFAULT_FPS

_UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
_TIE_S = 1e-6  # halfway between two frames the earlier one is shown, however the floats round
_WORTH_SEEKING_S = 1.0
_HD_HEIGHT_PX = 720  # untagged video of this height or more is BT.709 by convention, smaller is BT.601


@dataclass(frozen=True)
class VideoInfo:
    """What a video file is.

    Attributes:
        width, height: px as shown: upright, with square pixels.
        fps: average frames per second as stored.
        duration_s: seconds of moving picture; FFmpeg's estimate where the file does not say (mpg).
        num_frames: as stored; None where the file does not say.
        has_audio: whether it has a sound track.
    """

    width: int
    height: int
    fps: float
    duration_s: float
    num_frames: int | None
    has_audio: bool


def probe_video(path: str | Path) -> VideoInfo:
    """Size, rate and length of a video; decodes one frame, for the rotation.

    Raises:
        MediaError: the file cannot be opened, holds no moving picture, or its first frame is damaged.
    """
    path = Path(path)
    with open_container(path, "video") as container:
        stream = _moving_picture(container, path)
        num_frames = stream.frames or None
        fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
        seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if seconds is None and container.duration:
            seconds = Fraction(container.duration, av.time_base)
        first = next(decode(container, stream, path), None)
        if first is None:
            raise MediaError(f"{path} holds no frame; give a video with at least one")
        width, height = _shown_size(first, stream)
        if first.rotation % 180:
            width, height = height, width
        duration_s = float(seconds) if seconds else (num_frames or 1) / fps
        return VideoInfo(width, height, fps, duration_s, num_frames, has_audio=bool(container.streams.audio))


def read_video(
    path: str | Path,
    fps: float = DEFAULT_FPS,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    max_side_px: int | None = None,
) -> Iterator[np.ndarray]:
    """The frames of a video, resampled by their timestamps to a constant rate.

    Output frame k is the stored frame nearest to k / fps seconds after the first one. Rotation metadata is applied,
    non-square pixels are made square, and the colours follow the file's own tags. The sound that `read_waveform` gives
    for the same file and window starts with the first frame.

    Args:
        path: mp4, mov, mkv, webm, mpg or avi.
        fps: frames per second of the result.
        start_s, end_s: a window, rounded to frames of the result; None: to the end. What lies before it is not decoded,
            but for the group of pictures in which it starts, where the file can be sought in.
        max_side_px: scales frames whose longer side is more than this down to it; None leaves them.

    Returns:
        An iterator of (H, W, 3) uint8 RGB frames, decoded as they are asked for; none where the window lies behind the end.

    Raises:
        MediaError: at once where the file cannot be read or has no moving picture; from the iterator where it is
            damaged.
        OptionError: fps is not positive, or the window is empty.
    """
    if not fps > 0:
        raise OptionError(f"fps must be positive, not {fps}")
    first, last = round(start_s * fps), sys.maxsize if end_s is None else round(end_s * fps)
    if first < 0 or last <= first:
        raise OptionError(f"the window from {start_s} to {end_s} s holds no frame; it is start_s < end_s, from 0 on")
    path = Path(path)
    with open_container(path, "video") as container:
        _moving_picture(container, path)
    return (frame for _, frame in _read_frames(path, fps, range(first, last), max_side_px))


def read_video_frames(path: str | Path, indices: Iterable[int], fps: float = DEFAULT_FPS) -> dict[int, np.ndarray]:
    """Some frames of `read_video(path, fps)` by their index, (H, W, 3) uint8 RGB; those behind the end are left out.

    Raises:
        MediaError: the file cannot be read, or is damaged up to the last of them.
    """
    wanted = frozenset(indices)
    if not wanted:
        return {}
    return dict(_read_frames(Path(path), fps, range(min(wanted), max(wanted) + 1), wanted=wanted))


def _read_frames(
    path: Path, fps: float, indices: range, max_side_px: int | None = None, wanted: Container[int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """(index, frame) for the indices, or for those of them that are wanted."""
    with ExitStack() as stack:
        stream, frames, zero_s = _frames_from(stack, path, (indices.start - 1) / fps)
        reformatter = VideoReformatter()
        converted: tuple[VideoFrame, np.ndarray] | None = None
        for index, frame in _at_constant_rate(_timed(frames, stream, zero_s), fps, indices):
            if wanted is not None and index not in wanted:
                continue
            if converted is None or converted[0] is not frame:
                converted = frame, _to_rgb(frame, stream, reformatter, path, max_side_px)
            yield index, converted[1]
        if converted is None and not indices.start:
            raise MediaError(f"{path} holds no frame; give a video with at least one")


def _frames_from(
    stack: ExitStack, path: Path, start_s: float
) -> tuple[VideoStream, Iterator[VideoFrame], float | None]:
    """The stream, its frames from `start_s` or earlier, and the first frame's time where the file was sought in."""
    container = stack.enter_context(open_container(path, "video"))
    stream = _moving_picture(container, path)
    if start_s < _WORTH_SEEKING_S:
        return stream, decode(container, stream, path), None
    first = next(decode(container, stream, path), None)
    if first is not None and first.time is not None and stream.time_base:
        try:
            container.seek(int((start_s + first.time) / stream.time_base), stream=stream)
            frames = decode(container, stream, path)
            found = next(frames, None)
        except (av.FFmpegError, MediaError):
            found = None
        if found is not None and found.time is not None and found.time - first.time <= start_s:
            return stream, itertools.chain([found], frames), first.time
    container = stack.enter_context(open_container(path, "video"))  # it cannot be sought in: from the start
    stream = _moving_picture(container, path)
    return stream, decode(container, stream, path), None


def _timed(
    frames: Iterator[VideoFrame], stream: VideoStream, zero_s: float | None
) -> Iterator[tuple[float, float, VideoFrame]]:
    """(start, end, frame), seconds from the first frame, rising; a frame without a time follows its predecessor."""
    period_s = 1 / float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
    start_s, end_s = -1.0, 0.0
    for frame in frames:
        if zero_s is None:
            zero_s = frame.time or 0.0
        at_s = frame.time - zero_s if frame.time is not None else end_s
        if at_s <= start_s:
            continue
        length_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else period_s
        start_s, end_s = at_s, at_s + length_s
        yield start_s, end_s, frame


def _at_constant_rate(
    timed: Iterator[tuple[float, float, VideoFrame]], fps: float, indices: range
) -> Iterator[tuple[int, VideoFrame]]:
    """For each index k the frame whose start is nearest to k / fps, until the last frame's end, rounded."""
    index = indices.start
    held, end_s = None, 0.0
    for start_s, next_end_s, frame in timed:
        if held is not None:
            held_start_s, held_frame = held
            while index / fps - held_start_s <= start_s - index / fps + _TIE_S:  # not nearer to the new frame
                if index >= indices.stop:
                    return
                yield index, held_frame
                index += 1
        held, end_s = (start_s, frame), next_end_s
    while held is not None and index < min(indices.stop, max(1, round(end_s * fps))):
        yield index, held[1]
        index += 1


def _moving_picture(container: InputContainer, path: Path) -> VideoStream:
    stream = picture_stream(container)
    if stream is None:
        raise MediaError(
            f"{path} holds no moving picture (its content looks like {describe_content(path)}); "
            f"accepted: {VIDEO_FORMATS}"
        )
    if stream.codec_context is None:
        raise MediaError(f"the picture of {path} is in a codec that cannot be decoded; convert it to H.264 in mp4")
    return stream


def _shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    aspect = stream.sample_aspect_ratio
    return (max(1, round(frame.width * aspect)) if aspect else frame.width), frame.height


def _to_rgb(
    frame: VideoFrame, stream: VideoStream, reformatter: VideoReformatter, path: Path, max_side_px: int | None
) -> np.ndarray:
    width, height = _shown_size(frame, stream)
    colorspace = None
    if frame.colorspace == _UNSPECIFIED_COLORSPACE:
        colorspace = Colorspace.ITU709 if min(width, height) >= _HD_HEIGHT_PX else Colorspace.ITU601
    if max_side_px is not None and max(width, height) > max_side_px:
        factor = max_side_px / max(width, height)
        width, height = max(1, round(width * factor)), max(1, round(height * factor))
    try:
        shown = reformatter.reformat(
            frame, width, height, "rgb24", src_colorspace=colorspace, interpolation=EXACT_COLOURS
        )
        rgb = shown.to_ndarray()
    except (av.FFmpegError, ValueError) as err:
        raise MediaError(f"{path} has frames that cannot be shown ({frame.format.name}): {decoder_words(err)}") from err
    quarter_turns = round(frame.rotation / 90) % 4  # FFmpeg's angle is counter-clockwise, and so is numpy's
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb
