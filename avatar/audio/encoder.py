"""Speech to features: a wav2vec2 encoder, and how its frames line up with time.

Any `transformers.Wav2Vec2Model` works, from the small one in the embedded preset to wav2vec2-base. They give one feature
vector every 20 ms. Long speech is encoded in overlapping windows so that the memory does not grow with its length.

Source: A. Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from avatar.errors import OptionError
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

FEATURE_RATE_HZ = 50
SAMPLES_PER_FEATURE = MODEL_SAMPLE_RATE_HZ // FEATURE_RATE_HZ
WINDOW_FEATURES = 8 * FEATURE_RATE_HZ  # what one call of the encoder keeps
MARGIN_FEATURES = 1 * FEATURE_RATE_HZ  # context on both sides, thrown away


def small_encoder_config(hidden_size: int = 256, num_layers: int = 4) -> Wav2Vec2Config:
    """A Wav2Vec2 configuration with a short, wide stem that learns from hours instead of thousands of hours.

    The first convolution sees 25 ms every 5 ms, so it can start as a mel filter bank (`train.encoder.gabor_stem`).
    """
    return Wav2Vec2Config(
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
        conv_dim=(320, 256, 256),
        conv_kernel=(400, 5, 3),
        conv_stride=(80, 2, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=16,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        apply_spec_augment=False,
    )


def receptive_field(config: Wav2Vec2Config) -> int:
    """Samples that the stem needs for one feature."""
    needed = 1
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        needed = (needed - 1) * stride + kernel
    return needed


def pad_for_frames(samples: Tensor, config: Wav2Vec2Config) -> Tensor:
    """Pads (B, S) so that the encoder's unpadded stem gives exactly S / 320 frames, each centred on its 20 ms."""
    stride = math.prod(config.conv_stride)
    if stride != SAMPLES_PER_FEATURE:
        raise OptionError(
            f"the speech encoder must give {FEATURE_RATE_HZ} features a second, its stem strides over {stride} samples"
        )
    surplus = receptive_field(config) - stride
    return nn.functional.pad(samples, (surplus // 2, surplus - surplus // 2))


def encode_batch(encoder: Wav2Vec2Model, samples: Tensor) -> Tensor:
    """Features of whole clips.

    Args:
        encoder: the speech encoder.
        samples: (B, S) float32 at 16 kHz, zero mean and unit variance per clip; S a multiple of 320.

    Returns:
        (B, S / 320, D).
    """
    return encoder(pad_for_frames(samples, encoder.config)).last_hidden_state


def normalised(samples: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as wav2vec2's own feature extractor does; near silence is left near zero."""
    return ((samples - samples.mean()) / max(float(samples.std()), 1e-3)).astype(np.float32)


def encode_speech(encoder: Wav2Vec2Model, speech: Waveform, activity: np.ndarray | None = None) -> Iterator[Tensor]:
    """Features of speech of any length, in constant memory.

    Args:
        encoder: the speech encoder.
        speech: 16 kHz sound.
        activity: (ceil(S / 320),) in [0, 1]: how surely somebody speaks. The sound is multiplied by it, so that the encoder
            hears digital silence where nobody does, and the mouth rests there. None for 1 throughout.

    Yields:
        (N, D) float32 pieces whose concatenation has ceil(S / 320) features; where the windows fall does not depend on
        how the pieces are used.

    Raises:
        OptionError: the sound is not at 16 kHz.
    """
    if speech.sample_rate_hz != MODEL_SAMPLE_RATE_HZ:
        raise OptionError(
            f"the speech encoder hears {MODEL_SAMPLE_RATE_HZ} Hz, not {speech.sample_rate_hz} Hz; resample first"
        )
    samples = speech.samples
    total = -(-len(samples) // SAMPLES_PER_FEATURE)
    for start in range(0, total, WINDOW_FEATURES):
        stop = min(start + WINDOW_FEATURES, total)
        left, right = max(0, start - MARGIN_FEATURES), min(total, stop + MARGIN_FEATURES)
        window = samples[left * SAMPLES_PER_FEATURE : right * SAMPLES_PER_FEATURE]
        if activity is not None:
            window = window * np.repeat(activity[left:right], SAMPLES_PER_FEATURE)[: len(window)]
        window = np.pad(normalised(window), (0, (right - left) * SAMPLES_PER_FEATURE - len(window)))
        with torch.no_grad():
            features = encode_batch(encoder, torch.from_numpy(window)[None].to(encoder.device, encoder.dtype))
        yield features[0, start - left : stop - left].float()
