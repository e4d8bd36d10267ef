"""One clip as its scorers see it: 25 fps pictures and 16 kHz sound of a time window, decoded once and shared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.errors import MediaError
from avatar.identity.proposals import fit_within
from avatar.media import probe_video, read_video, read_waveform
from avatar.media.video import read_video_frames
from avatar.types import DEFAULT_FPS, MODEL_SAMPLE_RATE_HZ, Waveform

DEFAULT_SIDE_PX = 640


@dataclass(frozen=True)
class FaceTrack:
    """One face through a clip.

    Attributes:
        frames: (n,) int32, rising: indices into `ClipMedia.frames()`.
        landmarks: (n, 478, 3) float32 in MediaPipe's mesh order, px of the source picture (as `full_frames` gives it).
    """

    frames: np.ndarray
    landmarks: np.ndarray


class ClipMedia:
    """A time window of one source video.

    Attributes:
        row: the clip's columns so far; scorers of the same pass see what earlier ones filled in.
        fps: frames per second of the view.
        num_decodes: how often the picture was decoded; 1 however many scorers look.
    """

    fps: float = DEFAULT_FPS

    def __init__(self, row: Mapping[str, Any], root: str | Path = ".") -> None:
        """Opens nothing yet.

        Args:
            row: needs source_uri, start_s and end_s; crop_*_px and track_uri where there are.
            root: the output folder of the curation, to which track_uri is relative.
        """
        self.row: dict[str, Any] = dict(row)
        self.root = Path(root)
        self.num_decodes = 0
        self._frames: dict[int, np.ndarray] = {}
        self._waveform: Waveform | None = None
        self._has_read_sound = False
        self._tracks: list[FaceTrack] | None = None

    @property
    def path(self) -> Path:
        """The source file."""
        return Path(self.row["source_uri"])

    @property
    def clip_id(self) -> str:
        return str(self.row["clip_id"])

    @property
    def num_frames(self) -> int:
        """Frames of the view by its window; `frames()` may have fewer where the file ends early."""
        return max(1, round((self.row["end_s"] - self.row["start_s"]) * self.fps))

    def frames(self, max_side_px: int = DEFAULT_SIDE_PX) -> np.ndarray:
        """All frames, (T, H, W, 3) uint8 RGB at 25 fps, the longer side at most `max_side_px`; never enlarged.

        Decoded at the first call and kept; another size is made from those where it is smaller. Do not write into it.

        Raises:
            MediaError: the file is damaged.
        """
        if max_side_px not in self._frames:
            larger = [size for size in self._frames if size > max_side_px]
            if larger:
                self._frames[max_side_px] = np.stack([fit_within(f, max_side_px) for f in self._frames[min(larger)]])
            else:
                self._frames[max_side_px] = self._decoded(max_side_px)
        return self._frames[max_side_px]

    def full_frames(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Some frames at the source's size, (H, W, 3) uint8 RGB, by index into `frames()`, in the order asked for.

        Raises:
            MediaError: the file is damaged, or ends before one of them.
        """
        if max(self._source_size()) <= DEFAULT_SIDE_PX:
            return [self.frames()[index] for index in indices]
        first = round(self.row["start_s"] * self.fps)
        held = read_video_frames(self.path, {first + index for index in indices}, self.fps)
        try:
            return [self.cropped(held[first + index]) for index in indices]
        except KeyError as err:
            raise MediaError(f"{self.path} ends before frame {err}; it has changed since it was probed") from err

    @property
    def scale(self) -> float:
        """A pixel of `frames()` is a source pixel (of `full_frames`, hence of the crop) times this, at the default size."""
        return min(1.0, DEFAULT_SIDE_PX / max(self._source_size()))

    def waveform(self, delayed_s: float = 0.0) -> Waveform | None:
        """The window's sound, 16 kHz mono, exactly as long as the window; None where the source has no sound.

        Args:
            delayed_s: > 0: the sound of a window that begins so much earlier. Other than 0 it is read anew and not kept.

        Raises:
            MediaError: the sound is damaged.
        """
        if delayed_s:
            return self._read_sound(delayed_s)
        if not self._has_read_sound:
            self._waveform = self._read_sound(0.0)
            self._has_read_sound = True
        return self._waveform

    def tracks(self) -> list[FaceTrack]:
        """The faces, main one first, as the faces stage left them; [] when there are none."""
        if self._tracks is None:
            uri = self.row.get("track_uri")
            self._tracks = read_tracks(self.root / uri) if uri else []
        return self._tracks

    def write_tracks(self, tracks: Sequence[FaceTrack]) -> str:
        """Keeps the faces for later scorers and runs.

        Returns:
            The value of track_uri.
        """
        self._tracks = list(tracks)
        uri = f"tracks/{self.clip_id[:2]}/{self.clip_id}.npz"
        write_tracks(self.root / uri, tracks)
        return uri

    def _decoded(self, max_side_px: int) -> np.ndarray:
        self.num_decodes += 1
        start_s, end_s = self.row["start_s"], self.row["end_s"]
        is_cropped = self.row.get("crop_left_px") is not None
        frames = read_video(
            self.path, self.fps, start_s=start_s, end_s=end_s, max_side_px=None if is_cropped else max_side_px
        )
        kept = [fit_within(self.cropped(frame), max_side_px) for frame in frames]
        if not kept:
            raise MediaError(f"{self.path} has no picture between {start_s} and {end_s} s; has it changed?")
        return np.stack(kept)

    def _source_size(self) -> tuple[int, int]:
        """(width, height) of `full_frames`."""
        if self.row.get("crop_left_px") is not None:
            left, top, right, bottom = (self.row[f"crop_{side}_px"] for side in ("left", "top", "right", "bottom"))
            return right - left, bottom - top
        if not self.row.get("width_px"):
            info = probe_video(self.path)
            self.row["width_px"], self.row["height_px"] = info.width, info.height
        return self.row["width_px"], self.row["height_px"]

    def cropped(self, frame: np.ndarray) -> np.ndarray:
        """The clip's part of a source frame."""
        if self.row.get("crop_left_px") is None:
            return frame
        left, top, right, bottom = (self.row[f"crop_{side}_px"] for side in ("left", "top", "right", "bottom"))
        return np.ascontiguousarray(frame[top:bottom, left:right])

    def _read_sound(self, delayed_s: float) -> Waveform | None:
        num_channels = self.row.get("n_channels")
        if num_channels is None:
            num_channels = int(probe_video(self.path).has_audio)
        if not num_channels:
            return None
        start_s, end_s = self.row["start_s"] - delayed_s, self.row["end_s"] - delayed_s
        wanted, before = (round(s * MODEL_SAMPLE_RATE_HZ) for s in (end_s - start_s, max(0.0, -start_s)))
        samples = np.zeros(0, np.float32)
        if end_s > 0:
            samples = read_waveform(self.path, start_s=max(0.0, start_s), end_s=end_s).samples
        return Waveform(np.pad(samples, (before, max(0, wanted - before - len(samples))))[:wanted])


def read_tracks(path: Path) -> list[FaceTrack]:
    """Face tracks from their file.

    Raises:
        MediaError: it is missing or damaged.
    """
    try:
        with np.load(path) as held:
            count = int(held["count"])
            return [FaceTrack(held[f"frames_{i}"], held[f"landmarks_{i}"]) for i in range(count)]
    except (OSError, ValueError, KeyError) as err:
        raise MediaError(
            f"{path} holds no face tracks ({err}); delete the sidecar of `faces` and curate again"
        ) from err


def write_tracks(path: Path, tracks: Sequence[FaceTrack]) -> None:
    """Face tracks to a file that appears whole; the same tracks give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {"count": np.array(len(tracks), np.int32)}
    for index, track in enumerate(tracks):
        arrays[f"frames_{index}"] = np.asarray(track.frames, np.int32)
        arrays[f"landmarks_{index}"] = np.asarray(track.landmarks, np.float32)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(beside, path)
