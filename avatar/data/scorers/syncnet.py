"""Lip sync of one clip by SyncNet, for whoever has its weights; fills the same columns as `sync`, under its own name.

The network, its sound features and its distances are the published ones; the face is our tracker's box, not S3FD's.
About 3 s of processor time for a second of video. Clips shorter than 1.5 s say nothing (zero padding).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.sync import SYNC_COLUMNS, sync_columns
from avatar.errors import MissingDependencyError
from avatar.identity.crop import landmark_box

BACKEND = "syncnet"
_LEAST_WINDOWS = 32  # 1.5 s: more than the zero padding on both sides


@register("syncnet")
class SyncNetScorer:
    """SyncNet on the main face.

    Args:
        weights: path of `syncnet_v2.model`.
        batch_size: windows at a time.
    """

    name = "syncnet"
    version = "1"
    columns = columns(*SYNC_COLUMNS.split())
    weights: tuple[WeightSpec, ...] = (
        WeightSpec(
            "SyncNet",
            "www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
            "not stated; trained on broadcasts for research (code: MIT)",
            is_noncommercial=True,
        ),
    )

    def __init__(self, weights: str | Path | None = None, batch_size: int = 20) -> None:
        self.path = None if weights is None else Path(weights)
        self.batch_size = batch_size

    def setup(self) -> None:
        """Loads the weights.

        Raises:
            MissingDependencyError: they are not there; with where they come from.
            WeightsError: the file does not fit.
        """
        from avatar.data.sync.syncnet import HOW_TO_GET, load_syncnet

        if self.path is None or not self.path.is_file():
            raise MissingDependencyError(f"SyncNet's weights are not at {self.path}; {HOW_TO_GET}")
        self._network = load_syncnet(self.path)

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """The sync columns of one clip; null where there is no sound, no face, or less than 1.5 s."""
        from avatar.data.sync.lag_curve import OFFSETS, judge
        from avatar.data.sync.syncnet import crop_faces, distances, embed_clip

        speech, tracks = clip.waveform(), clip.tracks()
        if speech is None or not tracks:
            return {}
        frames = clip.frames()
        faces = crop_faces(frames, boxes_over_clip(tracks[0], len(frames), clip.scale))
        seen, heard = embed_clip(self._network, faces, speech, self.batch_size)
        if len(seen) < _LEAST_WINDOWS:
            return {}
        result = judge(distances(seen, heard), np.full(len(OFFSETS), len(seen)))
        if result is None:
            return {}
        return sync_columns(result, clip.fps) | {"sync_backend": BACKEND, "sync_speaker_track": 0}


def boxes_over_clip(track: FaceTrack, num_frames: int, scale: float) -> np.ndarray:
    """The face's box in every frame, (T, 4) left, top, right, bottom in px of `ClipMedia.frames()`; filled in where lost."""
    boxes = [landmark_box(points * scale) for points in track.landmarks]
    known = np.array([(box.left, box.top, box.right, box.bottom) for box in boxes], np.float64)
    return np.stack([np.interp(np.arange(num_frames), track.frames, side) for side in known.T], axis=1)
