"""One transformer block: Wan's own, with adapters around its cross-attention.

The order within a block: inputs are added, self-attention, cross-attention to text and picture together with the *shared
query* adapters, *residual* adapters, feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import (
    WanAttention,
    WanAttnProcessor,
    WanTransformerBlock,
    _get_added_kv_projections,
    _get_qkv_projections,
)
from torch import Tensor, nn

from avatar.dit.adapters import AdapterConfig, AdapterInputs, adapter_update, build_adapter
from avatar.errors import OptionError

Listener = Callable[[Tensor], Tensor]  # the normalised query (B, F * N, D) to what it hears, (B, F * N, D)


class AvatarAttnProcessor(WanAttnProcessor):
    """Wan's attention, which can do three things more.

    It takes apart picture and text by the number of picture tokens (diffusers takes all but the last 512 for picture); it lets
    `listeners` attend with the same query, their results added before the output projection, so that a shared query costs
    neither a second query nor a second output projection; and it can give query and key away.
    """

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
        num_image_tokens: int = 0,
        listeners: Sequence[Listener] = (),
        return_query_key: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """One attention, as `WanAttnProcessor`, bit for bit where nothing more is asked for.

        Args:
            attn, hidden_states, attention_mask, rotary_emb: as `WanAttnProcessor`.
            encoder_hidden_states: (B, L, D), picture tokens first; None for self-attention.
            num_image_tokens: how many of them are picture tokens.
            listeners: further attentions of the same query.
            return_query_key: also give query and key, (B, N, heads, D / heads), normalised and rotated.

        Returns:
            (B, N, D), or that with query and key.
        """
        image: Tensor | None = None
        context = encoder_hidden_states
        if num_image_tokens and context is not None:
            image, context = context[:, :num_image_tokens], context[:, num_image_tokens:]
        query, key, value = _get_qkv_projections(attn, hidden_states, context)
        normed_query, key = attn.norm_q(query), attn.norm_k(key)
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (normed_query, key, value))
        if rotary_emb is not None:
            query, key = _rotated(query, *rotary_emb), _rotated(key, *rotary_emb)

        seen = None if image is None else self._attend(query, *_image_key_value(attn, image))
        parallel = self._parallel_config if context is None else None
        output = self._attend(query, key, value, attention_mask, parallel)
        if seen is not None:
            output = output + seen
        for listener in listeners:
            output = output + listener(normed_query)
        output = attn.to_out[1](attn.to_out[0](output))
        return (output, query, key) if return_query_key else output

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, parallel: object | None = None
    ) -> Tensor:
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=0.0,
            is_causal=False,
            backend=self._attention_backend,
            parallel_config=parallel,
        )
        return attended.flatten(2, 3).type_as(query)


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

    attn2: WanAttention  # None, like norm2, without text
    norm2: nn.Module

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
        self.attn1.set_processor(AvatarAttnProcessor())
        self.attn2.set_processor(AvatarAttnProcessor())
        if not has_text:
            self.attn2 = self.norm2 = None  # type: ignore[assignment]
        self.adapter_configs: tuple[AdapterConfig, ...] = ()
        self.adapters = nn.ModuleDict()
        for config in adapters:
            self.attach(config)

    def attach(self, config: AdapterConfig, dtype: torch.dtype | None = None) -> None:
        """Adds a fresh adapter, which acts after those that are there.

        Raises:
            OptionError: a shared query adapter in a block without text, which has no query to share.
        """
        if config.kind == "shared_query" and self.attn2 is None:
            raise OptionError("a shared_query adapter needs a block with text attention; use residual without text")
        adapter = build_adapter(self.attn1.inner_dim, self.attn1.heads, config)
        device = self.scale_shift_table.device
        self.adapters[config.tokens] = adapter.to(device, dtype).train(self.training)
        self.adapter_configs = (*self.adapter_configs, config)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        tokens: dict[str, Tensor] | None = None,
        face_mask: Tensor | None = None,
        num_image_tokens: int = 0,
    ) -> Tensor:
        """One pass.

        Args:
            hidden_states: (B, F * N, D) video tokens, frame by frame.
            encoder_hidden_states: (B, L, D) picture and text context, in this order; None without one.
            temb: (B, 6, D), or (B, F * N, 6, D) for a noise level per token.
            rotary_emb: cosines and sines of the positions.
            tokens: `{"audio": (B, S, F, N_a, D_a), "audio_lengths": (B, S, F), "identity": (B, N_i, D_i),
                "emotion": (B, F, N_e, D_e)}`, any subset.
            face_mask: (B, S, F * N, 1), where each speaker's sound acts.
            num_image_tokens: how many tokens of the context are the picture's.

        Returns:
            (B, F * N, D).
        """
        inputs = AdapterInputs(tokens or {}, face_mask)
        for config in self._active(inputs, "input"):
            hidden_states = hidden_states + self._update(config, inputs, hidden_states)
        shift, scale, gate, c_shift, c_scale, c_gate = _modulation(self.scale_shift_table, temb)

        normed = (self.norm1(hidden_states.float()) * (1 + scale) + shift).type_as(hidden_states)
        if any(config.speaker_positions for config in self._active(inputs, "residual")):
            attended, *query_key = self.attn1(normed, None, None, rotary_emb, return_query_key=True)
            inputs = AdapterInputs(inputs.tokens, face_mask, (query_key[0], query_key[1]))
        else:
            attended = self.attn1(normed, None, None, rotary_emb)
        hidden_states = (hidden_states.float() + attended * gate).type_as(hidden_states)

        if self.attn2 is not None:
            normed = self.norm2(hidden_states.float()).type_as(hidden_states)
            listeners = [partial(self._update, config, inputs) for config in self._active(inputs, "shared_query")]
            hidden_states = hidden_states + self.attn2(
                normed, encoder_hidden_states, None, None, num_image_tokens=num_image_tokens, listeners=listeners
            )
        for config in self._active(inputs, "residual"):
            hidden_states = hidden_states + self._update(config, inputs, hidden_states)

        normed = (self.norm3(hidden_states.float()) * (1 + c_scale) + c_shift).type_as(hidden_states)
        return (hidden_states.float() + self.ffn(normed).float() * c_gate).type_as(hidden_states)

    def _active(self, inputs: AdapterInputs, kind: str) -> list[AdapterConfig]:
        return [config for config in self.adapter_configs if config.kind == kind and config.tokens in inputs.tokens]

    def _update(self, config: AdapterConfig, inputs: AdapterInputs, hidden_states: Tensor) -> Tensor:
        return adapter_update(self.adapters[config.tokens], config, hidden_states, inputs)


def _modulation(table: Tensor, temb: Tensor) -> list[Tensor]:
    """Shift, scale and gate of both halves of a block, (B, 1, D) or per token (B, F * N, D) each."""
    if temb.ndim == 4:
        return [x.squeeze(2) for x in (table.unsqueeze(0) + temb.float()).chunk(6, dim=2)]
    return list((table + temb.float()).chunk(6, dim=1))


def _image_key_value(attn: WanAttention, image: Tensor) -> tuple[Tensor, Tensor]:
    key, value = _get_added_kv_projections(attn, image)
    key = attn.norm_added_k(key)
    return key.unflatten(2, (attn.heads, -1)), value.unflatten(2, (attn.heads, -1))


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions on interleaved pairs, as Wan; (B, N, heads, D / heads)."""
    x1, x2 = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cosines[..., 0::2], sines[..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = x1 * cos - x2 * sin
    out[..., 1::2] = x1 * sin + x2 * cos
    return out.type_as(x)


def timestep_tokens(timestep: Tensor, tokens_per_frame: int) -> Tensor:
    """Noise levels per latent frame (B, F) to one per token (B, F * N)."""
    return torch.repeat_interleave(timestep, tokens_per_frame, dim=1)
