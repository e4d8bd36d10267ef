"""Emotion tokens: one from the label, one from the facial expression, for every latent frame."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from avatar.emotion.labels import EMOTIONS


class EmotionEncoder(ModelMixin, ConfigMixin):
    """Label weights and expression weights to tokens; either may be unknown.

    A reference picture speaks through its expression, a label through both. Source of the idea that the emotion reference
    is attended to per latent frame: HunyuanVideo-Avatar, arXiv 2505.20156, section 3.3.

    Args:
        expression_dim: number of expression weights (the rig's named shapes).
        token_dim: size of a token.
    """

    @register_to_config
    def __init__(self, expression_dim: int = 41, token_dim: int = 256) -> None:
        super().__init__()
        self.label_proj = nn.Linear(len(EMOTIONS) + 1, token_dim)
        self.expression_proj = nn.Sequential(
            nn.Linear(expression_dim + 1, token_dim), nn.GELU(), nn.Linear(token_dim, token_dim)
        )
        self.kinds = nn.Parameter(torch.randn(2, token_dim) * 0.02)

    def forward(self, labels: Tensor | None, expression: Tensor | None) -> Tensor:
        """Tokens per frame.

        Args:
            labels: (B, F, 8) weights in [0, 1] in the order of `EMOTIONS`; NaN rows, or None, are unknown.
            expression: (B, F, P) weights of the named shapes; NaN rows, or None, are unknown.

        Returns:
            (B, F, 2, token_dim).
        """
        known = labels if labels is not None else expression
        if known is None:
            raise ValueError("give labels, an expression, or both; NaN rows stand for what is unknown")
        batch, frames = known.shape[:2]
        parts = []
        for values, width, proj in (
            (labels, len(EMOTIONS), self.label_proj),
            (expression, self.config.expression_dim, self.expression_proj),
        ):
            if values is None:
                values = known.new_full((batch, frames, width), float("nan"))
            values = values.to(self.kinds)
            is_known = ~values.isnan().any(-1, keepdim=True)
            parts.append(proj(torch.cat([values.nan_to_num(0.0) * is_known, is_known.to(values)], dim=-1)))
        return torch.stack(parts, dim=2) + self.kinds


EmotionEncoder.__module__ = "avatar"  # the name saved pipelines know it by, so that the module may move
