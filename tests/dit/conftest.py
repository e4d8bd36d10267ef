from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from avatar.dit.transformer import AvatarTransformer3DModel

MakeModel = Callable[..., AvatarTransformer3DModel]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """A tiny transformer with random weights, none of them at a special value (zero, one)."""

    def make(*, scramble: bool = True, **settings: Any) -> AvatarTransformer3DModel:
        torch.manual_seed(0)
        model = AvatarTransformer3DModel(
            **{
                "num_attention_heads": 2,
                "attention_head_dim": 12,
                "in_channels": 4,
                "out_channels": 4,
                "text_dim": None,
                "freq_dim": 16,
                "ffn_dim": 32,
                "num_layers": 2,
                "cross_attn_norm": False,
                **settings,
            }
        )
        if scramble:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model.eval()

    return make


_ORIGINAL_ATTENTION = {
    "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "norm_q": "norm_q", "norm_k": "norm_k",
    "add_k_proj": "k_img", "add_v_proj": "v_img", "norm_added_k": "norm_k_img",
}  # fmt: skip
_ORIGINAL_OUTER = {
    "text_embedder.linear_1": "text_embedding.0",
    "text_embedder.linear_2": "text_embedding.2",
    "time_embedder.linear_1": "time_embedding.0",
    "time_embedder.linear_2": "time_embedding.2",
    "time_proj": "time_projection.1",
    "image_embedder.norm1": "img_emb.proj.0",
    "image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "image_embedder.ff.net.2": "img_emb.proj.3",
    "image_embedder.norm2": "img_emb.proj.4",
    "image_embedder.pos_embed": "img_emb.emb_pos",
}


def _original_name(name: str) -> str:
    """Written from Wan's model.py, as the other way round in `avatar.dit.wan_keys`."""
    for ours, wans in _ORIGINAL_OUTER.items():
        name = name.replace(f"condition_embedder.{ours}", wans)
    if name == "scale_shift_table":
        return "head.modulation"
    if not name.startswith("blocks."):
        return name.replace("proj_out", "head.head")
    name = name.replace("scale_shift_table", "modulation").replace("norm2", "norm3")
    name = name.replace("ffn.net.0.proj", "ffn.0").replace("ffn.net.2", "ffn.2")
    for attention, original in (("attn1", "self_attn"), ("attn2", "cross_attn")):
        for ours, wans in _ORIGINAL_ATTENTION.items():
            name = name.replace(f"{attention}.{ours}.", f"{original}.{wans}.")
    return name


@pytest.fixture(scope="session")
def original_names() -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """diffusers' names to Wan's own."""
    return lambda state: {_original_name(key): value.contiguous() for key, value in state.items()}
