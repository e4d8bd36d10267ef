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
