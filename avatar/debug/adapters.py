"""Random adapter files under the names of the published ones, narrow enough for the debug repository.

They are loaded by the code that loads the real files, so that each system's whole path can be tried on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from avatar.dit.published import PUBLISHED_PRESETS, load_adapter
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.multitalk import ENCODER_LAYERS
from avatar.dit.published.windows import SLOTS, WINDOW
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError

State = dict[str, Tensor]

_HIDDEN, _TOKENS, _TOKEN_DIM = 16, 4, 24
_LORA_RANK, _OMNI_CHANNELS = 4, 33


class _File:
    """Random tensors under names, drawn in order."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def tensor(self, name: str, *shape: int) -> None:
        self.state[name] = torch.randn(shape, generator=self.generator) / shape[-1] ** 0.5

    def linear(self, name: str, size_out: int, size_in: int, bias: bool = True) -> None:
        self.tensor(f"{name}.weight", size_out, size_in)
        if bias:
            self.tensor(f"{name}.bias", size_out)

    def norm(self, name: str, size: int, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = 1 + 0.1 * torch.randn(size, generator=self.generator)
        if bias:
            self.tensor(f"{name}.bias", size)


def _fantasytalking(file: _File, dim: int, blocks: int, features: int) -> None:
    file.linear("proj_model.proj", _TOKEN_DIM, features, bias=False)
    file.norm("proj_model.norm", _TOKEN_DIM)
    for index in range(blocks):
        for name in ("k_proj", "v_proj"):
            name = f"audio_processor.blocks.{index}.cross_attn.processor.{name}"
            file.linear(name, dim, _TOKEN_DIM, bias=False)


def _echomimic_preview(file: _File, dim: int, blocks: int, features: int) -> None:
    file.linear("audio2token.proj", dim, features, bias=False)
    file.norm("audio2token.norm", dim)
    for index in range(blocks):
        file.linear(f"blocks.{index}.cross_attn.k_audio", dim, dim, bias=False)
        file.linear(f"blocks.{index}.cross_attn.v_audio", dim, dim, bias=False)
        file.norm(f"blocks.{index}.cross_attn.norm_k_audio", dim, bias=False)
    file.linear("head.head", 64, dim)  # such files bring weights of the base along


def _slot_projector(file: _File, name: str, token_dim: int, features: int) -> None:
    file.linear(f"{name}.proj1", _HIDDEN, WINDOW * ENCODER_LAYERS * features)
    file.linear(f"{name}.proj1_vf", _HIDDEN, SLOTS * ENCODER_LAYERS * features)
    file.linear(f"{name}.proj2", _HIDDEN, _HIDDEN)
    file.linear(f"{name}.proj3", _TOKENS * token_dim, _HIDDEN)
    file.norm(f"{name}.norm", token_dim)


def _echomimic_flash(file: _File, dim: int, blocks: int, features: int) -> None:
    _slot_projector(file, "audio_injection", dim, features)
    for index in range(blocks):
        for name in ("q_audio", "k_audio", "v_audio"):
            file.linear(f"blocks.{index}.cross_attn.{name}", dim, dim)
        file.norm(f"blocks.{index}.cross_attn.norm_k_audio", dim, bias=False)


def _multitalk(file: _File, dim: int, blocks: int, features: int) -> None:
    _slot_projector(file, "audio_proj", _TOKEN_DIM, features)
    for index in range(blocks):
        file.linear(f"blocks.{index}.audio_cross_attn.q_linear", dim, dim)
        file.linear(f"blocks.{index}.audio_cross_attn.kv_linear", 2 * dim, _TOKEN_DIM)
        file.linear(f"blocks.{index}.audio_cross_attn.proj", dim, dim)
        file.norm(f"blocks.{index}.norm_x", dim)


def _omniavatar(file: _File, dim: int, blocks: int, features: int) -> None:
    file.linear("audio_proj.proj", 32, 4 * (ENCODER_LAYERS + 2) * features)
    file.norm("audio_proj.norm_out", 32)
    for index in range(blocks // 2 - 1):
        file.linear(f"audio_cond_projs.{index}", dim, 32)
    file.tensor("patch_embedding.weight", dim, _OMNI_CHANNELS, 1, 2, 2)
    file.tensor("patch_embedding.bias", dim)
    layers = [(f"{kind}_attn.{name}", dim, dim) for kind in ("self", "cross") for name in "qkvo"]
    for index in range(blocks):
        for name, size_out, size_in in (*layers, ("ffn.0", 2 * dim, dim), ("ffn.2", dim, 2 * dim)):
            file.tensor(f"blocks.{index}.{name}.lora_A.default.weight", _LORA_RANK, size_in)
            file.tensor(f"blocks.{index}.{name}.lora_B.default.weight", size_out, _LORA_RANK)


def _stableavatar(file: _File, dim: int, blocks: int, features: int) -> None:
    file.linear("vocal_projector.proj_model.proj", dim, features, bias=False)
    file.norm("vocal_projector.proj_model.norm", dim)
    for index in range(2):
        block = f"vocal_projector.blocks.{index}"
        file.norm(f"{block}.norm3", dim)
        for name in "qkvo":
            file.linear(f"{block}.cross_attn.{name}", dim, dim)
        for name in ("norm_q", "norm_k"):
            file.norm(f"{block}.cross_attn.{name}", dim, bias=False)
        file.linear(f"{block}.ffn.0", 2 * dim, dim)
        file.linear(f"{block}.ffn.2", dim, 2 * dim)
        file.tensor(f"{block}.modulation", 1, 6, dim)
    file.linear("vocal_projector.final_head.final_proj", dim, dim)
    file.tensor("vocal_projector.final_head.modulation", 1, 2, dim)
    for index in range(blocks):
        file.linear(f"blocks.{index}.cross_attn.k_vocal", dim, dim)
        file.linear(f"blocks.{index}.cross_attn.v_vocal", dim, dim)


_SYSTEMS: dict[str, Callable[[_File, int, int, int], None]] = {
    "fantasytalking": _fantasytalking,
    "echomimic-v3": _echomimic_preview,
    "echomimic-v3-flash": _echomimic_flash,
    "multitalk": _multitalk,
    "infinitetalk": _multitalk,
    "infinitetalk-multi": _multitalk,
    "omniavatar-14b": _omniavatar,
    "omniavatar-1.3b": _omniavatar,
    "stableavatar": _stableavatar,
}
DEBUG_SYSTEMS: dict[str, str] = {  # to the kind of debug repository it stands on
    name: "i2v" if PUBLISHED_PRESETS[name].base.image_to_video else "t2v" for name in _SYSTEMS
}


def debug_adapter(system: str, dim: int = 48, num_blocks: int = 4, feature_dim: int = 32, seed: int = 0) -> State:
    """The tensors of a random adapter file.

    Args:
        system: one of `DEBUG_SYSTEMS`.
        dim, num_blocks: of the transformer.
        feature_dim: width of the speech encoder.
        seed: of the weights.

    Raises:
        OptionError: no such system.
    """
    if system not in _SYSTEMS:
        raise OptionError(f"no debug adapter is called {system!r}; accepted: {', '.join(_SYSTEMS)}")
    file = _File(seed)
    _SYSTEMS[system](file, dim, num_blocks, feature_dim)
    return file.state


def load_debug_adapter(system: str, transformer: AvatarTransformer3DModel, feature_dim: int = 32) -> PublishedAdapter:
    """Puts a random adapter onto a debug transformer, by the system's own loader.

    Args:
        system: one of `DEBUG_SYSTEMS`.
        transformer: it is changed.
        feature_dim: width of the speech encoder, which the preset is told of.

    Raises:
        OptionError: no such system.
    """
    dim = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    state = debug_adapter(system, dim, len(transformer.blocks), feature_dim)
    options = {"lora_alpha": 2.0 * _LORA_RANK} if system.startswith("omniavatar") else {}
    adapter = load_adapter(system, transformer, state, **options)
    front_end = replace(adapter.preset.front_end, hidden_size=feature_dim)
    return replace(adapter, preset=replace(adapter.preset, front_end=front_end))
