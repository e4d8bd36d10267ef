"""One transformer block: Wan's own, with adapters between its cross-attention and its feed-forward layer."""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from avatar.dit.adapters import AdapterConfig, SharedQueryAdapter, build_adapter
from avatar.errors import OptionError


class AvatarBlock(WanTransformerBlock):
    """`WanTransformerBlock` that also listens to sound, identity and emotion.

    Everything it needs arrives as an argument, never as state on a processor, so that gradient checkpointing and
    compilation see it. A block without a text context (`has_text=False`) has no text cross-attention.

    Args:
        dim, ffn_dim, num_heads, qk_norm, cross_attn_norm, eps, added_kv_proj_dim: as `WanTransformerBlock`.
        adapters: in the order they act.
        has_text: whether the block attends to text.

    Raises:
        OptionError: a shared query adapter in a block without text, which has no query to share.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        qk_norm: str = "rms_norm_across_heads",
        cross_attn_norm: bool = False,
        eps: float = 1e-6,
        added_kv_proj_dim: int | None = None,
        adapters: tuple[AdapterConfig, ...] = (),
        has_text: bool = True,
    ) -> None:
        super().__init__(dim, ffn_dim, num_heads, qk_norm, cross_attn_norm, eps, added_kv_proj_dim)
        if not has_text:
            if any(config.kind == "shared_query" for config in adapters):
                raise OptionError("a shared_query adapter needs a block with text attention; use residual without text")
            self.attn2 = None
            self.norm2 = None
        self.adapter_configs = adapters
        self.adapters = nn.ModuleDict({config.tokens: build_adapter(dim, num_heads, config) for config in adapters})

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        tokens: dict[str, Tensor] | None = None,
        face_mask: Tensor | None = None,
    ) -> Tensor:
        """One pass.

        Args:
            hidden_states: (B, F * N, D) video tokens, frame by frame.
            encoder_hidden_states: (B, L, D) text (and picture) context, None without one.
            temb: (B, 6, D), or (B, F * N, 6, D) for a noise level per token.
            rotary_emb: cosines and sines of the positions.
            tokens: `{"audio": (B, S, F, N_a, D_a), "identity": (B, N_i, D_i), "emotion": (B, F, N_e, D_e)}`, any subset.
            face_mask: (B, S, F * N, 1), where each speaker's sound acts.

        Returns:
            (B, F * N, D).
        """
        tokens = tokens or {}
        modulation = (
            self.scale_shift_table.unsqueeze(0) + temb.float()
            if temb.ndim == 4
            else self.scale_shift_table + temb.float()
        )
        shift, scale, gate, c_shift, c_scale, c_gate = (
            x.squeeze(-2) if temb.ndim == 4 else x for x in modulation.chunk(6, dim=-2)
        )

        normed = (self.norm1(hidden_states.float()) * (1 + scale) + shift).type_as(hidden_states)
        hidden_states = (hidden_states.float() + self.attn1(normed, None, None, rotary_emb) * gate).type_as(
            hidden_states
        )

        if self.attn2 is not None:
            normed = self.norm2(hidden_states.float()).type_as(hidden_states)
            update = self.attn2(normed, encoder_hidden_states, None, None)
            for config in self._with_tokens(tokens, "shared_query"):
                update = update + self._shared_query(config, normed, tokens[config.tokens], face_mask)
            hidden_states = hidden_states + update
        for config in self._with_tokens(tokens, "residual"):
            adapter = self.adapters[config.tokens]
            hidden_states = hidden_states + _per_frame(adapter, hidden_states, tokens[config.tokens], face_mask, config)

        normed = (self.norm3(hidden_states.float()) * (1 + c_scale) + c_shift).type_as(hidden_states)
        return (hidden_states.float() + self.ffn(normed).float() * c_gate).type_as(hidden_states)

    def _with_tokens(self, tokens: dict[str, Tensor], kind: str) -> list[AdapterConfig]:
        return [config for config in self.adapter_configs if config.kind == kind and config.tokens in tokens]

    def _shared_query(self, config: AdapterConfig, normed: Tensor, tokens: Tensor, face_mask: Tensor | None) -> Tensor:
        """o(mask * attention), without o's bias, which the text attention has already added."""
        adapter = self.adapters[config.tokens]
        assert isinstance(adapter, SharedQueryAdapter) and self.attn2 is not None
        query = self.attn2.norm_q(self.attn2.to_q(normed))
        heard = _per_frame(adapter, query, tokens, face_mask, config)
        output = self.attn2.to_out[0]
        return output(heard) - output.bias


def _per_frame(
    adapter: nn.Module, hidden_states: Tensor, tokens: Tensor, face_mask: Tensor | None, config: AdapterConfig
) -> Tensor:
    """Applies an adapter so that video tokens of a latent frame see only that frame's tokens, once per speaker."""
    if tokens.ndim == 3:  # (B, M, D): the same for every frame
        update = adapter(hidden_states, tokens)
        return update * face_mask[:, 0].type_as(update) if config.masked and face_mask is not None else update
    speakers = tokens.unbind(1) if tokens.ndim == 5 else (tokens,)
    total: Tensor | None = None
    for index, spoken in enumerate(speakers):  # (B, F, M, D)
        frames = spoken.shape[1]
        folded = hidden_states.unflatten(1, (frames, -1)).flatten(0, 1)
        update = adapter(folded, spoken.flatten(0, 1)).unflatten(0, (-1, frames)).flatten(1, 2)
        if config.masked and face_mask is not None:
            update = update * face_mask[:, index].type_as(update)
        total = update if total is None else total + update
    assert total is not None
    return total


def timestep_tokens(timestep: Tensor, tokens_per_frame: int) -> Tensor:
    """Noise levels per latent frame (B, F) to one per token (B, F * N)."""
    return torch.repeat_interleave(timestep, tokens_per_frame, dim=1)
