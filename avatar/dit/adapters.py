"""Cross-attention adapters: how tokens of sound, identity or emotion reach the video tokens of a transformer block.

Two modules cover the published systems. The *shared query* adapter adds its own keys and values to the block's own
cross-attention (FantasyTalking, arXiv 2504.04842, eq. 5; EchoMimicV3). The *residual* adapter is an attention of its own
after it (HunyuanVideo-Avatar, arXiv 2505.20156, eq. 1-3; MultiTalk).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from avatar.errors import OptionError


@dataclass(frozen=True)
class AdapterConfig:
    """One adapter of every block.

    Attributes:
        tokens: which tokens of `Conditioning` it reads: `"audio"`, `"identity"` or `"emotion"`.
        kind: `"shared_query"` or `"residual"`.
        token_dim: size of a token.
        masked: whether the face mask multiplies its output.
        gated: whether a learnable gate that starts at 0 multiplies its output (residual only).
        key_norm: RMS norm on the keys (and, for `residual`, on the queries).
        bias: bias on the key and value projections.
    """

    tokens: Literal["audio", "identity", "emotion"]
    kind: Literal["shared_query", "residual"]
    token_dim: int
    masked: bool = False
    gated: bool = False
    key_norm: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        if self.tokens not in ("audio", "identity", "emotion"):
            raise OptionError(f"adapter tokens must be audio, identity or emotion, not {self.tokens!r}")
        if self.kind not in ("shared_query", "residual"):
            raise OptionError(f"adapter kind must be shared_query or residual, not {self.kind!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AdapterConfig:
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise OptionError(f"unknown adapter settings {unknown}; accepted: {sorted(cls.__dataclass_fields__)}")
        return cls(**values)


class SharedQueryAdapter(nn.Module):
    """Keys and values for the block's own query; the block adds the result before its output projection.

    Source: FantasyTalking, arXiv 2504.04842, eq. 5.
    """

    def __init__(self, dim: int, num_heads: int, config: AdapterConfig) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_k = nn.Linear(config.token_dim, dim, bias=config.bias)
        self.to_v = nn.Linear(config.token_dim, dim, bias=config.bias)
        self.norm_k = nn.RMSNorm(dim, eps=1e-6) if config.key_norm else nn.Identity()
        nn.init.zeros_(self.to_v.weight)  # a fresh adapter changes nothing
        if self.to_v.bias is not None:
            nn.init.zeros_(self.to_v.bias)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Queries (B', N, D) already normalised, tokens (B', M, D_t) -> (B', N, D)."""
        return _attend(query, self.norm_k(self.to_k(tokens)), self.to_v(tokens), self.num_heads)


class ResidualAdapter(nn.Module):
    """An attention of its own, added to the stream: x + gate * mask * A(norm(x)).

    Source: HunyuanVideo-Avatar, arXiv 2505.20156, eq. 1-3 (face-aware audio adapter, audio-emotion module).
    """

    def __init__(self, dim: int, num_heads: int, config: AdapterConfig) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = FP32LayerNorm(dim, eps=1e-6)
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(config.token_dim, 2 * dim, bias=config.bias)
        self.norm_q = nn.RMSNorm(dim, eps=1e-6) if config.key_norm else nn.Identity()
        self.norm_k = nn.RMSNorm(dim, eps=1e-6) if config.key_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)
        self.gate = nn.Parameter(torch.zeros(1)) if config.gated else None

    def forward(self, hidden_states: Tensor, tokens: Tensor) -> Tensor:
        """Stream (B', N, D), tokens (B', M, D_t) -> the update (B', N, D), gate included."""
        key, value = self.to_kv(tokens).chunk(2, dim=-1)
        query = self.norm_q(self.to_q(self.norm(hidden_states)))
        update = self.proj(_attend(query, self.norm_k(key), value, self.num_heads))
        return update if self.gate is None else update * self.gate


def build_adapter(dim: int, num_heads: int, config: AdapterConfig) -> SharedQueryAdapter | ResidualAdapter:
    """The module an `AdapterConfig` describes, for blocks of width `dim`."""
    return (SharedQueryAdapter if config.kind == "shared_query" else ResidualAdapter)(dim, num_heads, config)


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
