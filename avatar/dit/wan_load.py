"""A Wan transformer from a folder, from files as Wan publishes them, or from memory, as a class derived from diffusers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from avatar.dit.wan_files import check_weights, read_state, settings_beside
from avatar.dit.wan_keys import diffusers_state, settings_of
from avatar.errors import InputError, OptionError

if TYPE_CHECKING:
    from avatar.dit.transformer import AvatarTransformer3DModel

_SETTINGS = (
    "patch_size num_attention_heads attention_head_dim in_channels out_channels text_dim freq_dim ffn_dim num_layers "
    "cross_attn_norm qk_norm eps image_dim added_kv_proj_dim rope_max_seq_len pos_embed_seq_len"
).split()
_NOT_LOADED = ("norm_added_q",)  # in some files, read by nothing


def base_from_wan(
    model_class: type[AvatarTransformer3DModel],
    source: str | Path | WanTransformer3DModel,
    *,
    subfolder: str | None = None,
    dtype: torch.dtype | None = None,
    num_attention_heads: int | None = None,
    **kwargs: Any,
) -> AvatarTransformer3DModel:
    """A model without adapters that holds a published transformer's weights; the arguments are `from_wan`'s.

    Raises:
        InputError: there is nothing that can be read.
        OptionError, WeightsError: it is not a Wan transformer, or one with parts that `model_class` does not have.
    """
    if isinstance(source, WanTransformer3DModel):
        settings = {name: source.config[name] for name in _SETTINGS}
        return _model(model_class, settings, source.state_dict(), dtype)
    path = Path(source)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    path = _transformer_folder(path, subfolder)
    if path.is_dir() and _is_diffusers(path):
        model = model_class.from_pretrained(path, **({} if dtype is None else {"dtype": dtype}), **kwargs)
        return model.eval()
    if kwargs:
        raise OptionError(f"{', '.join(kwargs)} can be given for a diffusers folder only, which {path} is not")
    state = diffusers_state(read_state(path))
    beside = settings_beside(path)
    settings = settings_of(state, num_attention_heads or beside.get("num_heads"))
    settings["eps"] = beside.get("eps", 1e-6)
    return _model(model_class, settings, state, dtype)


def _transformer_folder(path: Path, subfolder: str | None) -> Path:
    """The folder in a pipeline's, where it is one."""
    if subfolder is None and not (path / "model_index.json").is_file():
        return path
    folder = path / (subfolder or "transformer")
    if not folder.exists():
        raise InputError(f"{path} has no {folder.name}")
    return folder


def _is_diffusers(folder: Path) -> bool:
    """Whether a folder's settings have diffusers' names; Wan's own repositories have a `config.json`, too."""
    settings = settings_beside(folder)
    return "attention_head_dim" in settings and "dim" not in settings


def _model(
    model_class: type[AvatarTransformer3DModel],
    settings: dict[str, Any],
    state: dict[str, Tensor],
    dtype: torch.dtype | None,
) -> AvatarTransformer3DModel:
    """A model around tensors, which are not copied where their dtype is right."""
    with init_empty_weights(include_buffers=False):
        model = model_class(**settings)
    state = {name: value for name, value in state.items() if not any(part in name for part in _NOT_LOADED)}
    check_weights(model.state_dict(), state, f"these weights fit no Wan transformer of {json.dumps(settings)}")
    exact = set(model._keep_in_fp32_modules or ())
    for name, value in state.items():
        if dtype is not None and value.is_floating_point():
            state[name] = value.to(torch.float32 if exact & set(name.split(".")) else dtype)
    model.load_state_dict(state, assign=True)
    return model.eval()
