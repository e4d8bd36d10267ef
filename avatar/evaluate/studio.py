"""Speech to motion as the pipeline makes it, without drawing: for people who do not exist, several feelings at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from transformers import Wav2Vec2Model

from avatar.audio.opening import OpeningEstimator
from avatar.audio.projector import AudioProjector
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.motion import MeshMotion
from avatar.data.synthetic.faces import random_face
from avatar.dit.generate import ChunkPlan, SamplingOptions
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.labels import shapes_of
from avatar.emotion.reference import EmotionReference, read_emotion
from avatar.emotion.tokens import EmotionEncoder
from avatar.errors import OptionError
from avatar.face_mesh import fit_head, head_pose, to_canonical_axes, to_picture_axes
from avatar.identity.features import close_lips, geometry_features, with_unknown_appearance
from avatar.identity.tokens import IdentityEncoder
from avatar.performer import Performer
from avatar.types import BBox, Face, LatentShape, Portrait, VideoShape, Waveform

_PX_PER_UNIT, _SIZE_PX = 20, 512


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody to speak.

    Attributes:
        portrait: whose opening of the mouth the motion begins with.
        identity: [1, N_i, D_i] tokens.
    """

    portrait: Portrait
    identity: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Studio:
    """The pipeline's parts (`**pipeline.components`) with how they are sampled; see `AvatarPipeline`."""

    transformer: AvatarTransformer3DModel
    codec: MeshCodec
    speech_encoder: Wav2Vec2Model
    audio_projector: AudioProjector
    identity_encoder: IdentityEncoder
    emotion_encoder: EmotionEncoder
    opening_estimator: OpeningEstimator | None
    plan: ChunkPlan
    sampling: SamplingOptions

    @torch.no_grad()
    def person(self, seed: int) -> Person:
        """A synthetic person with closed lips, of whom only the shape is known; the same for the same seed."""
        shape = close_lips(random_face(np.random.default_rng(seed))[0])
        centre = np.array([_SIZE_PX / 2, _SIZE_PX / 2, 0])
        landmarks = (to_picture_axes(shape * _PX_PER_UNIT) + centre).astype(np.float32)
        fit = fit_head(landmarks)
        low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
        face = Face(BBox(*map(float, (*low, *high))), landmarks, head_pose(fit.rotation))
        features = with_unknown_appearance(geometry_features(fit.invert(to_canonical_axes(landmarks))))
        identity = self.identity_encoder(torch.from_numpy(features)[None])
        return Person(Portrait(np.full((_SIZE_PX, _SIZE_PX, 3), 128, np.uint8), face), identity)

    def speak(
        self, person: Person, speech: Waveform, emotions: tuple[str, ...] = ("neutral",), seed: int = 0
    ) -> list[MeshMotion]:
        """What speech and feeling cause; the idle life that the pipeline adds is left out.

        Args:
            person: who.
            speech: 16 kHz.
            emotions: labels with or without strength, such as `"happy:0.6"`, or `"auto"`.
            seed: of the noise.

        Returns:
            One motion per emotion, made together, each as long as the speech.

        Raises:
            OptionError: not a label.
        """
        latents = self.latents(person, speech, emotions, seed)
        num_frames = self._shape(speech).num_frames
        motions = [MeshMotion.concatenate(list(self.codec.decode_motion([one], person.portrait))) for one in latents]
        return [motion[:num_frames] for motion in motions]

    @torch.no_grad()
    def latents(self, person: Person, speech: Waveform, emotions: tuple[str, ...], seed: int) -> torch.Tensor:
        """[B, C, F, H, W], one per emotion; what encoder and transformer do, and nothing else. Arguments as for `speak`."""
        latent = LatentShape.from_video(self._shape(speech), self.codec.stride, self.codec.channels)
        performer = Performer(
            self.transformer, self.codec, self.speech_encoder, self.audio_projector, self.emotion_encoder,
            self.opening_estimator, self.plan,
        )  # fmt: skip
        first = self.codec.encode_portrait(person.portrait)[None]
        blocks = performer.latents(
            first.to(self.transformer.device, self.transformer.dtype),
            speech,
            person.identity,
            [self._feeling(emotion, speech) for emotion in emotions],
            latent.frames,
            self.sampling,
            torch.Generator().manual_seed(seed),
        )
        return torch.cat(list(blocks), dim=2).float().cpu()

    def _shape(self, speech: Waveform) -> VideoShape:
        return VideoShape.for_duration(speech.duration_s, _SIZE_PX, _SIZE_PX, self.codec.fps)

    def _feeling(self, emotion: str, speech: Waveform) -> EmotionReference:
        """What the pipeline makes of a label."""
        said = read_emotion(emotion, speech, lambda picture: np.zeros(0))
        if said.labels is None:
            raise OptionError(f"{emotion!r} is not a label")
        return dataclasses.replace(said, expression=self.codec.felt_weights(shapes_of(said.labels.weights)))
