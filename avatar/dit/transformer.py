"""The video transformer: Wan's, with blocks that also take sound, identity and emotion.

Source: Wan, arXiv 2503.20314, section 4; adapters as in `avatar.dit.adapters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import (
    WanRotaryPosEmbed,
    WanTimeTextImageEmbedding,
    WanTransformer3DModel,
)
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from avatar.dit.adapters import AdapterConfig, build_adapter
from avatar.dit.block import AvatarBlock, timestep_tokens
from avatar.dit.wan_keys import diffusers_state
from avatar.dit.wan_load import base_from_wan
from avatar.dit.wan_lora import merge_lora
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
        timestep_precision: in what the sinusoid of the noise level is computed: `"float32"` as in diffusers, or `"float64"`
            as in Wan's own code; they differ by up to 3e-5.
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
        timestep_precision: str = "float32",
    ) -> None:
        nn.Module.__init__(self)
        if prediction not in ("velocity", "sample"):
            raise OptionError(f"prediction must be velocity or sample, not {prediction!r}")
        if timestep_precision not in ("float32", "float64"):
            raise OptionError(f"timestep_precision must be float32 or float64, not {timestep_precision!r}")
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
                adapters=tuple(config for config in configs if config.in_block(index)),
                has_text=text_dim is not None,
            )
            for index in range(num_layers)
        )
        self.norm_out = FP32LayerNorm(inner_dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(inner_dim, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, inner_dim) / inner_dim**0.5)
        self.gradient_checkpointing = False

    @classmethod
    def from_wan(
        cls,
        source: str | Path | WanTransformer3DModel,
        adapters: Sequence[Mapping[str, Any]] = (),
        *,
        subfolder: str | None = None,
        dtype: torch.dtype | None = None,
        timestep_precision: str = "float32",
        num_attention_heads: int | None = None,
        **kwargs: Any,
    ) -> AvatarTransformer3DModel:
        """A published Wan transformer, with fresh adapters on top.

        Args:
            source: a loaded model, whose weights are shared, not copied; a diffusers folder of one, or of a pipeline; or files
                under Wan's own names: a file, an index of shards, or a folder.
            adapters: settings of adapters, which change nothing yet; see `attach_adapters`.
            subfolder: of a diffusers pipeline, `"transformer"` if None; `"transformer_2"` is Wan 2.2's expert for little noise.
            dtype: of the weights; None for as they are. What must be float32 is.
            timestep_precision: as for the class; published adapters were made with `"float64"`.
            num_attention_heads: of a model whose files do not say and whose heads are not 128 wide.
            kwargs: for a diffusers folder, as `from_pretrained` (`quantization_config`, `device_map`, …).

        Raises:
            InputError: there is nothing that can be read.
            OptionError, WeightsError: it is not a Wan transformer, or one with parts that this class does not have.
        """
        model = base_from_wan(
            cls, source, subfolder=subfolder, dtype=dtype, num_attention_heads=num_attention_heads, **kwargs
        )
        model.register_to_config(timestep_precision=timestep_precision)
        model.attach_adapters(adapters)
        return model

    def attach_adapters(self, adapters: Sequence[Mapping[str, Any]]) -> None:
        """Adds fresh adapters to the blocks, in the weights' own dtype and on their device.

        Args:
            adapters: settings, each a dict for `AdapterConfig`; one for each kind of token at most.

        Raises:
            OptionError: settings that are not accepted, or a second adapter for the same tokens.
        """
        configs = [AdapterConfig.from_dict(dict(values)) for values in adapters]
        names = [values["tokens"] for values in (*self.config.adapters, *adapters)]
        if len(set(names)) < len(names):
            raise OptionError(f"there can be one adapter for each kind of tokens, not {names}")
        for index, block in enumerate(self.blocks):
            assert isinstance(block, AvatarBlock)
            for config in configs:
                if config.in_block(index):
                    block.attach(config, self.dtype)
        self.register_to_config(adapters=(*self.config.adapters, *(dict(values) for values in adapters)))

    def adapter_templates(self, config: AdapterConfig) -> dict[int, dict[str, Tensor]]:
        """Names and shapes of the weights that an adapter has here, `{block: {name: tensor without content}}`."""
        heads = self.config.num_attention_heads
        with torch.device("meta"):
            template = build_adapter(heads * self.config.attention_head_dim, heads, config).state_dict()
        return {index: template for index in range(len(self.blocks)) if config.in_block(index)}

    @torch.no_grad()
    def load_base_overrides(self, state: Mapping[str, Tensor], resize_patch_embedding: bool = False) -> int:
        """Replaces weights of the base by those an adapter file brings along.

        Args:
            state: weights under Wan's names or diffusers'; nothing but weights of the base.
            resize_patch_embedding: whether the patch embedding may have another number of input channels than now.

        Returns:
            How many weights were replaced.

        Raises:
            OptionError: a name that the base does not have, or another shape; then nothing is replaced.
        """
        own = {name: value for name, value in self.state_dict().items() if ".adapters." not in name}
        given = diffusers_state(state)
        unknown = sorted(set(given) - set(own))
        if unknown:
            raise OptionError(f"the base has no weights called {', '.join(unknown[:4])} ({len(unknown)} such names)")
        patches = given.get("patch_embedding.weight")
        if resize_patch_embedding and patches is not None and patches.shape[1] != self.patch_embedding.in_channels:
            given.pop("patch_embedding.weight")
        else:
            patches = None
        for name, value in given.items():
            if value.shape != own[name].shape:
                raise OptionError(f"{name} has the shape {tuple(value.shape)}; the base's is {tuple(own[name].shape)}")
        for name, value in given.items():
            own[name].copy_(value)
        if patches is not None:
            self._resize_patch_embedding(patches)
        return len(given) + (patches is not None)

    def _resize_patch_embedding(self, weight: Tensor) -> None:
        old = self.patch_embedding.weight
        if weight.shape[0] != old.shape[0] or weight.shape[2:] != old.shape[2:]:
            raise OptionError(f"a patch embedding of {tuple(weight.shape)} does not fit a base of {tuple(old.shape)}")
        self.patch_embedding.weight = nn.Parameter(weight.to(old), requires_grad=old.requires_grad)
        self.patch_embedding.in_channels = weight.shape[1]
        codes = 0 if self.region_codes is None else self.region_codes.shape[1]
        self.register_to_config(in_channels=weight.shape[1] - codes)

    def merge_lora(self, source: str | Path | Mapping[str, Tensor], strength: float = 1.0) -> int:
        """Adds a published low-rank (or full) difference to the weights; see `avatar.dit.wan_lora.merge_lora`.

        diffusers' `load_lora_adapter` works as well, for LoRAs under diffusers' names; a merged one costs no time.
        """
        return merge_lora(self, source, strength)

    def set_attention_backend(self, backend: str) -> None:
        """As diffusers, but for this model alone: diffusers would make it the default of every model in the process."""
        default, _ = _AttentionBackendRegistry.get_active_backend()
        try:
            super().set_attention_backend(backend)
        finally:
            _AttentionBackendRegistry.set_active_backend(default)

    def enable_parallelism(self, **kwargs: Any) -> None:
        """As diffusers; a model with adapters is refused, whose frames must not be torn apart.

        Raises:
            OptionError: this model has adapters.
        """
        if self.config.adapters:
            raise OptionError(
                "adapters work frame by frame: a model with adapters cannot be split over devices by tokens"
            )
        super().enable_parallelism(**kwargs)

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        conditioning: Conditioning | None = None,
        return_dict: bool = True,
        encoder_hidden_states: Tensor | None = None,
        encoder_hidden_states_image: Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predicts velocity.

        Args:
            hidden_states: [B, C, F, H, W] noisy latents, x = (1 - sigma) * clean + sigma * noise.
            timestep: 1000 * sigma: [B], [B, F] for a noise level per latent frame (0 for clean context frames), or
                [B, F * N] for one per token.
            conditioning: what to show; tokens that are None are left out.
            return_dict: as everywhere in diffusers.
            encoder_hidden_states, encoder_hidden_states_image: text and picture tokens as diffusers' own pipelines give them,
                in place of those in `conditioning`.
            attention_kwargs: `{"scale": …}` of LoRA adapters, as everywhere in diffusers.

        Returns:
            [B, C_out, F, H, W], noise - clean.

        Raises:
            OptionError: the model attends to text or a picture and there is none.

        Source: flow matching, arXiv 2210.02747, with Wan's sign (arXiv 2503.20314, eq. 4).
        """
        conditioning = conditioning or Conditioning()
        noisy = hidden_states
        batch, _, frames, height, width = hidden_states.shape
        p_t, p_h, p_w = self.config.patch_size
        grid = (frames // p_t, height // p_h, width // p_w)
        rotary_emb = self.rope(hidden_states)
        hidden_states, timestep_proj, temb = self.embed_latents(hidden_states, timestep, conditioning)
        text = conditioning.text_tokens if encoder_hidden_states is None else encoder_hidden_states
        image = conditioning.image_tokens if encoder_hidden_states_image is None else encoder_hidden_states_image
        context, num_image_tokens = self._embed_context(text, image)
        mask = conditioning.face_mask
        mask_tokens = None if mask is None else mask.flatten(2)[..., None]
        shared = (context, timestep_proj, rotary_emb, conditioning.adapter_tokens(), mask_tokens, num_image_tokens)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(block, hidden_states, *shared)
            else:
                hidden_states = block(hidden_states, *shared)

        output = self._unpatchify(self._project_out(hidden_states, temb), batch, grid)
        if self.config.prediction == "sample":
            output = _velocity_from_sample(noisy, output, timestep)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def embed_latents(
        self, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the first block is given: video tokens, and the noise level for blocks and head.

        Args:
            latents, timestep, conditioning: as for `forward`.

        Returns:
            (B, F * N, D), (B, 6, D) and (B, D); the latter two per token where there is a noise level per frame.
        """
        batch, _, frames, height, width = latents.shape
        p_t, p_h, p_w = self.config.patch_size
        if conditioning.reference_latents is not None:
            latents = torch.cat([latents, conditioning.reference_latents.type_as(latents)], dim=1)
        if self.region_codes is not None:
            codes = self.region_codes.type_as(latents).expand(batch, -1, frames, -1, -1)
            latents = torch.cat([latents, codes], dim=1)
        video = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
        temb, projected = self._embed_time(timestep, (frames // p_t, height // p_h, width // p_w), video)
        return video, projected, temb

    def _embed_time(self, timestep: Tensor, grid: tuple[int, int, int], like: Tensor) -> tuple[Tensor, Tensor]:
        embedder = self.condition_embedder
        if self.config.timestep_precision == "float64":
            frequencies = _sinusoid(timestep.flatten(), self.config.freq_dim)
        else:
            frequencies = embedder.timesteps_proj(timestep.flatten())
        weight_dtype = embedder.time_embedder.linear_1.weight.dtype
        temb = embedder.time_embedder(frequencies.to(weight_dtype)).type_as(like)
        projected = embedder.time_proj(embedder.act_fn(temb)).unflatten(-1, (6, -1))
        if timestep.ndim == 2:
            frames, tokens_per_frame = grid[0], grid[1] * grid[2]
            repeats = tokens_per_frame if timestep.shape[1] == frames else 1
            temb = timestep_tokens(temb.unflatten(0, timestep.shape), repeats)
            projected = timestep_tokens(projected.unflatten(0, timestep.shape), repeats)
        return temb, projected

    def _embed_context(self, text: Tensor | None, image: Tensor | None) -> tuple[Tensor | None, int]:
        """(picture and text tokens, how many are the picture's)."""
        embedder = self.condition_embedder
        if embedder.text_embedder is None:
            return None, 0
        if text is None:
            raise OptionError(
                "this model attends to text: give text_tokens (an empty prompt's tokens, if nothing is to be said)"
            )
        if embedder.image_embedder is None:
            if image is not None:
                raise OptionError(
                    "this model does not attend to a picture (its image_dim is None); leave image_tokens out"
                )
            return embedder.text_embedder(text), 0
        if image is None:
            raise OptionError("this model attends to a picture: give image_tokens (CLIP's, of the first frame)")
        if text.shape[1] != WAN_TEXT_TOKENS:
            raise OptionError(
                f"a model that attends to a picture takes exactly {WAN_TEXT_TOKENS} text tokens, padded with zeros, "
                f"not {text.shape[1]}"
            )
        picture = embedder.image_embedder(image)
        return torch.cat([picture, embedder.text_embedder(text)], dim=1), picture.shape[1]

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

WAN_TEXT_TOKENS = 512  # what Wan was trained with, and what diffusers' own attention takes for granted
MIN_SIGMA = 0.02  # below this a velocity from a predicted sample would be a division by nothing


def _velocity_from_sample(noisy: Tensor, sample: Tensor, timestep: Tensor) -> Tensor:
    sigma = (timestep.float() / 1000).clamp_min(MIN_SIGMA)
    sigma = sigma[:, None, :, None, None] if timestep.ndim == 2 else sigma[:, None, None, None, None]
    return ((noisy.float() - sample.float()) / sigma).type_as(noisy)


def _sinusoid(timestep: Tensor, num_channels: int) -> Tensor:
    """(B,) to (B, num_channels) float32, computed in float64.

    Source: `sinusoidal_embedding_1d` in Wan's `wan/modules/model.py`.
    """
    half = num_channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angles = torch.outer(timestep.double(), torch.pow(10_000.0, -exponents))
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()
