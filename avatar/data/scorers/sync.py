"""Lip sync of one clip, offline: our own audio-lip model over the tracked lips, and the envelope baseline beside it.

The sign of every offset in the manifest: offset > 0 means that the audio is early and must be delayed by so much
(`avatar.data.sync.lag_curve`). What it was measured to do: docs/sync-scorer.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from avatar.data.clip_media import ClipMedia, FaceTrack
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.types import Waveform

if TYPE_CHECKING:
    from avatar.data.sync.lag_curve import SyncResult
    from avatar.data.sync.model import SyncModel

BACKEND = "avatar-sync-3"
SYNC_COLUMNS = "sync_backend sync_conf sync_dist sync_offset_frames sync_offset_ms sync_n_windows sync_speaker_track"


@register("sync")
class SyncScorer:
    """Fills the sync columns; of several faces, the one with the highest confidence is the speaker.

    Null where there is no sound, no tracked face, or less than about 0.8 s of both.
    """

    name = "sync"
    version = "3"
    columns = columns(*SYNC_COLUMNS.split(), "sync_margin", "sync_envelope_conf", "sync_envelope_offset_ms")
    weights: tuple[WeightSpec, ...] = ()

    def setup(self) -> None:
        """Loads the model and the speech encoder, both shipped.

        Raises:
            WeightsError: they do not belong together.
        """
        from avatar.data.sync.model import SyncModel
        from avatar.data.sync.sound import shipped_encoder

        self._model = SyncModel.load()
        self._encoder = shipped_encoder()

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All sync columns of one clip."""
        speech, tracks = clip.waveform(), clip.tracks()
        if speech is None or not tracks or not np.any(speech.samples):
            return {}
        from avatar.data.sync.sound import speech_per_frame

        heard = speech_per_frame(speech, self._encoder)
        scored = [
            (track, result)
            for track, one in enumerate(tracks)
            if (result := self._score_track(one, clip, speech, heard)) is not None
        ]
        if not scored:
            return {}
        track, values = max(scored, key=lambda pair: pair[1]["sync_conf"])
        return values | {"sync_backend": BACKEND, "sync_speaker_track": track}

    def _score_track(
        self, track: FaceTrack, clip: ClipMedia, speech: Waveform, heard: np.ndarray
    ) -> dict[str, Any] | None:
        from avatar.audio.loudness import loudness_per_frame
        from avatar.data.sync.agreement import agreement, margin
        from avatar.data.sync.envelope import envelope_sync

        held = track_over_clip(track, clip.num_frames)
        if held is None:
            return None
        lips, found = held
        result = sync_of(self._model, heard, lips, found)
        if result is None:
            return None
        loudness = loudness_per_frame(speech, len(lips), clip.fps)
        values = sync_columns(result, clip.fps) | {
            "sync_conf": agreement(result, lips[:, 0], found, loudness),
            "sync_margin": margin(result),
        }
        beside = envelope_sync(lips[:, 0], found, loudness)
        if beside is not None:
            values["sync_envelope_conf"] = beside.confidence
            values["sync_envelope_offset_ms"] = 1000.0 * beside.offset_frames / clip.fps
        return values


def sync_of(model: SyncModel, heard: np.ndarray, lips: np.ndarray, found: np.ndarray) -> SyncResult | None:
    """The model's judgement of one face and one sound; None where there is too little of either.

    Its confidence says how far the offset stands out; `sync.agreement` says whether it is the right sound.

    Args:
        model: the audio-lip model.
        heard: (S, D) speech features per video frame.
        lips: (T, 12) numbers of the lips.
        found: (T,) bool: frames where the face was found.
    """
    from avatar.data.sync.lag_curve import judge

    return judge(*model.distances(heard, lips, found))


def shipped_sync(speech: Waveform, lips: np.ndarray, found: np.ndarray) -> SyncResult | None:
    """`sync_of` by the shipped model, which hears the sound through the shipped encoder.

    Args:
        speech: 16 kHz sound, from the first frame on.
        lips, found: as for `sync_of`.
    """
    from avatar.data.sync.model import shipped_model
    from avatar.data.sync.sound import shipped_encoder, speech_per_frame

    return sync_of(shipped_model(), speech_per_frame(speech, shipped_encoder()), lips, found)


def sync_columns(result: SyncResult, fps: float) -> dict[str, Any]:
    """A judgement as columns of the manifest."""
    return {
        "sync_conf": result.confidence,
        "sync_dist": result.distance,
        "sync_offset_frames": float(result.offset_frames),
        "sync_offset_ms": 1000.0 * result.offset_frames / fps,
        "sync_n_windows": result.num_windows,
    }


def track_over_clip(track: FaceTrack, num_frames: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Lips (T, 12) and where they were found (T,), from the clip's first frame to the track's last; None if too few."""
    from avatar.data.sync.lips import tracked_lips

    inside = track.frames < num_frames
    frames = track.frames[inside]
    if not len(frames):
        return None
    found = np.zeros(int(frames[-1]) + 1, bool)
    found[frames] = True
    landmarks = np.zeros((len(found), *track.landmarks.shape[1:]), np.float32)
    landmarks[frames] = track.landmarks[inside]
    lips = tracked_lips(landmarks, found)
    return None if lips is None else (lips, found)
