"""A source to its shots: PySceneDetect finds the cuts, a second check the dissolves; flashes and pans are not cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from avatar.audio.voice_activity import speech_activity
from avatar.data.curation.dissolves import find_dissolves, thumbnail
from avatar.data.curation.pieces import piece_of
from avatar.data.engines.work import Piece
from avatar.errors import MissingDependencyError
from avatar.media import iter_waveform, read_video
from avatar.types import DEFAULT_FPS

VERSION = "1"
_FRAMES = pa.list_(pa.int32())
COLUMNS = pa.schema(
    [
        pa.field(
            "shot_first_frames", _FRAMES, metadata={"doc": "at 25 fps, from the first frame of the source, trimmed"}
        ),
        pa.field("shot_last_frames", _FRAMES, metadata={"doc": "one after the last frame of each shot"}),
        pa.field("cut_frames", _FRAMES),
        pa.field("dissolve_first_frames", _FRAMES),
        pa.field("dissolve_last_frames", _FRAMES),
        pa.field("pauses_s", pa.list_(pa.float64()), metadata={"doc": "middles of the places where nobody speaks"}),
    ]
)
_SIDE_PX = 256
_FLASH_FRAMES = (3, 6)  # a flash is over by then
_FLASH_SHARE = 0.35  # of the change into it: what is left of it afterwards
_LEAST_PAUSE_S = 0.16
_PIECE_S = 60.0  # sound is read in pieces of this length
_ACTIVITY_HZ = 50.0


@dataclass(frozen=True)
class ShotSettings:
    """`[shots]` of the configuration.

    Attributes:
        threshold, min_content: of PySceneDetect's AdaptiveDetector.
        min_shot_frames: what is shorter after trimming is part of a transition.
        trim_frames: taken off a shot at each end where a transition is.
        dissolves: whether the second check is made.
    """

    threshold: float = 3.0
    min_content: float = 15.0
    min_shot_frames: int = 8
    trim_frames: int = 4
    dissolves: bool = True


@dataclass(frozen=True)
class Shots:
    """What a source falls into, frames at 25 fps.

    Attributes:
        spans: (first, one after the last) of each shot, trimmed.
        cuts: first frames of new shots.
        dissolves: (first, last) of each.
    """

    spans: list[tuple[int, int]]
    cuts: list[int]
    dissolves: list[tuple[int, int]]


class ShotsWork:
    """Finds the shots of one source per row."""

    key = "source_key"
    outputs: Mapping[str, pa.Schema] = {"shots": COLUMNS}

    def __init__(self, settings: ShotSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        """Raises MissingDependencyError where PySceneDetect is not installed."""
        _detector(self._settings)

    def run(self, row: Mapping[str, Any]) -> Iterator[str | Piece]:
        yield "shots"
        yield piece_of("shots", lambda: self._measure(row))

    def _measure(self, row: Mapping[str, Any]) -> dict[str, Any]:
        path, start_s, end_s = Path(row["source_uri"]), row["window_start_s"] or 0.0, row["window_end_s"]
        shots = find_shots(read_video(path, start_s=start_s, end_s=end_s, max_side_px=_SIDE_PX), self._settings)
        first = round(start_s * DEFAULT_FPS)
        return {
            "shot_first_frames": [first + a for a, _ in shots.spans],
            "shot_last_frames": [first + b for _, b in shots.spans],
            "cut_frames": [first + cut for cut in shots.cuts],
            "dissolve_first_frames": [first + a for a, _ in shots.dissolves],
            "dissolve_last_frames": [first + b for _, b in shots.dissolves],
            "pauses_s": find_pauses(path) if row["n_channels"] else [],
        }


def find_shots(frames: Iterator[np.ndarray], settings: ShotSettings | None = None) -> Shots:
    """The shots of a video.

    Args:
        frames: (H, W, 3) uint8 RGB at 25 fps; small ones will do.
        settings: None: the defaults.
    """
    settings = settings or ShotSettings()
    detector = _detector(settings)
    thumbnails: list[np.ndarray] = []
    distinct: list[int] = []  # PySceneDetect takes repeated frames for stillness, and the next new one for a cut
    cuts: list[int] = []
    before: np.ndarray | None = None
    for index, frame in enumerate(frames):
        if frame is before:
            thumbnails.append(thumbnails[-1])
            continue
        before = frame
        found = detector.process_frame(len(distinct), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        distinct.append(index)
        cuts += [distinct[number] for number in found]
        thumbnails.append(thumbnail(frame))
    pictures = np.stack(thumbnails)
    cuts = [cut for cut in cuts if not _is_flash(pictures, cut)]
    dissolves = _dissolves(pictures, cuts) if settings.dissolves else []
    cuts = [cut for cut in cuts if not any(first <= cut <= last + 1 for first, last in dissolves)]
    return Shots(_spans(len(pictures), cuts, dissolves, settings), cuts, dissolves)


def find_pauses(path: Path) -> list[float]:
    """The middle of every place where nobody speaks, seconds."""
    pauses: list[float] = []
    for index, piece in enumerate(iter_waveform(path, _PIECE_S)):
        silent = speech_activity(piece) < 0.5
        edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start >= _LEAST_PAUSE_S * _ACTIVITY_HZ:
                pauses.append(round(index * _PIECE_S + (start + stop) / 2 / _ACTIVITY_HZ, 3))
    return pauses


def _detector(settings: ShotSettings) -> Any:
    try:
        from scenedetect.detectors import AdaptiveDetector
    except ImportError as err:
        raise MissingDependencyError('shots are found by PySceneDetect; pip install "avatar[curate]"') from err
    return AdaptiveDetector(
        adaptive_threshold=settings.threshold,
        min_content_val=settings.min_content,
        min_scene_len=settings.min_shot_frames,
    )


def _dissolves(pictures: np.ndarray, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """In the whole, since a fade to black can have a cut in it, and in each shot, where one can end near a cut."""
    edges = [0, *cuts, len(pictures)]
    found = find_dissolves(pictures)
    for start, stop in zip(edges, edges[1:], strict=False):
        for first, last in find_dissolves(pictures[start:stop]) if cuts else []:
            if all(start + last < other_first or start + first > other_last for other_first, other_last in found):
                found.append((start + first, start + last))
    return sorted(found)


def _is_flash(pictures: np.ndarray, cut: int) -> bool:
    """Whether the picture is soon what it was before."""
    before = pictures[max(cut - 2, 0)].astype(np.float32)
    change = np.abs(pictures[cut] - pictures[cut - 1].astype(np.float32)).mean()
    later = [np.abs(pictures[cut + n] - before).mean() for n in _FLASH_FRAMES if cut + n < len(pictures)]
    earlier = pictures[max(cut - 5, 0)].astype(np.float32)  # the way out of a flash: what came before the flash is back
    back = [np.abs(pictures[cut + n] - earlier).mean() for n in (0, *_FLASH_FRAMES) if cut + n < len(pictures)]
    return bool(later and (min(later) < _FLASH_SHARE * change or min(back) < _FLASH_SHARE * change))


def _spans(
    num_frames: int, cuts: Sequence[int], dissolves: Sequence[tuple[int, int]], settings: ShotSettings
) -> list[tuple[int, int]]:
    """What lies between transitions, trimmed on their side."""
    transitions = sorted([(cut, cut) for cut in cuts] + [(first, last + 1) for first, last in dissolves])
    spans, start = [], 0
    for first, after in transitions:
        spans.append((start, first - settings.trim_frames))
        start = max(start, after + settings.trim_frames)
    spans.append((start, num_frames))
    found = [(a, b) for a, b in spans if b - a >= settings.min_shot_frames]
    return found if transitions else [(0, num_frames)]
