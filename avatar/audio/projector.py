"""Speech features to the audio tokens that the transformer's adapters read."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class AudioProjector(ModelMixin, ConfigMixin):
    """A window of speech features to tokens, each feature one token with its place in the window.

    Args:
        feature_dim: size of a speech feature.
        token_dim: size of a token.
        window: features per latent frame.
        margin_features: how many of them, on each side, are context.
    """

    @register_to_config
    def __init__(
        self, feature_dim: int = 256, token_dim: int = 256, window: int = 16, margin_features: int = 4
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.proj = nn.Sequential(nn.Linear(feature_dim, token_dim), nn.GELU(), nn.Linear(token_dim, token_dim))
        self.positions = nn.Parameter(torch.randn(window, token_dim) * 0.02)

    def forward(self, windows: Tensor) -> Tensor:
        """(…, window, feature_dim) to (…, window, token_dim)."""
        return self.proj(self.norm(windows)) + self.positions


AudioProjector.__module__ = "avatar"  # the name saved pipelines know it by, so that the module may move
