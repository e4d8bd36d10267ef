"""What was trained on top of a Wan model, as a small folder beside a base of many gigabytes.

`trained.safetensors` holds every weight that differs from the base (adapters, projector, LoRA, or all of it), `trained.json`
says what they were trained on. `AvatarPipeline.from_pretrained` takes the folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, WeightsError
from avatar.wan.trained_base import SETTINGS, base_of, is_trained

if TYPE_CHECKING:
    from avatar.wan.pipeline import WanAvatarPipeline

WEIGHTS = "trained.safetensors"
LORA_NAME = "trained"


def save_trained(transformer: AvatarTransformer3DModel, projector: nn.Module, folder: Path, base: str) -> Path:
    """Writes the weights that require gradients.

    Args:
        transformer, projector: trained.
        folder: made where absent.
        base: what the weights belong to, for `from_pretrained`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {
        f"{part}.{name}": value.detach().cpu().contiguous()
        for part, module in (("transformer", transformer), ("projector", projector))
        for name, value in module.named_parameters()
        if value.requires_grad
    }
    lora = getattr(transformer, "peft_config", {}).get(LORA_NAME)
    told = base_of(base)
    settings: dict[str, Any] = {
        "base": told.get("base", base),
        "adapters": [dict(values) for values in transformer.config.adapters],
        "lora": None if lora is None else {"rank": lora.r, "targets": sorted(lora.target_modules)},
    }
    if told:  # what was trained before stays
        before = load_file(Path(base) / WEIGHTS)
        weights = {**before, **weights}
        settings["lora"] = settings["lora"] or told["lora"]
    save_file(weights, folder / WEIGHTS)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return folder


@torch.no_grad()
def load_trained(pipeline: WanAvatarPipeline, folder: str | Path) -> WanAvatarPipeline:
    """Puts trained weights onto the base that they belong to.

    Args:
        pipeline: the base; it is changed.
        folder: that `save_trained` wrote.

    Raises:
        InputError: there is no such folder.
        WeightsError: the weights belong to another model.
    """
    if not is_trained(folder):
        raise InputError(f"{folder} holds no trained weights: give a folder that `avatar train` wrote")
    settings, weights = base_of(folder), load_file(Path(folder) / WEIGHTS)
    transformer, there = pipeline.transformer, {values["tokens"] for values in pipeline.transformer.config.adapters}
    transformer.attach_adapters([values for values in settings["adapters"] if values["tokens"] not in there])
    if settings["lora"] and LORA_NAME not in getattr(transformer, "peft_config", {}):
        transformer.add_adapter(
            lora_config(settings["lora"]["rank"], settings["lora"]["targets"]), adapter_name=LORA_NAME
        )
    own: dict[str, Tensor] = {
        f"{part}.{name}": value
        for part, module in (("transformer", transformer), ("projector", pipeline.audio_projector))
        for name, value in module.named_parameters()
    }
    wrong = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise WeightsError(f"{folder} belongs to another model: {', '.join(wrong[:4])} ({len(wrong)} such weights)")
    for name, value in weights.items():
        own[name].copy_(value)
    return pipeline


def lora_config(rank: int, targets: Sequence[str]) -> Any:
    """peft's settings of a LoRA whose strength is 1."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets), init_lora_weights=True)
