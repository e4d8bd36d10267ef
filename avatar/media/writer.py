"""Frames and a sound to an mp4: H.264 and AAC, encoded in a second thread while the caller renders the next frames."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from avatar.errors import OptionError, OutputError
from avatar.media.containers import EXACT_COLOURS, decoder_words
from avatar.media.files import check_file
from avatar.media.output import check_output, staged
from avatar.media.soundtrack import CopiedSound, EncodedSound, open_soundtrack
from avatar.types import Waveform

DEFAULT_CRF = 18  # visually lossless
DEFAULT_PRESET = "veryfast"
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_BT709 = 1  # H.273's number for the matrix; primaries and transfer are 1 too
_QUEUED_BLOCKS = 2  # one being encoded, two waiting: enough to keep both sides busy
_WAIT_S = 0.1  # how often a waiting side looks whether the other one has failed
_MAX_SIDE_PX = 16_384  # of libx264
# x264 writes down how many threads it had, and its macroblock tree depends on what lay in memory before (docs/decisions.md).
_REPEATABLE = {"threads": "1", "x264-params": "mbtree=0"}


class _Cancelled(Exception):
    """Ends the encoding thread when the caller's side has failed; never seen outside."""


def write_video(
    path: str | Path,
    blocks: Iterator[np.ndarray],
    *,
    fps: float,
    speech: str | Path | Waveform | None,
    overwrite: bool = False,
    crf: int = DEFAULT_CRF,
    preset: str = DEFAULT_PRESET,
    repeatable: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Writes an mp4 as its frames are made; memory does not grow with its length.

    H.264 (yuv420p, BT.709, limited range), the index in front. The sound keeps its own quality: AAC in an mp4, m4a or
    mov is copied, anything else is encoded at its own rate with its own channels (three to five become stereo, six and
    more 5.1). It is cut, or continued with silence, to the picture's length. The file appears whole or not at all.

    Args:
        path: a name ending in .mp4.
        blocks: (T, H, W, 3) uint8 RGB, any T, H and W even and the same throughout. A block belongs to the writer once
            yielded: it may not be changed afterwards.
        fps: frames per second.
        speech: a sound file, a video whose sound is taken, a waveform, or None for a silent video.
        overwrite: whether an existing file may be replaced.
        crf: H.264 quality, 0 (lossless) to 51.
        preset: speed of libx264, "ultrafast" to "veryslow".
        repeatable: whether the same frames must give the same bytes, each time and on every machine; slower and larger.
        progress: told the number of frames handed over so far, in the caller's thread.

    Returns:
        The path.

    Raises:
        OptionError: an ending, rate, quality, preset, or frames of another kind than accepted.
        OutputError: the file cannot be written.
        MediaError: the sound cannot be read.
        Exception: whatever `blocks` raises.
    """
    if not 0 < fps <= 1000:
        raise OptionError(f"fps must be above 0 and at most 1000, not {fps}")
    if not 0 <= crf <= 51:
        raise OptionError(f"crf must be 0 (lossless) to 51, not {crf}")
    if preset not in _PRESETS:
        raise OptionError(f"no preset is called {preset!r}; accepted: {', '.join(_PRESETS)}")
    path = check_output(path, overwrite)
    sound = speech if isinstance(speech, Waveform) or speech is None else check_file(speech, "sound")
    with staged(path, overwrite) as name:
        rate = Fraction(fps).limit_denominator(1001)
        options = {"crf": str(crf), "preset": preset} | (_REPEATABLE if repeatable else {})
        encoder = _Encoder(name, path, rate, sound, options)
        _hand_over(blocks, encoder, progress)
    return path


def _hand_over(blocks: Iterator[np.ndarray], encoder: _Encoder, progress: Callable[[int], None] | None) -> None:
    """Feeds the encoding thread; a failure on either side, Ctrl-C included, ends both and is raised here."""
    waiting: queue.Queue[np.ndarray | None] = queue.Queue(_QUEUED_BLOCKS)
    cancelled = threading.Event()
    size: tuple[int, ...] | None = None
    num_frames = 0
    with ThreadPoolExecutor(1, thread_name_prefix="avatar-encoder") as pool, ExitStack() as stack:
        stack.callback(cancelled.set)  # on success the thread has ended by then
        done = pool.submit(encoder.encode, _taken(waiting, cancelled))
        for block in blocks:
            size = _check_block(block, size)
            _put(waiting, block, done)
            num_frames += len(block)
            if progress is not None:
                progress(num_frames)
        if not num_frames:
            raise OptionError("a video needs at least one frame; the iterator of blocks gave none")
        _put(waiting, None, done)
        done.result()


def _put(waiting: queue.Queue[np.ndarray | None], block: np.ndarray | None, done: Future[None]) -> None:
    while True:
        if done.done():
            done.result()  # raises what the encoder raised
        try:
            return waiting.put(block, timeout=_WAIT_S)
        except queue.Full:
            continue


def _taken(waiting: queue.Queue[np.ndarray | None], cancelled: threading.Event) -> Iterator[np.ndarray]:
    while True:
        if cancelled.is_set():
            raise _Cancelled
        try:
            block = waiting.get(timeout=_WAIT_S)
        except queue.Empty:
            continue
        if block is None:
            return
        yield block


def _check_block(block: np.ndarray, size: tuple[int, ...] | None) -> tuple[int, ...]:
    if block.ndim != 4 or block.shape[3] != 3 or block.dtype != np.uint8:
        raise OptionError(f"frames come in blocks (T, H, W, 3) uint8, not {block.shape} {block.dtype}")
    height, width = block.shape[1:3]
    if height % 2 or width % 2 or not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX):
        raise OptionError(
            f"H.264 needs even sides from 2 to {_MAX_SIDE_PX:,} px, not {width}x{height}; crop or pad by one pixel"
        )
    if size is not None and size != block.shape[1:]:
        raise OptionError(f"all frames must have one size: {size[1]}x{size[0]} came first, then {width}x{height}")
    return block.shape[1:]


class _Encoder:
    """Everything that the second thread does: opening, converting, encoding, interleaving, closing."""

    def __init__(
        self, name: str, path: Path, fps: Fraction, speech: Path | Waveform | None, options: dict[str, str]
    ) -> None:
        self._name, self._path, self._fps, self._speech, self._options = name, path, fps, speech, options
        self._reformatter = VideoReformatter()

    def encode(self, blocks: Iterator[np.ndarray]) -> None:
        """Writes the whole file.

        Raises:
            OutputError: FFmpeg could not write; MediaError: the sound could not be read.
        """
        try:
            with ExitStack() as stack:
                self._encode(blocks, stack)
        except av.FFmpegError as err:
            hint = "free some space or choose another folder" if err.errno == errno.ENOSPC else "choose another folder"
            raise OutputError(f"{self._path} cannot be written: {decoder_words(err)}; {hint}") from err

    def _encode(self, blocks: Iterator[np.ndarray], stack: ExitStack) -> None:
        container = av.open(self._name, "w", format="mp4", options={"movflags": "+faststart"})
        half_made = stack.enter_context(ExitStack())
        half_made.callback(_close_quietly, container)
        video: VideoStream | None = None
        sound: EncodedSound | CopiedSound | None = None
        num_frames = 0
        for block in blocks:
            if video is None:
                video = self._add_video(container, *block.shape[1:3])
                sound = open_soundtrack(container, self._speech, stack) if self._speech is not None else None
            for image in block:
                container.mux(video.encode(self._to_frame(image, num_frames)))
                num_frames += 1
                if sound is not None:
                    sound.write_until(float(num_frames / self._fps))
        if video is None:
            return  # the caller's side reports it
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish(float(num_frames / self._fps))
        half_made.pop_all()
        container.close()  # writes the index, so it too may find the disk full

    def _add_video(self, container: OutputContainer, height: int, width: int) -> VideoStream:
        stream = container.add_stream("libx264", rate=self._fps, options=self._options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self._fps
        context.color_range, context.colorspace = ColorRange.MPEG, _BT709
        context.color_primaries, context.color_trc = _BT709, _BT709
        return stream

    def _to_frame(self, image: np.ndarray, index: int) -> VideoFrame:
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._reformatter.reformat(
            rgb,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=EXACT_COLOURS,
        )
        frame.pts, frame.time_base = index, 1 / self._fps
        return frame


def _close_quietly(container: OutputContainer) -> None:
    with suppress(av.FFmpegError, ValueError):  # it is thrown away; the first error is the one to report
        container.close()
