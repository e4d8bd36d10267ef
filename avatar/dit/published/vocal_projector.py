"""StableAvatar's projector: audio tokens that have looked at the noisy video and know the noise level.

Source: S. Tu et al., "StableAvatar", arXiv 2508.08248, section 3.2 (timestep-aware audio adapter).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from avatar.dit.published.projectors import AudioTokens, WindowProjector
from avatar.dit.published.windows import cut_windows

NUM_HEADS = 8  # of the published projector; tensors do not say
_EPS = 1e-6


class VocalProjector(ModelMixin, ConfigMixin):
    """50 Hz features to windows of tokens, then, in every step, tokens that have seen the latents.

    Args:
        feature_dim, dim: sizes of a feature, and of a token and of the transformer.
        ffn_dim: of the projector's feed-forward layers.
        num_blocks, num_heads: of the projector.
    """

    @register_to_config
    def __init__(
        self,
        feature_dim: int = 768,
        dim: int = 1536,
        ffn_dim: int = 3072,
        num_blocks: int = 2,
        num_heads: int = NUM_HEADS,
    ) -> None:
        super().__init__()
        self.proj_model = WindowProjector(feature_dim, dim, mask_padding=False)
        self.blocks = nn.ModuleList(_VocalBlock(dim, ffn_dim, num_heads) for _ in range(num_blocks))
        self.final_head = _VocalHead(dim)

    def audio_tokens(self, features: Sequence[Tensor], num_frames: int) -> AudioTokens:
        """Tokens of a video before any step, [1, S, F, M, dim]; silence is zero tokens *after* the steps' part.

        Args:
            features: (L, feature_dim) of each speaker.
            num_frames: video frames.
        """
        tokens, _ = cut_windows(self.proj_model(torch.stack(list(features))), num_frames)
        return AudioTokens(tokens[None])

    def forward(self, tokens: Tensor, video: Tensor, time_projection: Tensor, time_embedding: Tensor) -> Tensor:
        """The step's part.

        Args:
            tokens: (B, S, F, M, dim) of `audio_tokens`.
            video: (B, F * N, dim) patch-embedded latents, before the first block.
            time_projection: (B, 6, dim), as the transformer's blocks get it.
            time_embedding: (B, dim), as the transformer's head gets it.

        Returns:
            (B, S, F, M, dim).
        """
        speakers, frames = tokens.shape[1:3]
        per_frame = video.unflatten(1, (frames, -1))
        states = tokens.flatten(0, 1)  # speakers as a batch
        per_frame, time_projection, time_embedding = (
            x.repeat_interleave(speakers, 0) for x in (per_frame, time_projection, time_embedding)
        )
        for block in self.blocks:
            states = block(states, per_frame, time_projection)
        return self.final_head(states, time_embedding).unflatten(0, (-1, speakers))


class _VocalBlock(nn.Module):
    def __init__(self, dim: int, ffn_dim: int, num_heads: int) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.norm3 = nn.LayerNorm(dim, eps=_EPS)
        self.cross_attn = _VideoAttention(dim, num_heads)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(ffn_dim, dim))

    def forward(self, states: Tensor, video: Tensor, time_projection: Tensor) -> Tensor:
        """Tokens (B, F, M, D), video (B, F, N, D)."""
        modulation = self.modulation.float() + time_projection.float()
        shift, scale, gate, f_shift, f_scale, f_gate = (x[:, :, None] for x in modulation.chunk(6, dim=1))
        states = states + ((_normed(states) * (1 + scale) + shift) * gate).type_as(states)
        states = states + self.cross_attn(self.norm3(states), video)
        normed = (_normed(states) * (1 + f_scale) + f_shift).type_as(states)
        return states + (self.ffn(normed).float() * f_gate).type_as(states)


class _VideoAttention(nn.Module):
    """Audio tokens ask, the video tokens of their latent frame answer."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps=_EPS), nn.RMSNorm(dim, eps=_EPS)

    def forward(self, states: Tensor, video: Tensor) -> Tensor:
        query, key, value = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(2, 3)
            for x in (self.norm_q(self.q(states)), self.norm_k(self.k(video)), self.v(video))
        )
        return self.o(nn.functional.scaled_dot_product_attention(query, key, value).transpose(2, 3).flatten(3))


class _VocalHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.final_proj = nn.Linear(dim, dim)

    def forward(self, states: Tensor, time_embedding: Tensor) -> Tensor:
        modulation = self.modulation.float() + time_embedding.float()[:, None]
        shift, scale = (x[:, :, None] for x in modulation.chunk(2, dim=1))
        return self.final_proj((_normed(states) * (1 + scale) + shift).type_as(states))


def _normed(states: Tensor) -> Tensor:
    return nn.functional.layer_norm(states.float(), states.shape[-1:], eps=_EPS)
