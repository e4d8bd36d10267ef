"""A path to a verdict: is it a file that can be read, and does it hold all the bytes its own header promises?

Decoders stop quietly at the end of a cut file, so half a recording would pass for a whole one. The headers of WAV, MP3,
Ogg, MP4 and Matroska say how long the file should be; FLAC and MPEG are noticed while decoding (see containers.py).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from avatar.errors import MediaError

_HEAD_BYTES = 64
_MATROSKA_SEGMENT_ID = b"\x18\x53\x80\x67"
# A program that writes WAV into a pipe cannot know the length and leaves 0 or a huge number (espeak-ng: 0x7ffff000).
_OPEN_ENDED_WAV_BYTES = 0x7FFF_0000

_MP4_BOXES = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"moof",
    b"free",
    b"skip",
    b"wide",
    b"udta",
    b"meta",
    b"sidx",
    b"styp",
    b"uuid",
)
_MP3_KILOBITS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_ANY = ord(".")
_SIGNATURES = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF....WEBP", "a WebP picture"),
    (b"....ftypheic", "a HEIC picture"),
    (b"....ftypmif1", "a HEIF picture"),
    (b"....ftypavif", "an AVIF picture"),
    (b"RIFF....WAVE", "a WAV sound"),
    (b"ID3", "an MP3 sound"),
    (b"\xff\xfb", "an MP3 sound"),
    (b"fLaC", "a FLAC sound"),
    (b"OggS", "an Ogg sound"),
    (b"....ftypM4A", "an M4A sound"),
    (b"....ftyp", "an MP4 or QuickTime video"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"<svg", "an SVG drawing"),
)


def check_file(path: str | Path, kind: str) -> Path:
    """Checks that a path names a non-empty file that may be read.

    Args:
        path: what the user gave.
        kind: what it should hold, for the message: "picture", "sound" or "video".

    Raises:
        MediaError: it is missing, a folder, not a regular file, empty, or may not be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; give one {kind} file")
        if not path.exists():
            raise MediaError(f"there is no file {path}; give the path of a {kind} file")
        if not path.is_file():
            raise MediaError(f"{path} is not a regular file; give a {kind} file on disk")
        with path.open("rb") as file:
            if not file.read(1):
                raise MediaError(f"{path} is empty (0 bytes); give a {kind} file with content")
    except PermissionError as err:
        raise MediaError(f"{path} may not be read: {err.strerror}; change its permissions") from err
    except (OSError, ValueError) as err:  # ValueError: a zero byte in the name
        raise MediaError(f"{path} cannot be read: {err}") from err
    return path


def describe_content(path: Path) -> str:
    """What the first bytes of a file look like, "text" or "a PNG picture" for instance; "unknown data" otherwise."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for signature, name in _SIGNATURES:
        begins = head[: len(signature)]
        if len(begins) == len(signature) and all(w in (_ANY, b) for w, b in zip(signature, begins, strict=True)):
            return name
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return "unknown data"
    return "text" if all(char.isprintable() or char.isspace() for char in text) else "unknown data"


def missing_bytes(path: Path, container: str) -> int:
    """How many bytes a sound or video file lacks by its own header; 0 where it is whole or its header does not say.

    Args:
        path: a readable file.
        container: FFmpeg's name of the format, such as "wav" or "matroska,webm".

    Source: RFC 9559 (Matroska), RFC 3533 (Ogg), ISO/IEC 14496-12 (MP4), ISO/IEC 11172-3 and LAME's Xing header (MP3).
    """
    for name, measure in _MEASURES.items():
        if name in container.split(","):
            return max(0, measure(path) - path.stat().st_size)
    return 0


def _wav_length(path: Path) -> int:
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":  # RF64 and others keep their length elsewhere
            return 0
        position = 12
        while len(header := _read_at(path, position, 8)) == 8:
            name, length = header[:4], struct.unpack("<I", header[4:])[0]
            if name == b"data":
                return 0 if length >= _OPEN_ENDED_WAV_BYTES else position + 8 + length
            position += 8 + length + length % 2
    return 0


def _mp3_length(path: Path) -> int:
    start = 0
    while (tag := _read_at(path, start, 10))[:3] == b"ID3" and len(tag) == 10:
        start += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    frame = _read_at(path, start, 192)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0:
        return _mp3_last_frame_end(path, start)
    flags = struct.unpack(">I", frame[at + 4 : at + 8])[0]
    counts = struct.unpack(">II", frame[at + 8 : at + 16])
    has_frames, has_bytes = flags & 1, flags & 2
    return start + counts[1 if has_frames else 0] if has_bytes else 0


def _mp3_last_frame_end(path: Path, position: int) -> int:
    """Walks from frame to frame, as long as there are frames; layer III only."""
    with path.open("rb") as file:
        while True:
            file.seek(position)
            header = int.from_bytes(file.read(4), "big")
            version, layer, rate = header >> 19 & 3, header >> 17 & 3, header >> 10 & 3
            if header >> 21 != 0x7FF or version == 1 or layer != 1 or rate == 3 or header >> 12 & 15 in (0, 15):
                return position
            is_mpeg1 = version == 3
            kilobits = _MP3_KILOBITS[is_mpeg1][(header >> 12 & 15) - 1]
            sample_rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
            position += (144_000 if is_mpeg1 else 72_000) * kilobits // sample_rate_hz + (header >> 9 & 1)


def _mp4_length(path: Path) -> int:
    position = 0
    while len(header := _read_at(path, position, 16)) == 16 and header[4:8] in _MP4_BOXES:
        size = int.from_bytes(header[:4], "big")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:  # 0: to the end of the file
            return 0
        position += size
    return position


def _ogg_length(path: Path) -> int:
    tail_start = max(0, path.stat().st_size - 2 * 65_307)  # a page is at most 65,307 bytes
    tail = _read_at(path, tail_start, 2 * 65_307)
    page = tail.rfind(b"OggS")
    if page < 0:
        return 0
    if len(tail) < page + 27 or len(tail) < page + 27 + tail[page + 26]:
        return tail_start + len(tail) + 1
    num_segments = tail[page + 26]
    segments = tail[page + 27 : page + 27 + num_segments]
    return tail_start + page + 27 + num_segments + sum(segments)


def _matroska_length(path: Path) -> int:
    head = _read_at(path, 0, 4096)
    at = head.find(_MATROSKA_SEGMENT_ID) + len(_MATROSKA_SEGMENT_ID)
    if at < len(_MATROSKA_SEGMENT_ID) or at >= len(head) or not head[at]:
        return 0
    num_size_bytes = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + num_size_bytes], "big") & ((1 << 7 * num_size_bytes) - 1)
    is_open_ended = size == (1 << 7 * num_size_bytes) - 1
    return 0 if is_open_ended else at + num_size_bytes + size


_MEASURES = {
    "wav": _wav_length,
    "mp3": _mp3_length,
    "ogg": _ogg_length,
    "mp4": _mp4_length,
    "matroska": _matroska_length,
}


def _read_at(path: Path, position: int, num_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(position, os.SEEK_SET)
        return file.read(num_bytes)
