"""The parts of the embedded pipeline: freshly trained ones, and tiny random ones that need no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2Model

from avatar.audio.alignment import window_length
from avatar.audio.encoder import small_encoder_config
from avatar.audio.opening import OpeningEstimator
from avatar.audio.projector import AudioProjector
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.rig import default_rig
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.tokens import EmotionEncoder
from avatar.identity.tokens import IdentityEncoder


def trained_parts(speech_encoder: Path, networks: Path) -> dict[str, Any]:
    """Freshly trained parts by name, as `AvatarPipeline` takes them.

    Args:
        speech_encoder: folder of the encoder.
        networks: folder with `transformer`, `audio_projector`, `identity_encoder`, `emotion_encoder` and, where there is
            one, `opening_estimator`.
    """
    opening = networks / "opening_estimator"
    return {
        "opening_estimator": OpeningEstimator.from_pretrained(opening) if opening.is_dir() else None,
        "transformer": AvatarTransformer3DModel.from_pretrained(networks / "transformer"),
        "codec": MeshCodec(),
        "speech_encoder": Wav2Vec2Model.from_pretrained(speech_encoder),
        "audio_projector": AudioProjector.from_pretrained(networks / "audio_projector"),
        "identity_encoder": IdentityEncoder.from_pretrained(networks / "identity_encoder"),
        "emotion_encoder": EmotionEncoder.from_pretrained(networks / "emotion_encoder"),
    }


def debug_parts(seed: int = 0) -> dict[str, Any]:
    """Parts of the real classes, two layers each, with random weights: everything runs, nothing is learned."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        margin, width = 4, 32
        adapters = tuple(
            {"tokens": name, "kind": "residual", "token_dim": width, "masked": name == "audio", "key_norm": True}
            for name in ("identity", "audio", "emotion")
        )
        codec = MeshCodec()
        transformer = AvatarTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=None,
            freq_dim=32,
            ffn_dim=48,
            num_layers=2,
            cross_attn_norm=False,
            adapters=adapters,
            region_grid=(4, 4),
            prediction="sample",
        )
        parts = {
            "transformer": transformer,
            "codec": codec,
            "speech_encoder": Wav2Vec2Model(small_encoder_config(hidden_size=64, num_layers=1)),
            "audio_projector": AudioProjector(64, width, window_length(codec.stride.time, margin), margin),
            "identity_encoder": IdentityEncoder(token_dim=width, hidden_dim=32),
            "emotion_encoder": EmotionEncoder(default_rig().num_named, width),
            "opening_estimator": OpeningEstimator(64, default_rig().num_named, margin_features=margin),
        }
        return {name: part.eval() for name, part in parts.items()}
