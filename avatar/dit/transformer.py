"""The video transformer: Wan's, with blocks that also take sound, identity and emotion.

Source: Wan, arXiv 2503.20314, section 4; adapters as in `avatar.dit.adapters`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import (
    WanRotaryPosEmbed,
    WanTimeTextImageEmbedding,
    WanTransformer3DModel,
)
from torch import Tensor, nn

from avatar.dit.adapters import AdapterConfig
from avatar.dit.block import AvatarBlock, timestep_tokens
from avatar.errors import OptionError
from avatar.types import Conditioning

TransformerBlockRegistry.register(AvatarBlock, TransformerBlockMetadata(return_hidden_states_index=0))


class AvatarTransformer3DModel(WanTransformer3DModel):
    """Noisy latents and a `Conditioning` to the velocity of the flow, at any size.

    Args:
        patch_size … pos_embed_seq_len: as `WanTransformer3DModel`.
        text_dim: size of a text token; None for a model without text.
        adapters: settings of the adapters in every block, each a dict for `AdapterConfig`.
        region_grid: (height, width) in cells of a latent whose cells are *different things* (regions of a face) rather than
            patches of one picture; each cell then carries learned code channels, since neither the shared patch embedding nor
            rotary positions tell one cell from another. None for pictures.
        region_channels: how many code channels.
        prediction: what the network itself predicts: `"velocity"`, or `"sample"` (the clean latents, from which the velocity
            follows; T. Li and K. He, "Back to Basics: Let Denoising Generative Models Denoise", 2025).
    """

    _no_split_modules = ["AvatarBlock"]
    _repeated_blocks = ["AvatarBlock"]
    _skip_layerwise_casting_patterns = ["patch_embedding", "condition_embedder", "norm", "region_codes"]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int | None = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        adapters: tuple[dict[str, Any], ...] = (),
        region_grid: tuple[int, int] | None = None,
        region_channels: int = 8,
        prediction: str = "velocity",
    ) -> None:
        nn.Module.__init__(self)
        if prediction not in ("velocity", "sample"):
            raise OptionError(f"prediction must be velocity or sample, not {prediction!r}")
        inner_dim = num_attention_heads * attention_head_dim
        configs = tuple(AdapterConfig.from_dict(dict(values)) for values in adapters)
        self.region_codes = nn.Parameter(torch.randn(1, region_channels, 1, *region_grid)) if region_grid else None
        embedded_channels = in_channels + (region_channels if region_grid else 0)

        self.rope = WanRotaryPosEmbed(attention_head_dim, patch_size, rope_max_seq_len)
        self.patch_embedding = nn.Conv3d(embedded_channels, inner_dim, kernel_size=patch_size, stride=patch_size)
        self.condition_embedder = WanTimeTextImageEmbedding(
            inner_dim, freq_dim, inner_dim * 6, text_dim or 1, image_dim, pos_embed_seq_len
        )
        if text_dim is None:
            self.condition_embedder.text_embedder = None
        self.blocks = nn.ModuleList(
            AvatarBlock(
                inner_dim,
                ffn_dim,
                num_attention_heads,
                qk_norm,
                cross_attn_norm,
                eps,
                added_kv_proj_dim,
                adapters=configs,
                has_text=text_dim is not None,
            )
            for _ in range(num_layers)
        )
        self.norm_out = FP32LayerNorm(inner_dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(inner_dim, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, inner_dim) / inner_dim**0.5)
        self.gradient_checkpointing = False

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predicts velocity.

        Args:
            hidden_states: [B, C, F, H, W] noisy latents, x = (1 - sigma) * clean + sigma * noise.
            timestep: 1000 * sigma, [B], or [B, F] for a noise level per latent frame (0 for clean context frames).
            conditioning: what to show; tokens that are None are left out.
            return_dict: as everywhere in diffusers.

        Returns:
            [B, C_out, F, H, W], noise - clean.

        Source: flow matching, arXiv 2210.02747, with Wan's sign (arXiv 2503.20314, eq. 4).
        """
        noisy = hidden_states
        batch, _, frames, height, width = hidden_states.shape
        p_t, p_h, p_w = self.config.patch_size
        grid = (frames // p_t, height // p_h, width // p_w)
        if conditioning.reference_latents is not None:
            hidden_states = torch.cat([hidden_states, conditioning.reference_latents.type_as(hidden_states)], dim=1)
        rotary_emb = self.rope(hidden_states)
        if self.region_codes is not None:
            codes = self.region_codes.type_as(hidden_states).expand(batch, -1, frames, -1, -1)
            hidden_states = torch.cat([hidden_states, codes], dim=1)
        hidden_states = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()

        temb, timestep_proj = self._embed_time(timestep, grid[1] * grid[2], hidden_states)
        context = self._embed_text(conditioning)
        tokens = {
            name: value
            for name, value in (
                ("audio", conditioning.audio_tokens),
                ("identity", conditioning.identity_tokens),
                ("emotion", conditioning.emotion_tokens),
            )
            if value is not None
        }
        mask = conditioning.face_mask
        mask_tokens = None if mask is None else mask.flatten(2)[..., None]
        for block in self.blocks:
            arguments = (hidden_states, context, timestep_proj, rotary_emb, tokens, mask_tokens)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, *arguments)
            else:
                hidden_states = block(*arguments)

        output = self._unpatchify(self._project_out(hidden_states, temb), batch, grid)
        if self.config.prediction == "sample":
            output = _velocity_from_sample(noisy, output, timestep)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _embed_time(self, timestep: Tensor, tokens_per_frame: int, like: Tensor) -> tuple[Tensor, Tensor]:
        per_frame = timestep.ndim == 2
        embedder = self.condition_embedder
        frequencies = embedder.timesteps_proj(timestep.flatten())
        temb = embedder.time_embedder(frequencies.to(embedder.time_embedder.linear_1.weight.dtype)).type_as(like)
        projected = embedder.time_proj(embedder.act_fn(temb)).unflatten(-1, (6, -1))
        if per_frame:
            shape = timestep.shape
            temb = timestep_tokens(temb.unflatten(0, shape), tokens_per_frame)
            projected = timestep_tokens(projected.unflatten(0, shape), tokens_per_frame)
        return temb, projected

    def _embed_text(self, conditioning: Conditioning) -> Tensor | None:
        if self.condition_embedder.text_embedder is None:
            return None
        if conditioning.text_tokens is None:
            raise OptionError(
                "this model attends to text: give text_tokens (an empty prompt's tokens, if nothing is to be said)"
            )
        context = self.condition_embedder.text_embedder(conditioning.text_tokens)
        if conditioning.image_tokens is not None:
            context = torch.cat([self.condition_embedder.image_embedder(conditioning.image_tokens), context], dim=1)
        return context

    def _project_out(self, hidden_states: Tensor, temb: Tensor) -> Tensor:
        table = self.scale_shift_table.to(temb.device)
        modulation = table.unsqueeze(0) + temb.unsqueeze(2) if temb.ndim == 3 else table + temb.unsqueeze(1)
        shift, scale = (x.squeeze(2) if temb.ndim == 3 else x for x in modulation.chunk(2, dim=-2))
        return self.proj_out((self.norm_out(hidden_states.float()) * (1 + scale) + shift).type_as(hidden_states))

    def _unpatchify(self, hidden_states: Tensor, batch: int, grid: tuple[int, int, int]) -> Tensor:
        hidden_states = hidden_states.reshape(batch, *grid, *self.config.patch_size, -1)
        return hidden_states.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


# diffusers takes a class in a folder called `dit` for one of its own pipelines and would write a wrong library name into
# model_index.json; the class is exported at the package root, so say that it lives there.
AvatarTransformer3DModel.__module__ = "avatar"

MIN_SIGMA = 0.02  # below this a velocity from a predicted sample would be a division by nothing


def _velocity_from_sample(noisy: Tensor, sample: Tensor, timestep: Tensor) -> Tensor:
    sigma = (timestep.float() / 1000).clamp_min(MIN_SIGMA)
    sigma = sigma[:, None, :, None, None] if timestep.ndim == 2 else sigma[:, None, None, None, None]
    return ((noisy.float() - sample.float()) / sigma).type_as(noisy)
