"""Clips to what the embedded model is trained on: geometry latents at every phase, speech features, identity, labels."""

from __future__ import annotations

import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from transformers import Wav2Vec2Model

from avatar.audio.encoder import encode_speech
from avatar.audio.voice_activity import speech_activity
from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.latent import LATENT_CHANNELS, LATENT_GRID, GeometryLatent
from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion
from avatar.codec.mesh.track import clip_geometry, lip_gap
from avatar.data.clip_dataset import ClipEntry
from avatar.data.clip_sources import SourceClip
from avatar.data.scorers.sync import shipped_sync
from avatar.data.sync.lips import lip_numbers
from avatar.data.synthetic.augment import colour
from avatar.errors import FaceError, MediaError
from avatar.identity.choose import load_portrait
from avatar.identity.features import identity_features
from avatar.media import read_waveform
from avatar.media.video import read_video
from avatar.train.config import DataOptions
from avatar.types import Waveform

MIN_FOUND_SHARE = 0.9  # of the frames, in which the face must be seen
_NOD_S = 0.5  # head movement slower than this is posture
_ENCODED_FRAMES = 2048  # at a time
_TRIED_PICTURES = 5  # of a clip, for who it is
_MAX_SHIFT_FRAMES = 6  # of sound; what seems off by more has probably not been measured (`sync_offset` of curation)


class MeshPreparer:
    """Makes the tensors of one clip after another.

    Args:
        encoder: of speech.
        options: of the run.
    """

    reads: tuple[str, ...] = ()

    def __init__(self, encoder: Wav2Vec2Model, options: DataOptions) -> None:
        self._encoder, self._options, self._latent = encoder.eval(), options, GeometryLatent()

    def settings(self) -> dict[str, Any]:
        """What decides the tensors, for `ClipStore`."""
        config = self._encoder.config
        return {
            "kind": "mesh",
            "head": self._options.head,
            "align_sound": self._options.align_sound,
            "speech_variants": self._options.speech_variants,
            "encoder": f"{config.hidden_size}x{config.num_hidden_layers}-{_fingerprint(self._encoder):08x}",
        }

    def prepare(self, clip: SourceClip) -> tuple[ClipEntry, dict[str, np.ndarray]]:
        """One clip.

        Raises:
            MediaError: it cannot be read, or has no sound.
            FaceError: its face cannot be followed.
        """
        from avatar.identity.mediapipe_faces import thread_faces

        with clip.file() as path:  # decoded twice rather than kept: a minute of full HD is 9 GB
            speech = read_waveform(path)
            landmarks, found = thread_faces().track(read_video(path, MOTION_FPS))
            if found.mean() < MIN_FOUND_SHARE:
                raise FaceError(
                    f"the face is seen in {found.mean():.0%} of the frames only; {MIN_FOUND_SHARE:.0%} are needed"
                )
            motion = clip_geometry(landmarks, found).motion
            identity = self._identity(path, lip_gap(motion.expression).mean(axis=1))
        speech = self._in_step(speech, motion, found)
        return self.entry(clip, len(motion)), self.tensors(motion, speech, identity, clip.clip_id)

    def entry(self, clip: SourceClip, num_frames: int) -> ClipEntry:
        """The clip's line in the index."""
        labels = dict(clip.labels)
        return ClipEntry(clip.clip_id, num_frames, clip.person, clip.split, (0, 0, 0), labels, str(clip.path))

    def tensors(self, motion: MeshMotion, speech: Waveform, identity: np.ndarray, name: str) -> dict[str, np.ndarray]:
        """What a clip is trained from.

        Args:
            motion: T frames.
            speech: 16 kHz, from the first frame on.
            identity: (N_i, D) rows.
            name: decides what is chance in the clip's augmented sound.

        Returns:
            float16: `groups0` … `groups3` (n, 256): latents of the groups of four that begin at frames 0 … 3; `singles`
            (T, 256): of each frame alone; `features0` …: (N, D) of the clean sound and its versions; and `identity`.
        """
        out = motion_tensors(self._posed(motion), self._latent)
        out["identity"] = identity.astype(np.float16)
        out["features0"] = self._features(speech)
        for variant in range(self._options.speech_variants):
            rng = np.random.default_rng((zlib.crc32(name.encode()), variant))
            out[f"features{variant + 1}"] = self._features(Waveform(colour(speech.samples, rng) * 0.1))
        return out

    def _posed(self, motion: MeshMotion) -> MeshMotion:
        """Without what the pipeline's idle movement does by itself, as far as the options say."""
        if self._options.head == "all":
            return motion
        still = np.zeros_like(motion.rotation)
        slow = gaussian_filter1d(motion.rotation, _NOD_S * MOTION_FPS, axis=0, mode="nearest")
        rotation = motion.rotation - slow if self._options.head == "nods" else still
        return MeshMotion(motion.expression, rotation, still, np.zeros_like(motion.gaze))

    @torch.no_grad()
    def _features(self, speech: Waveform) -> np.ndarray:
        pieces = list(encode_speech(self._encoder, speech, speech_activity(speech)))
        if not pieces:
            raise MediaError("the clip's sound is empty")
        return torch.cat(pieces).cpu().numpy().astype(np.float16)

    def _in_step(self, speech: Waveform, motion: MeshMotion, found: np.ndarray) -> Waveform:
        """The sound, moved to where the sync scorer hears it in step with the lips."""
        if not self._options.align_sound:
            return speech
        lips = lip_numbers(torch.from_numpy(motion.expression)).numpy()
        judged = shipped_sync(speech, lips, found)
        if judged is None or abs(judged.offset_frames) > _MAX_SHIFT_FRAMES:
            return speech
        return delayed_sound(speech, judged.offset_frames / MOTION_FPS)

    @staticmethod
    def _identity(path: Path, opening: np.ndarray) -> np.ndarray:
        """Rows of identity from the frame with the quietest mouth in which the face can be used."""
        quietest = np.argsort(opening, kind="stable")[:_TRIED_PICTURES]
        frames = {
            k: frame
            for k, frame in enumerate(islice(read_video(path, MOTION_FPS), quietest.max() + 1))
            if k in quietest
        }
        error: FaceError | None = None
        for index in quietest:
            try:
                return identity_features(load_portrait(frames[int(index)], "largest"))
            except FaceError as err:
                error = err
        assert error is not None
        raise error


def delayed_sound(speech: Waveform, seconds: float) -> Waveform:
    """A sound that begins later by so much, or earlier where that is negative; as long as it was."""
    shift = round(seconds * speech.sample_rate_hz)
    samples = np.zeros_like(speech.samples)
    kept = max(0, len(samples) - abs(shift))
    samples[max(shift, 0) :][:kept] = speech.samples[max(-shift, 0) :][:kept]
    return Waveform(samples, speech.sample_rate_hz)


def motion_tensors(motion: MeshMotion, latent: GeometryLatent) -> dict[str, np.ndarray]:
    """`groups0` … `groups3` and `singles` of `MeshPreparer.tensors`."""
    repeated = np.repeat(np.arange(len(motion)), GROUP_FRAMES)
    fields = (getattr(motion, name)[repeated] for name in ("expression", "rotation", "translation", "gaze"))
    out = {"singles": _groups(MeshMotion(*fields), latent)}
    for phase in range(GROUP_FRAMES):
        whole = (len(motion) - phase) // GROUP_FRAMES * GROUP_FRAMES
        out[f"groups{phase}"] = _groups(motion[phase : phase + whole], latent)
    return out


def _groups(motion: MeshMotion, latent: GeometryLatent) -> np.ndarray:
    """(n, 256) float16 of groups of four, `motion` being a whole number of them."""
    parts = [np.zeros((0, LATENT_CHANNELS * LATENT_GRID[0] * LATENT_GRID[1]), np.float16)]
    for start in range(0, len(motion), _ENCODED_FRAMES):
        part = motion[start : start + _ENCODED_FRAMES]
        latents = latent.encode(MeshMotion.concatenate([part[:1], part]))[:, 1:]  # the first counts alone
        parts.append(latents.transpose(0, 1).flatten(1).numpy().astype(np.float16))
    return np.concatenate(parts)


def _fingerprint(encoder: Wav2Vec2Model) -> int:
    """Tells encoders apart, by their first weights."""
    first = next(iter(encoder.parameters())).detach().float().cpu().numpy()
    return zlib.crc32(np.ascontiguousarray(np.round(first, 4)).tobytes())
