"""Speech and feeling to latents: the networks of the embedded pipeline, put together once for all who use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import Wav2Vec2Model

from avatar.audio.features import AudioTokenSource
from avatar.audio.opening import OpeningEstimator
from avatar.audio.projector import AudioProjector
from avatar.codec.mesh.codec import MeshCodec
from avatar.dit.generate import ChunkPlan, Refine, SamplingOptions, VelocityModel, generate_latents
from avatar.emotion.reference import EmotionReference
from avatar.emotion.tokens import EmotionEncoder
from avatar.types import Conditioning, Waveform


@dataclass(frozen=True)
class Performer:
    """What speaks.

    Attributes:
        transformer: denoises the latents.
        codec: gives the latents their meaning.
        speech_encoder: 16 kHz sound to features.
        audio_projector, emotion_encoder: features to tokens.
        opening_estimator: hears how far the lips are apart; None leaves that to the transformer alone.
        plan: how long speech is cut.
    """

    transformer: VelocityModel
    codec: MeshCodec
    speech_encoder: Wav2Vec2Model
    audio_projector: AudioProjector
    emotion_encoder: EmotionEncoder
    opening_estimator: OpeningEstimator | None
    plan: ChunkPlan

    def latents(
        self,
        first: torch.Tensor,
        speech: Waveform,
        identity: torch.Tensor,
        feelings: Sequence[EmotionReference],
        num_frames: int,
        sampling: SamplingOptions,
        generator: torch.Generator,
    ) -> Iterator[torch.Tensor]:
        """One performance per feeling, made together.

        Args:
            first: [1, C, 1, H, W] the latent of the portrait.
            speech: 16 kHz.
            identity: [1, N_i, D_i] tokens.
            feelings: of B performances; all with labels, or none; with an expression each.
            num_frames: latent frames, the first one included.
            sampling: how they are denoised.
            generator: source of the noise.

        Yields:
            [B, C, f, H, W] in blocks as they are made.
        """
        count = len(feelings)
        source = AudioTokenSource(self.speech_encoder, self.audio_projector, speech, self.codec.stride.time)
        described = [feeling.as_tensors(first.device) for feeling in feelings]
        with torch.no_grad():  # not around the generator: one that is left unfinished would end in an error at exit
            emotion = torch.cat([self.emotion_encoder(*description) for description in described])

        def conditioning(start: int, stop: int) -> Conditioning:
            audio = source.tokens(start, stop)
            return Conditioning(
                audio_tokens=audio.expand(count, 1, *audio.shape),
                face_mask=self.codec.face_mask(stop - start).to(emotion).expand(count, 1, -1, -1, -1),
                identity_tokens=identity.expand(count, -1, -1),
                emotion_tokens=emotion.expand(-1, stop - start, -1, -1),
            )

        return generate_latents(
            self.transformer, first.expand(count, -1, -1, -1, -1), conditioning, num_frames, self.plan, sampling,
            generator, self._opened(source, [expression for _, expression in described]),
        )  # fmt: skip

    def _opened(self, source: AudioTokenSource, expressions: Sequence[torch.Tensor | None]) -> Refine | None:
        """Moves the lips of finished latents to where they are heard; None where nobody listens for that."""
        estimator = self.opening_estimator
        if estimator is None:
            return None
        shown = torch.cat([expression[0] for expression in expressions if expression is not None])

        @torch.no_grad()
        def opened(latents: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            moved: torch.Tensor = estimator(latents, source.windows(start, stop), shown)
            return moved

        return opened
