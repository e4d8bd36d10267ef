from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.identity.features import FEATURE_DIM, NUM_FEATURE_TOKENS, identity_features
from avatar.identity.tokens import FeatureEmbedder, IdentityEncoder
from avatar.types import Portrait


def test_tokens_have_their_shape_and_follow_the_features(portrait: Portrait) -> None:
    encoder = IdentityEncoder(token_dim=48, hidden_dim=32)
    tokens = encoder.encode(portrait)
    assert tokens.shape == (1, NUM_FEATURE_TOKENS, 48)
    features = torch.from_numpy(identity_features(portrait))[None]
    torch.testing.assert_close(encoder(features), tokens)
    features[0, 2] += 1
    changed = (encoder(features) - tokens).abs().amax(dim=-1)[0] > 1e-4
    assert changed.tolist() == [i == 2 for i in range(NUM_FEATURE_TOKENS)], "a row makes its own token"


def test_every_weight_learns() -> None:
    encoder = IdentityEncoder(token_dim=16, hidden_dim=16)
    encoder(torch.randn(3, NUM_FEATURE_TOKENS, FEATURE_DIM)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_a_saved_encoder_gives_the_same_tokens(tmp_path: Path) -> None:
    encoder = IdentityEncoder(token_dim=16, hidden_dim=24)
    encoder.save_pretrained(tmp_path)
    loaded = IdentityEncoder.from_pretrained(tmp_path)
    assert loaded.config.hidden_dim == 24
    features = torch.randn(2, NUM_FEATURE_TOKENS, FEATURE_DIM)
    torch.testing.assert_close(loaded(features), encoder(features), rtol=0, atol=0)


def test_half_precision_weights_take_float_features() -> None:
    encoder = IdentityEncoder(token_dim=16, hidden_dim=16).to(torch.bfloat16)
    assert encoder(torch.randn(1, NUM_FEATURE_TOKENS, FEATURE_DIM)).dtype == torch.bfloat16


def test_the_embedder_gives_unit_vectors(portrait: Portrait) -> None:
    embedder = FeatureEmbedder()
    vector = embedder.embed(portrait)
    assert vector.shape == (embedder.num_features,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
