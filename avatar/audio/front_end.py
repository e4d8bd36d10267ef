"""Speech features as published systems were trained on them: which encoder, which of its layers, at which rate.

A system hears nothing sensible through another's front end, so what a front end is made of is data, and an encoder that does
not fit is refused. Sources: the inference code of the systems (named in `avatar.dit.published`); A. Baevski et al., arXiv
2006.11477, for the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Model

from avatar.audio.encoder import receptive_field
from avatar.audio.front_end_settings import SpeechFrontEnd
from avatar.audio.loudness import with_loudness
from avatar.errors import OptionError
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

_STEM_STRIDES = (5, 2, 2, 2, 2, 2, 2)
_KNOWN_ENCODERS = {  # of one shape; what their settings call the whole model: trained on for letters, or not
    "facebook/wav2vec2-base-960h": "Wav2Vec2ForCTC",
    "TencentGameMate/chinese-wav2vec2-base": "Wav2Vec2ForPreTraining",
}


def check_encoder(encoder: Wav2Vec2Model, front_end: SpeechFrontEnd) -> None:
    """Checks that an encoder is the one a front end was made for.

    The two of one shape are told apart by the name they were loaded under, or else by what their settings say they were trained
    for; where neither says anything, they cannot be.

    Raises:
        OptionError: it is not, with everything that differs.
    """
    config = encoder.config
    pairs: list[tuple[str, Any, Any]] = [
        ("hidden size", front_end.hidden_size, config.hidden_size),
        ("layers", front_end.num_layers, config.num_hidden_layers),
        ("strides of the stem", _STEM_STRIDES, tuple(config.conv_stride)),
        ("stable layer norm", False, config.do_stable_layer_norm),
    ]
    name = str(config.name_or_path or "").rstrip("/")
    known = next((known for known in _KNOWN_ENCODERS if name.endswith(known.split("/")[1])), None)
    if known is not None:
        pairs.insert(0, ("model", front_end.encoder, known))
    trained_for = next((each for each in config.architectures or () if each in _KNOWN_ENCODERS.values()), None)
    if trained_for is not None and front_end.encoder in _KNOWN_ENCODERS:
        pairs.append(("trained as", _KNOWN_ENCODERS[front_end.encoder], trained_for))
    differences = [f"{what} {got} instead of {wanted}" for what, wanted, got in pairs if wanted != got]
    if differences:
        raise OptionError(f"this is not the speech encoder {front_end.encoder}: {'; '.join(differences)}")


@torch.no_grad()
def speech_features(
    encoder: Wav2Vec2Model, speech: Waveform, front_end: SpeechFrontEnd, num_frames: int | None = None
) -> Tensor:
    """Features of a whole sound.

    Args:
        encoder: the speech encoder.
        speech: 16 kHz sound.
        front_end: how.
        num_frames: video frames the features are for: the sound is cut, or filled up with silence, to their length first.
            None for the sound as it is.

    Returns:
        (L, D), or (L, layers, D) for `"stack"`; L is the number of video frames, or about 50 a second.

    Raises:
        OptionError: the sound is not at 16 kHz, or shorter than one feature.
    """
    if speech.sample_rate_hz != MODEL_SAMPLE_RATE_HZ:
        raise OptionError(f"the speech encoder hears {MODEL_SAMPLE_RATE_HZ} Hz, not {speech.sample_rate_hz} Hz")
    if front_end.loudness_lufs is not None:
        speech = with_loudness(speech, front_end.loudness_lufs)
    frames = int(len(speech.samples) / MODEL_SAMPLE_RATE_HZ * front_end.fps)
    values = speech.samples
    if num_frames is not None and front_end.at_video_rate:
        frames, length = num_frames, int(num_frames / front_end.fps * MODEL_SAMPLE_RATE_HZ)
        values = unit_variance(values[:length])
        values = np.pad(values, (0, length - len(values)))
    elif num_frames is not None:
        values = unit_variance(values[: int(num_frames / front_end.fps * MODEL_SAMPLE_RATE_HZ)])
    else:
        values = unit_variance(values)
    samples = torch.from_numpy(values)[None].to(encoder.device, encoder.dtype)
    conv = conv_features(encoder, samples, frames if front_end.at_video_rate else None)
    states = hidden_states(encoder, conv)
    if front_end.layers == "last":
        return states[-1][0]
    if front_end.layers == "stack":
        return torch.cat(states[1:-1]).transpose(0, 1)
    return torch.cat([states[-1], *states[:-1]], dim=-1)[0]


def unit_variance(samples: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as `Wav2Vec2FeatureExtractor` does it."""
    return ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)


def conv_features(encoder: Wav2Vec2Model, samples: Tensor, num_frames: int | None = None) -> Tensor:
    """Output of the convolutions, (1, L, C), interpolated to `num_frames` features where that is given.

    Raises:
        OptionError: the sound is shorter than one feature.
    """
    needed = receptive_field(encoder.config)
    if samples.shape[1] < needed or num_frames == 0:
        raise OptionError(f"the speech encoder needs {needed} samples or more, not {samples.shape[1]}")
    features = encoder.feature_extractor(samples)
    if num_frames is not None:
        features = nn.functional.interpolate(features, size=num_frames, mode="linear", align_corners=True)
    return features.transpose(1, 2)


def hidden_states(encoder: Wav2Vec2Model, conv: Tensor) -> list[Tensor]:
    """Embedding, output of every layer, and last hidden state, each (1, L, D), of convolution features (1, L, C)."""
    projected, _ = encoder.feature_projection(conv)
    with _recorded(encoder.encoder.layers) as states:
        last = encoder.encoder(projected).last_hidden_state
    return [*states, last]


@contextmanager
def _recorded(layers: nn.ModuleList) -> Iterator[list[Tensor]]:
    """Collects the first layer's input and every layer's output while it is open."""
    states: list[Tensor] = []

    def before(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        states.append(arguments[0])

    def after(_module: nn.Module, _arguments: Any, output: Any) -> None:
        states.append(output if isinstance(output, Tensor) else output[0])

    handles = [layers[0].register_forward_pre_hook(before)]
    handles += [layer.register_forward_hook(after) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def frames_to_cover(duration_s: float, fps: float, max_frames: int) -> int:
    """Video frames, 1 + 4 k, that a system which makes one piece gives a sound (FantasyTalking's count).

    Source: `infer.py` of Fantasy-AMAP/fantasy-talking: four frames more than fit.
    """
    return min(4 * int(fps * duration_s // 4) + 5, max_frames)


def frames_of_chunks(
    num_samples: int, fps: float, chunk_frames: int, overlap_frames: int, first_frames: int = 1
) -> int:
    """Video frames, so that chunks with an overlap come out even (OmniAvatar's count).

    Args:
        num_samples: of 16 kHz sound.
        fps: video frames per second.
        chunk_frames: frames of a chunk.
        overlap_frames: frames a chunk shares with the one before.
        first_frames: frames that are given at the start, not made.

    Source: `wan_video` pipeline of Omni-Avatar/OmniAvatar.
    """
    frames = math.ceil(num_samples / MODEL_SAMPLE_RATE_HZ * fps)
    first, step = chunk_frames - first_frames, chunk_frames - overlap_frames
    if frames < first:
        return frames + first - frames % first
    return first + math.ceil((frames - first) / step) * step
