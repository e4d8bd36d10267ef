"""A video file to what it is: size, rates, rotation, sound, checksum; whatever cannot be opened is named, never guessed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from avatar.data.curation.pieces import piece_of
from avatar.data.engines.work import Piece
from avatar.data.manifest import SCHEMA
from avatar.errors import MediaError
from avatar.media import probe_video
from avatar.media.containers import decode, decode_packets, open_container, picture_stream, sound_stream
from avatar.types import DEFAULT_FPS

VERSION = "1"
COLUMNS = pa.schema(
    [
        *(
            SCHEMA.field(name)
            for name in "source_sha256 width_px height_px rotation_deg source_fps is_vfr sample_rate_hz n_channels "
            "media_bytes".split()
        ),
        pa.field("source_duration_s", pa.float64()),
    ]
)
_UNEVEN = 0.25  # an interval this far from the median one is another rate
_UNEVEN_SHARE = 0.01


class ProbeWork:
    """Probes one source per row."""

    key = "source_key"
    outputs: Mapping[str, pa.Schema] = {"probe": COLUMNS}

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, row: Mapping[str, Any]) -> Iterator[str | Piece]:
        yield "probe"
        yield piece_of("probe", lambda: probe(Path(row["source_uri"])))


def probe(path: Path) -> dict[str, Any]:
    """The columns of one file; sizes are of the picture as shown, upright and with square pixels.

    Raises:
        MediaError: it is missing, truncated, no video, or its packets are damaged; or its name is no UTF-8.
    """
    if "\\x" in str(path) and not path.exists():
        raise MediaError(f"the name of {path} is not UTF-8; rename the file")
    info = probe_video(path)
    rotation, times = _packets(path)
    intervals = np.diff(np.unique(times))
    rate_hz, channels = _sound(path) if info.has_audio else (None, 0)
    end_s = float(times.max() - times.min() + np.median(intervals)) if len(intervals) else 1 / DEFAULT_FPS
    return {
        "source_sha256": _sha256(path),
        "width_px": info.width,
        "height_px": info.height,
        "rotation_deg": rotation,
        "source_fps": info.fps,
        "is_vfr": is_uneven(intervals),
        "sample_rate_hz": rate_hz,
        "n_channels": channels,
        "media_bytes": path.stat().st_size,
        "source_duration_s": end_s if len(intervals) else info.duration_s,
    }


def is_uneven(intervals_s: np.ndarray) -> bool:
    """Whether frames come at a varying rate: more than 1 % of the intervals are far from the median one."""
    if len(intervals_s) < 2:
        return False
    median = np.median(intervals_s)
    return bool(np.mean(np.abs(intervals_s - median) > _UNEVEN * median) > _UNEVEN_SHARE)


def _packets(path: Path) -> tuple[int, np.ndarray]:
    """Rotation in degrees counter-clockwise, and the time of every stored frame in seconds; the whole file is read once."""
    with open_container(path, "video") as container:
        stream = picture_stream(container)
        assert stream is not None  # probe_video has seen it
        times = [
            float(packet.pts * packet.time_base)
            for packet in decode_packets(container, stream, path)
            if packet.pts is not None and packet.time_base
        ]
    with open_container(path, "video") as container:
        stream = picture_stream(container)
        assert stream is not None
        rotation = next(decode(container, stream, path)).rotation
    return round(rotation) % 360, np.array(times or [0.0])


def _sound(path: Path) -> tuple[int | None, int]:
    with open_container(path, "video") as container:
        context = sound_stream(container, path).codec_context
        return context.sample_rate, context.channels


@lru_cache(maxsize=4)  # several windows of one source follow each other
def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
