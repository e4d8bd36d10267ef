"""Clips of all systems to files that look alike from outside: one codec, size, rate, length, loudness and number of bytes."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.packet import Packet

from avatar.audio.loudness import integrated_loudness, with_loudness
from avatar.errors import OptionError
from avatar.media import VideoInfo, probe_video, read_picture, read_video, read_waveform, write_picture, write_video
from avatar.study.spec import MediaSpec
from avatar.types import Waveform

SAMPLE_RATE_HZ = 48_000
SHIFT_S = 0.4  # of the trap's sound behind the lips; ITU-R BT.1359 has 0.185 s as no longer acceptable
MAX_LENGTH_GAP_S = 0.121  # three frames at 25 per second: what encoders add and drop
MAX_ASPECT_GAP = 0.02
PORTRAIT_PX = 512
_PRESET = "medium"
_BLOCK_FRAMES = 16
_SIZE_STEP_BYTES = 1 << 16
_LEAST_NOISE_BYTES = 40  # an identifier of 16 and what a message needs around it
_STRIPPED_BOXES = (b"udta", b"meta")  # where FFmpeg names itself


@dataclass(frozen=True)
class Source:
    """One clip as a system made it.

    Attributes:
        system, item: whose and of what.
        path: the video.
        info: its size, rate and length.
        sound: the file whose sound is heard.
    """

    system: str
    item: str
    path: Path
    info: VideoInfo
    sound: Path


@dataclass(frozen=True)
class Target:
    """What all clips of one item become.

    Attributes:
        width_px, height_px: even.
        num_frames: of each.
    """

    width_px: int
    height_px: int
    num_frames: int


def find_source(system: str, item: str, path: Path, speech: Path | None, sound: str) -> Source:
    """Looks at a clip.

    Args:
        system, item: whose and of what.
        path: the video.
        speech: the item's.
        sound: "speech" or "own"; without speech always its own.

    Raises:
        MediaError: it cannot be read.
        OptionError: there is nothing to hear.
    """
    info = probe_video(path)
    heard = speech if sound == "speech" and speech is not None else path
    if heard is path and not info.has_audio:
        raise OptionError(
            f"the clip {path} of system {system} has no sound; give item {item} a speech file with media.sound = "
            '"speech", or a clip with sound'
        )
    return Source(system, item, path, info, heard)


def common_target(sources: list[Source], media: MediaSpec) -> Target:
    """The size and length that all clips of one item get.

    Raises:
        OptionError: lengths, shapes or sizes differ so much that cutting or scaling would tell systems apart.
    """
    item = sources[0].item
    shortest = min(sources, key=lambda source: source.info.duration_s)
    longest = max(sources, key=lambda source: source.info.duration_s)
    gap_s = longest.info.duration_s - shortest.info.duration_s
    if gap_s > MAX_LENGTH_GAP_S:
        raise OptionError(
            f"the clips of item {item} differ in length: {_length(longest)}, {_length(shortest)}; up to "
            f"{MAX_LENGTH_GAP_S:.2f} s is cut: cut them alike"
        )
    aspects = {source: source.info.width / source.info.height for source in sources}
    widest, narrowest = max(sources, key=lambda s: aspects[s]), min(sources, key=lambda s: aspects[s])
    if aspects[widest] / aspects[narrowest] > 1 + MAX_ASPECT_GAP:
        raise OptionError(
            f"the clips of item {item} differ in shape: {_size(widest)}, {_size(narrowest)}; crop them alike"
        )
    largest, smallest = max(sources, key=_side), min(sources, key=_side)
    if _side(largest) > media.max_scale * _side(smallest):
        raise OptionError(
            f"the clips of item {item} differ in size: {_size(largest)}, {_size(smallest)}; scaled to one size the blur would tell "
            f"them apart: make them alike, or raise media.max_scale ({media.max_scale:g})"
        )
    reference = largest.info
    scale = media.size_px / max(reference.width, reference.height)
    width_px, height_px = (max(2, 2 * round(side * scale / 2)) for side in (reference.width, reference.height))
    num_frames = math.floor(shortest.info.duration_s * media.fps + 0.25)
    return Target(width_px, height_px, max(1, num_frames))


def write_clip(source: Source, target: Target, media: MediaSpec, path: Path, trap: str | None = None) -> None:
    """Writes one clip in the common form.

    Args:
        source: the clip.
        target: of its item.
        media: rate, quality, loudness.
        path: of the mp4.
        trap: "muted" or "shifted": the sound is silence, or comes `SHIFT_S` late.

    Raises:
        MediaError: the clip or its sound cannot be read.
        OptionError: the sound is silent.
        OutputError: the file cannot be written.
    """
    sound = _sound(source, target.num_frames / media.fps, media.loudness_lufs, trap)
    blocks = _blocks(source, target, media.fps)
    write_video(
        path, blocks, fps=media.fps, speech=sound, overwrite=True, crf=media.crf, preset=_PRESET, repeatable=True
    )
    _strip(path)


def write_portrait(picture: Path, path: Path) -> None:
    """A portrait as a jpg without metadata, `PORTRAIT_PX` on its longer side at most."""
    image = read_picture(picture)
    scale = min(1.0, PORTRAIT_PX / max(image.shape[:2]))
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    write_picture(path, image)


def frame_sizes(paths: Sequence[Path]) -> list[int]:
    """The bytes that each coded frame gets in all clips of an item, so that sizes and bit rates say nothing.

    Args:
        paths: as `write_clip` wrote them, with equally many frames.
    """
    sizes = []
    for path in paths:
        with av.open(str(path)) as container:
            sizes.append([packet.size for packet in container.demux(video=0) if packet.size])
    return [max(frame) + _LEAST_NOISE_BYTES for frame in zip(*sizes, strict=True)]


def copy_stuffed(path: Path, out: Path, sizes: Sequence[int], salt: bytes) -> None:
    """Copies a clip with noise in front of every coded frame, in a message that decoders skip.

    Args:
        path: as `write_clip` wrote it.
        out: the copy.
        sizes: bytes of each frame, from `frame_sizes`.
        salt: decides the noise, so that two copies of one clip differ from the first frame on.

    Source: ITU-T H.264, D.1.7 (user_data_unregistered); not filler data, which x264 will not write into mp4.
    """
    noise = _noise(salt)
    with av.open(str(path)) as source, av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as copy:
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
        frames = iter(sizes)
        for packet in source.demux():
            if packet.dts is None:
                continue
            data = bytes(packet)
            if packet.stream.type == "video":
                data = _message(next(frames) - len(data), noise) + data
            new = Packet(data)
            new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
            new.is_keyframe, new.stream = packet.is_keyframe, streams[packet.stream.index]
            copy.mux(new)
    _strip(out)


def padded_size(num_bytes: int) -> int:
    """The number of bytes to which all files of an item are brought, for the largest of them."""
    return -(-(num_bytes + 1) // _SIZE_STEP_BYTES) * _SIZE_STEP_BYTES


def pad(path: Path, num_bytes: int, salt: bytes) -> None:
    """Brings a file to a number of bytes with noise behind its last frame, where players do not look.

    Args:
        path: an mp4 whose data come last, as `copy_stuffed` writes it; changed in place.
        num_bytes: of the result.
        salt: decides the noise.
    """
    clip = path.read_bytes()
    at = 0
    while True:
        size, kind = struct.unpack_from(">I4s", clip, at)
        if kind == b"mdat":
            break
        at += size
    assert at + size == len(clip), "the index stands in front and one mdat ends the file (movflags +faststart)"
    lacking = num_bytes - len(clip)
    path.write_bytes(clip[:at] + struct.pack(">I", size + lacking) + clip[at + 4 :] + _noise(salt).bytes(lacking))


def _noise(salt: bytes) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(salt).digest(), "big")))


def _message(num_bytes: int, noise: np.random.Generator) -> bytes:
    """An SEI unit of exactly so many bytes, its length in front as mp4 has it; no byte of noise is 0, so none needs escaping."""
    room = num_bytes - 4 - 1 - 1  # without the length, the unit's type and the stop bit
    rooms = [room] if (room - 2) % 256 != 255 else [room - 20, 20]  # no single message has that length
    messages = b"".join(_noise_message(part, noise) for part in rooms)
    return struct.pack(">I", num_bytes - 4) + b"\x06" + messages + b"\x80"


def _noise_message(num_bytes: int, noise: np.random.Generator) -> bytes:
    """Type 5, its length in steps of 255, and bytes that nobody reads."""
    count = num_bytes - 2 - (num_bytes - 2) // 256
    length = b"\xff" * (count // 255) + bytes([count % 255])
    return b"\x05" + length + noise.integers(1, 256, count, np.uint8).tobytes()


def _sound(source: Source, duration_s: float, loudness_lufs: float, trap: str | None) -> Waveform:
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    if trap == "muted":
        return Waveform(np.zeros(num_samples, np.float32), SAMPLE_RATE_HZ)
    samples = read_waveform(source.sound, SAMPLE_RATE_HZ).samples[:num_samples]
    if trap == "shifted":
        samples = np.concatenate([np.zeros(round(SHIFT_S * SAMPLE_RATE_HZ), np.float32), samples])[:num_samples]
    samples = np.pad(samples, (0, num_samples - len(samples)))
    heard = Waveform(samples, SAMPLE_RATE_HZ)
    if math.isinf(integrated_loudness(heard)):
        raise OptionError(
            f"{source.sound}, the sound of item {source.item} and system {source.system}, is silent or shorter than 0.4 s"
        )
    return Waveform(np.clip(with_loudness(heard, loudness_lufs).samples, -1.0, 1.0), SAMPLE_RATE_HZ)


def _blocks(source: Source, target: Target, fps: float) -> Iterator[np.ndarray]:
    """The first frames at the target's size; the last one stays where a frame is lacking."""
    block: list[np.ndarray] = []
    count, last = 0, None
    for frame in read_video(source.path, fps):
        last = _resized(frame, target)
        block.append(last)
        count += 1
        if len(block) == _BLOCK_FRAMES or count == target.num_frames:
            yield np.stack(block)
            block = []
        if count == target.num_frames:
            return
    assert last is not None, "read_video gives one frame at least"
    yield np.stack([*block, *[last] * (target.num_frames - count)])


def _resized(frame: np.ndarray, target: Target) -> np.ndarray:
    if frame.shape[:2] == (target.height_px, target.width_px):
        return frame
    is_smaller = target.width_px < frame.shape[1]
    interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC
    return cv2.resize(frame, (target.width_px, target.height_px), interpolation=interpolation)


def _strip(path: Path) -> None:
    """Blanks the boxes that name the encoder's version; their room stays, so nothing else moves."""
    data = bytearray(path.read_bytes())
    _blank(data, 0, len(data))
    path.write_bytes(data)


def _blank(data: bytearray, at: int, end: int) -> None:
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        if kind in _STRIPPED_BOXES:
            data[at + 4 : at + 8] = b"free"
            data[at + 8 : at + size] = bytes(size - 8)
        elif kind in (b"moov", b"trak"):
            _blank(data, at + 8, at + size)
        at += size


def _side(source: Source) -> int:
    return max(source.info.width, source.info.height)


def _length(source: Source) -> str:
    return f"{source.info.duration_s:.2f} s from {source.system}"


def _size(source: Source) -> str:
    return f"{source.info.width}x{source.info.height} px from {source.system}"
