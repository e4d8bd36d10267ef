"""Turns a face's features into the identity tokens that the transformer attends to."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from avatar.identity.features import (
    FEATURE_DIM,
    NUM_FEATURE_TOKENS,
    NUM_GEOMETRY_TOKENS,
    identity_features,
)
from avatar.types import Portrait


class IdentityEncoder(ModelMixin, ConfigMixin):
    """Features of a face to identity tokens: one matrix per row (rows mean different things), then a shared MLP.

    Args:
        token_dim: width of a token, D_i.
        hidden_dim: width inside.
        num_tokens, feature_dim: the features' shape.
    """

    @register_to_config
    def __init__(
        self,
        token_dim: int = 128,
        hidden_dim: int = 128,
        num_tokens: int = NUM_FEATURE_TOKENS,
        feature_dim: int = FEATURE_DIM,
    ) -> None:
        super().__init__()
        self.row_weight = nn.Parameter(torch.randn(num_tokens, feature_dim, hidden_dim) * feature_dim**-0.5)
        self.row_bias = nn.Parameter(torch.zeros(num_tokens, hidden_dim))
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, token_dim)
        )
        self.norm = nn.LayerNorm(token_dim)
        self.kind = nn.Parameter(torch.randn(num_tokens, token_dim) * 0.02)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [B, N_i, D_in] (see `identity_features`; zero rows are unknown) to tokens [B, N_i, D_i]."""
        hidden = torch.einsum("bnd,ndh->bnh", features.to(self.row_weight.dtype), self.row_weight) + self.row_bias
        return self.norm(self.mlp(hidden)) + self.kind

    def encode(self, portrait: Portrait) -> torch.Tensor:
        """The tokens of one portrait, [1, N_i, D_i]."""
        features = torch.from_numpy(identity_features(portrait))[None]
        return self(features.to(self.row_weight.device))


IdentityEncoder.__module__ = "avatar"  # the name saved pipelines know it by, so that the module may move


class FeatureEmbedder:
    """An `IdentityEmbedder` without weights: the identity features as one unit vector, shape and appearance alike."""

    num_features = NUM_FEATURE_TOKENS * FEATURE_DIM

    def embed(self, portrait: Portrait) -> np.ndarray:
        """A unit vector (512,) float32; the cosine of two tells how alike two faces are."""
        rows = identity_features(portrait)
        parts = (rows[:NUM_GEOMETRY_TOKENS].ravel(), rows[NUM_GEOMETRY_TOKENS:].ravel())
        halves = [part / max(float(np.linalg.norm(part)), 1e-8) for part in parts]
        return (np.concatenate(halves) / np.sqrt(2)).astype(np.float32)
