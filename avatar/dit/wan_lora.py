"""Low-rank and full differences to Wan's weights, as they are published, added to a loaded transformer.

Few-step distillations (lightx2v, FusionX, CausVid) come as such files, under five customs of naming; differences to biases,
norms and modulations are in them as well, which a plain LoRA loader leaves out. Source: E. Hu et al., arXiv 2106.09685, eq. 3,
W + (alpha / rank) B A; names as in the files and in diffusers' `lora_conversion_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from avatar.dit.wan_files import read_state
from avatar.dit.wan_keys import diffusers_key, without_prefix
from avatar.errors import OptionError

_ROLES = {  # what a key's end says
    "lora_down.weight": "down",
    "lora_A.weight": "down",
    "lora_A.default.weight": "down",
    "lora_up.weight": "up",
    "lora_B.weight": "up",
    "lora_B.default.weight": "up",
    "lora_B.bias": "bias",
    "alpha": "alpha",
    "diff": "weight",
    "diff_b": "bias",
    "diff_m": "modulation",
}
_KEY = re.compile(rf"(.*?)\.?({'|'.join(re.escape(end) for end in sorted(_ROLES, key=len, reverse=True))})", re.DOTALL)
_UNDERSCORED = re.compile(  # musubi and kohya write every dot of a name as an underscore
    r"lora_unet_blocks_(\d+)_(self_attn|cross_attn|ffn)_(.+)"
)


@dataclass
class _Difference:
    """What a file says about one module."""

    parts: dict[str, Tensor] = field(default_factory=dict)

    def of_weight(self, alpha: float | None) -> Tensor | None:
        if "weight" in self.parts:
            return self.parts["weight"].float()
        if "up" not in self.parts:
            return None
        down, up = self.parts["down"].float(), self.parts["up"].float()
        rank = down.shape[0]
        scale = (float(self.parts["alpha"]) if "alpha" in self.parts else alpha or rank) / rank
        return scale * (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


@torch.no_grad()
def merge_lora(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], strength: float = 1.0, alpha: float | None = None
) -> int:
    """Adds a difference to a model's weights.

    Args:
        model: a transformer with diffusers' names.
        source: a file, or tensors by name.
        strength: how much of it.
        alpha: where the file does not say; None for the rank, that is, as the matrices are.

    Returns:
        How many weights and biases were changed.

    Raises:
        OptionError: a key that is not understood, a module that the model does not have, or another shape; nothing is changed
            then.
    """
    state = source if isinstance(source, Mapping) else read_state(source)
    own = dict(model.named_parameters())
    changes: dict[str, Tensor] = {}
    for module, difference in _by_module(state).items():
        weight, bias = difference.of_weight(alpha), difference.parts.get("bias")
        named = {f"{module}.weight": weight, f"{module}.bias": bias, module: difference.parts.get("modulation")}
        for name, value in named.items():
            if value is None:
                continue
            if name not in own:
                raise OptionError(f"the LoRA changes {name}, which this transformer does not have")
            if own[name].numel() != value.numel() or own[name].shape[0] not in (1, value.shape[0]):
                raise OptionError(
                    f"the LoRA's difference to {name} is {tuple(value.shape)}; the weight is {tuple(own[name].shape)}"
                )
            changes[name] = value
    for name, value in changes.items():
        weight = own[name]
        update = value.to(weight.device, torch.float32).reshape(weight.shape)
        weight.copy_((weight.float() + strength * update).to(weight.dtype))
    return len(changes)


def _by_module(state: Mapping[str, Tensor]) -> dict[str, _Difference]:
    found: dict[str, _Difference] = {}
    for key, value in state.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise OptionError(f"{key} is no part of a LoRA that is known here; accepted ends: {', '.join(_ROLES)}")
        path, role = match[1], _ROLES[match[2]]
        if role == "modulation":
            path = f"{path}.modulation" if path else "head.modulation"
        found.setdefault(_module_name(path), _Difference()).parts[role] = value
    for module, difference in found.items():
        if ("down" in difference.parts) != ("up" in difference.parts):
            raise OptionError(f"the LoRA has only one of the two matrices of {module}")
    return found


def _module_name(path: str) -> str:
    """A module of the model, under diffusers' name."""
    path = path.removeprefix("base_model.model.")
    underscored = _UNDERSCORED.fullmatch(path)
    if underscored:
        path = f"blocks.{underscored[1]}.{underscored[2]}.{underscored[3]}"
    return diffusers_key(without_prefix(path))
