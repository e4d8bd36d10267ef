"""The sound of one chunk, as the adapter's projector wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import Wav2Vec2Model

from avatar.audio.encoder import FEATURE_RATE_HZ
from avatar.audio.front_end import speech_features
from avatar.audio.front_end_settings import SpeechFrontEnd
from avatar.dit.long_video import Chunk, mirrored_places
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.projectors import AudioTokens, PackProjector, SlotProjector
from avatar.types import Waveform

_MARGIN_S = 0.05  # so that the encoder, whose last window hangs over, gives a feature for the very end


def features_of(
    encoder: Wav2Vec2Model, speech: Waveform, front_end: SpeechFrontEnd, num_frames: int, stop: int
) -> Tensor:
    """Features of a sound, and of what is heard after its end, for all frames that are made; see `speech_features`.

    Args:
        encoder: the speech encoder.
        speech: 16 kHz sound.
        front_end: how.
        num_frames: of the video; a sound that is shorter is followed by silence.
        stop: frames that are made, of which those from `num_frames` on will be cut.
    """
    if front_end.at_video_rate and front_end.after_end == "mirrored":
        features = speech_features(encoder, speech, front_end, num_frames)
        return features[mirrored_places(num_frames, stop).to(features.device)]
    if front_end.at_video_rate:
        return speech_features(encoder, speech, front_end, stop)
    missing = math.ceil((stop / front_end.fps + _MARGIN_S) * speech.sample_rate_hz) - len(speech.samples)
    samples = np.pad(speech.samples, (0, max(0, missing)))
    return speech_features(encoder, Waveform(samples, speech.sample_rate_hz), front_end)


@torch.no_grad()
def tokens_of_chunk(adapter: PublishedAdapter, features: Sequence[Tensor], chunk: Chunk) -> AudioTokens:
    """Audio tokens of a chunk.

    Args:
        adapter: whose projector makes them.
        features: of the whole sound, of each speaker.
        chunk: which part.

    Returns:
        Tokens of the chunk's latent frames.
    """
    projector = adapter.projector
    parameter = next(projector.parameters())
    features = [each.to(parameter.device, parameter.dtype) for each in features]
    if isinstance(projector, SlotProjector | PackProjector):  # they count in video frames, and know where they are
        return projector.audio_tokens(features, chunk.num_frames, start=chunk.start)
    per_frame = FEATURE_RATE_HZ / adapter.preset.front_end.fps
    first, last = round(chunk.start * per_frame), round(chunk.stop * per_frame)
    return projector.audio_tokens([each[first:last] for each in features], chunk.num_frames)
