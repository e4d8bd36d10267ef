"""Names of a Wan transformer's weights: the published ones to diffusers', and its settings from their shapes.

Source: Wan's `wan/modules/model.py` (github.com/Wan-Video/Wan2.1) and diffusers' `scripts/convert_wan_to_diffusers.py`. Wan
calls the affine norm before the cross-attention `norm3`; diffusers calls it `norm2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from avatar.errors import OptionError

PUBLISHED_HEAD_DIM = 128  # of every Wan model so far; files do not say

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "module.", "transformer.")
_OUTER = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_IMAGE_ATTENTION = {"k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k"}
_INNER = {
    **{f"self_attn.{old}": f"attn1.{new}" for old, new in _ATTENTION.items()},
    **{f"cross_attn.{old}": f"attn2.{new}" for old, new in {**_ATTENTION, **_IMAGE_ATTENTION}.items()},
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
    "modulation": "scale_shift_table",
}
_BLOCK = re.compile(r"(blocks\.\d+\.)(.*)", re.DOTALL)


def without_prefix(key: str) -> str:
    """A key without what training and serving programs put in front of it."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def diffusers_key(key: str) -> str:
    """The diffusers name of a weight or a module; a name that is not one of Wan's own is returned as it is."""
    block = _BLOCK.fullmatch(key)
    head, rest, names = (block[1], block[2], _INNER) if block else ("", key, _OUTER)
    parts = rest.split(".")
    for length in range(len(parts), 0, -1):
        new = names.get(".".join(parts[:length]))
        if new is not None:
            return head + ".".join([new, *parts[length:]])
    return key


def diffusers_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under diffusers' names, whichever names they came under.

    Raises:
        OptionError: two weights would have the same name.
    """
    renamed = {diffusers_key(without_prefix(key)): value for key, value in state.items()}
    if len(renamed) < len(state):
        raise OptionError("the file holds some weights of a Wan transformer twice, under two names each")
    return renamed


def settings_of(state: Mapping[str, Tensor], num_attention_heads: int | None = None) -> dict[str, Any]:
    """The settings of the transformer that weights belong to, for `AvatarTransformer3DModel`.

    Args:
        state: weights under diffusers' names.
        num_attention_heads: how many; None where the width is a multiple of 128, the width of a published head.

    Raises:
        OptionError: they are not a Wan transformer's, or the number of heads is not known.
    """
    needed = ("patch_embedding.weight", "proj_out.weight", "condition_embedder.time_embedder.linear_1.weight")
    missing = [key for key in needed if key not in state]
    if missing:
        raise OptionError(f"these are not the weights of a Wan transformer: {', '.join(missing)} missing")
    dim, in_channels, *patch = state["patch_embedding.weight"].shape
    if num_attention_heads is None and dim % PUBLISHED_HEAD_DIM:
        raise OptionError(f"the file does not say how many heads a width of {dim} has; give num_attention_heads")
    heads = num_attention_heads or dim // PUBLISHED_HEAD_DIM
    image = state.get("condition_embedder.image_embedder.ff.net.0.proj.weight")
    positions = state.get("condition_embedder.image_embedder.pos_embed")
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": in_channels,
        "out_channels": state["proj_out.weight"].shape[0] // (patch[0] * patch[1] * patch[2]),
        "text_dim": state["condition_embedder.text_embedder.linear_1.weight"].shape[1],
        "freq_dim": state["condition_embedder.time_embedder.linear_1.weight"].shape[1],
        "ffn_dim": state["blocks.0.ffn.net.0.proj.weight"].shape[0],
        "num_layers": num_blocks(state),
        "cross_attn_norm": "blocks.0.norm2.weight" in state,
        "image_dim": None if image is None else image.shape[1],
        "added_kv_proj_dim": dim if "blocks.0.attn2.add_k_proj.weight" in state else None,
        "pos_embed_seq_len": None if positions is None else positions.shape[1],
    }


def num_blocks(keys: Iterable[str]) -> int:
    """How many transformer blocks weights belong to."""
    return 1 + max((int(match[1]) for key in keys if (match := re.match(r"blocks\.(\d+)\.", key))), default=-1)
