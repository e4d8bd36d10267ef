"""Adapters: how tokens of sound, identity or emotion reach the video tokens of a transformer block.

The *shared query* adapter adds its own keys and values to the block's own cross-attention (FantasyTalking, arXiv
2504.04842, eq. 5; EchoMimicV3). The *residual* adapter is an attention of its own after it (HunyuanVideo-Avatar, arXiv
2505.20156, eq. 1-3; MultiTalk). The *input* adapter adds a projected token to everything that enters the block (OmniAvatar,
arXiv 2506.18866).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from avatar.dit.lrope import query_positions, region_scores, rotate, voice_positions
from avatar.errors import OptionError


@dataclass(frozen=True)
class AdapterConfig:
    """One adapter of the blocks.

    Attributes:
        tokens: which tokens of `Conditioning` it reads: `"audio"`, `"identity"` or `"emotion"`.
        kind: `"shared_query"`, `"residual"` or `"input"`.
        token_dim: size of a token.
        masked: whether the face mask multiplies its output.
        gated: whether a learnable gate that starts at 0 multiplies its output (residual only).
        key_norm: RMS norm on the keys (and, for `residual`, on the queries).
        bias: bias on the key and value projections.
        blocks: (first, last + 1) of the blocks that have it; None for all.
        speaker_positions: whether, with two speakers, rotary positions bind each to the video tokens that look at them, told
            by the block's own self-attention (`AdapterInputs.query_key`; residual only, `avatar.dit.lrope`). The face masks
            are then the regions of the first frame; with more than two speakers they bind by themselves.
        made_of: what the tokens are made of, for those who make them (`avatar.wan.reference`); None where nobody needs to ask.
    """

    tokens: Literal["audio", "identity", "emotion"]
    kind: Literal["shared_query", "residual", "input"]
    token_dim: int
    masked: bool = False
    gated: bool = False
    key_norm: bool = False
    bias: bool = True
    blocks: tuple[int, int] | None = None
    speaker_positions: bool = False
    made_of: Literal["features", "arcface", "picture"] | None = None

    def __post_init__(self) -> None:
        if self.tokens not in ("audio", "identity", "emotion"):
            raise OptionError(f"adapter tokens must be audio, identity or emotion, not {self.tokens!r}")
        if self.kind not in ("shared_query", "residual", "input"):
            raise OptionError(f"adapter kind must be shared_query, residual or input, not {self.kind!r}")
        if self.speaker_positions and self.kind != "residual":
            raise OptionError(f"speaker_positions needs a residual adapter, not {self.kind!r}")

    def in_block(self, index: int) -> bool:
        return self.blocks is None or self.blocks[0] <= index < self.blocks[1]

    def to_dict(self) -> dict[str, Any]:
        """The settings that are not defaults, as a model's config keeps them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AdapterConfig:
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise OptionError(f"unknown adapter settings {unknown}; accepted: {sorted(cls.__dataclass_fields__)}")
        if values.get("blocks") is not None:  # a list, when it was read from JSON
            values = {**values, "blocks": tuple(values["blocks"])}
        return cls(**values)


@dataclass(frozen=True)
class AdapterInputs:
    """What a block hands to its adapters.

    Attributes:
        tokens: `{"audio": (B, S, F, N_a, D_a), "audio_lengths": (B, S, F), "identity": (B, N_i, D_i),
            "emotion": (B, F, N_e, D_e)}`, any subset; identity and emotion may have a speaker axis after the batch, too.
            With `"audio_mask"` and the like, (B, S, F * N, 1), an adapter's output is masked whatever its settings say.
        face_mask: (B, S, F * N, 1), where each speaker's sound acts, and where all else that is masked does.
        query_key: the block's own self-attention's query and key, (B, F * N, heads, D / heads), normalised and rotated; there
            only where an adapter of the block asks for `speaker_positions`.
    """

    tokens: Mapping[str, Tensor]
    face_mask: Tensor | None = None
    query_key: tuple[Tensor, Tensor] | None = None


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

    def forward(self, query: Tensor, tokens: Tensor, heard: Tensor | None = None) -> Tensor:
        """Queries (B', N, D) already normalised, tokens (B', M, D_t), `heard` (B', M) false on padding -> (B', N, D)."""
        query, key, value = _heads(self.num_heads, query, self.norm_k(self.to_k(tokens)), self.to_v(tokens))
        return _attend(query, key, value, heard)


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

    def forward(
        self,
        hidden_states: Tensor,
        tokens: Tensor,
        heard: Tensor | None = None,
        positions: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The update of the stream, gate included.

        Args:
            hidden_states: (B', N, D) the stream.
            tokens: (B', M, D_t).
            heard: (B', M), false on padding; None where all tokens count.
            positions: rotary positions of the stream (B', N) and of the tokens (M,).

        Returns:
            (B', N, D).
        """
        key, value = self.to_kv(tokens).chunk(2, dim=-1)
        states, key = self.norm(hidden_states), self.norm_k(key)
        if positions is None and self._is_foldable(states, tokens):
            update = self._folded(states, key, value, heard)
        else:
            query, key, value = _heads(self.num_heads, self.norm_q(self.to_q(states)), key, value)
            if positions is not None:
                query, key = rotate(query, positions[0]), rotate(key, positions[1])
            update = self.proj(_attend(query, key, value, heard))
        return update if self.gate is None else update * self.gate

    def _is_foldable(self, states: Tensor, tokens: Tensor) -> bool:
        """Whether `_folded` is less work, and the projections are plain: not wrapped, stored in another dtype, or fetched."""
        count, (length, dim) = tokens.shape[1], states.shape[1:]
        return (
            count * (dim + length * self.num_heads) < length * dim
            and isinstance(self.norm_q, nn.Identity)
            and all(
                type(layer) is nn.Linear
                and layer.weight.dtype == states.dtype
                and not hasattr(layer, "_diffusers_hook")
                and not hasattr(layer, "_hf_hook")
                for layer in (self.to_q, self.proj)
            )
        )

    def _folded(self, states: Tensor, key: Tensor, value: Tensor, heard: Tensor | None) -> Tensor:
        """The same with the matrices of query and output multiplied into the few keys and values, not the many video tokens.

        (W_q x + b) k = x (W_q^T k) + b k, and W_o applied to a sum of values is the sum of W_o v: with M tokens and h heads each of
        N video tokens costs 2 h M D products instead of 2 D^2 + 2 M D, and all of them together 2 M D^2 more.
        """
        heads = self.num_heads
        keys, values = (x.unflatten(-1, (heads, -1)) for x in (key, value))  # (B', M, h, d)
        by_head = torch.einsum("bmhd,hdc->bhmc", keys, self.to_q.weight.unflatten(0, (heads, -1)))
        scores = states @ by_head.flatten(1, 2).mT  # (B', N, h M)
        scores = scores.unflatten(-1, (heads, -1))
        scores = scores + torch.einsum("bmhd,hd->bhm", keys, self.to_q.bias.unflatten(0, (heads, -1)))[:, None]
        if heard is not None:
            scores = scores.masked_fill(~heard[:, None, None], float("-inf"))
        weights = (scores.float() * keys.shape[-1] ** -0.5).softmax(-1).type_as(states).flatten(2)
        said = torch.einsum("bmhd,chd->bhmc", values, self.proj.weight.unflatten(1, (heads, -1))).flatten(1, 2)
        return weights @ said + self.proj.bias


class InputAdapter(nn.Module):
    """One token of a latent frame, projected and added to every video token of that frame.

    Source: OmniAvatar, arXiv 2506.18866, section 3.2.
    """

    def __init__(self, dim: int, num_heads: int, config: AdapterConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.token_dim, dim, bias=config.bias)
        nn.init.zeros_(self.proj.weight)  # a fresh adapter changes nothing
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def forward(self, hidden_states: Tensor, tokens: Tensor, heard: Tensor | None = None) -> Tensor:
        """Stream (B', N, D), tokens (B', 1, D_t) -> the update (B', N, D)."""
        return self.proj(tokens).expand_as(hidden_states)


Adapter = SharedQueryAdapter | ResidualAdapter | InputAdapter
_CLASSES: dict[str, type[Adapter]] = {
    "shared_query": SharedQueryAdapter,
    "residual": ResidualAdapter,
    "input": InputAdapter,
}


def build_adapter(dim: int, num_heads: int, config: AdapterConfig) -> Adapter:
    """The module an `AdapterConfig` describes, for blocks of width `dim`."""
    return _CLASSES[config.kind](dim, num_heads, config)


def adapter_update(adapter: nn.Module, config: AdapterConfig, hidden_states: Tensor, inputs: AdapterInputs) -> Tensor:
    """What an adapter adds: video tokens of a latent frame see only that frame's tokens, once per speaker.

    Several speakers act each within their own mask, whatever the adapter.

    Args:
        adapter: the module.
        config: its settings.
        hidden_states: (B, F * N, D) stream, or normalised query.
        inputs: what the block was given.

    Returns:
        (B, F * N, D).

    Raises:
        OptionError: there are several speakers and no masks.
    """
    tokens, own_mask = inputs.tokens[config.tokens], inputs.tokens.get(f"{config.tokens}_mask")
    lasting = tokens.ndim == 3 or (config.tokens == "identity" and tokens.ndim == 4)  # the same for every frame
    speakers = tokens.unbind(1) if tokens.ndim == (4 if lasting else 5) else (tokens,)
    if config.speaker_positions and len(speakers) == 2 and own_mask is None:
        return _bound_by_positions(adapter, hidden_states, torch.cat(speakers, dim=2), inputs)
    masks = inputs.face_mask if own_mask is None else own_mask
    if masks is None and len(speakers) > 1:
        raise OptionError(f"{len(speakers)} speakers need a face mask each: who of them is where?")
    masked = config.masked or own_mask is not None or len(speakers) > 1
    lengths = inputs.tokens.get(f"{config.tokens}_lengths")
    total: Tensor | None = None
    for index, said in enumerate(speakers):  # (B, M, D) or (B, F, M, D)
        if lasting:
            update = adapter(hidden_states, said)
        else:
            heard = None if lengths is None else _heard(lengths[:, index], said.shape[2])
            update = _per_frame(adapter, hidden_states, said, heard=heard)
        if masked and masks is not None:  # one stream for several faces acts on all of them
            where = masks[:, index] if len(speakers) > 1 else masks.amax(1)
            update = update * where.type_as(update)
        total = update if total is None else total + update
    assert total is not None
    return total


def _bound_by_positions(adapter: nn.Module, hidden_states: Tensor, tokens: Tensor, inputs: AdapterInputs) -> Tensor:
    """Two speakers in one attention; tokens (B, F, 2 M, D), speaker 1 first."""
    if inputs.face_mask is None or inputs.query_key is None:
        raise OptionError("two speakers need a face mask each: who of them is where?")
    query, key = inputs.query_key
    first = key.shape[1] // tokens.shape[1]
    speakers = (inputs.face_mask[:, :, :first, 0] > 0).float()
    background = (speakers.sum(1, keepdim=True) == 0).float()
    scores = region_scores(query, key[:, :first], torch.cat([speakers, background], dim=1))
    _, positions = query_positions(scores)
    voices = voice_positions(tokens.shape[2] // 2, tokens.device)
    return _per_frame(adapter, hidden_states, tokens, positions=(positions.reshape(-1, first), voices))


def _per_frame(adapter: nn.Module, hidden_states: Tensor, tokens: Tensor, **more: Any) -> Tensor:
    """Every latent frame as a batch of its own: stream (B, F * N, D), tokens (B, F, M, D_t)."""
    frames = tokens.shape[1]
    folded = hidden_states.unflatten(1, (frames, -1)).flatten(0, 1)
    return adapter(folded, tokens.flatten(0, 1), **more).unflatten(0, (-1, frames)).flatten(1, 2)


def _heard(lengths: Tensor, num_tokens: int) -> Tensor:
    """(B * F, M), true for the first `lengths` tokens of each frame; a frame without any hears its padding."""
    lengths = lengths.reshape(-1, 1)
    return (torch.arange(num_tokens, device=lengths.device) < lengths) | (lengths == 0)


def _heads(num_heads: int, *states: Tensor) -> tuple[Tensor, ...]:
    """(B, N, D) each to (B, heads, N, D / heads)."""
    return tuple(x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in states)


def _attend(query: Tensor, key: Tensor, value: Tensor, heard: Tensor | None = None) -> Tensor:
    mask = None if heard is None else heard[:, None, None]
    return nn.functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
