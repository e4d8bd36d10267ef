"""Trained identity and emotion adapters as a small file of their own, beside a base of many gigabytes."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from avatar.dit.adapters import AdapterConfig
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError, WeightsError
from avatar.media.output import staged
from avatar.wan.reference import reference_adapters

_KEY = "reference_adapters"  # of the file's metadata


def save_reference(transformer: AvatarTransformer3DModel, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes the identity and emotion adapters of a transformer; `save_pretrained` writes them with all the rest.

    Args:
        transformer: with adapters of `attach_reference`.
        path: a `.safetensors` file. It appears whole or not at all.
        overwrite: whether it may be there already.

    Returns:
        The file.

    Raises:
        OptionError: there are no such adapters.
        OutputError: the file cannot be written.
    """
    configs = reference_adapters(transformer)
    if not configs:
        raise OptionError("this transformer has no identity or emotion adapter that could be saved")
    names = tuple(f".adapters.{tokens}." for tokens in configs)
    weights = {
        name: value.contiguous()
        for name, value in transformer.state_dict().items()
        if any(part in name for part in names)
    }
    metadata = {_KEY: json.dumps([config.to_dict() for config in configs.values()])}
    with staged(Path(path), overwrite) as name:
        Path(name).write_bytes(save(weights, metadata))
    return Path(path)


def load_reference(transformer: AvatarTransformer3DModel, path: str | Path) -> AvatarTransformer3DModel:
    """Puts adapters that `save_reference` wrote onto a transformer.

    Args:
        transformer: a base of the same size, with or without an adapter for sound; it is changed, or nothing is.
        path: the file.

    Returns:
        The transformer.

    Raises:
        InputError: there is no such file, or it is not one of these.
        WeightsError: it belongs to a transformer of another size.
        OptionError: the transformer has such adapters already.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}: give one that save_reference wrote")
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(_KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as err:
        raise InputError(f"{path} is not a safetensors file: {err}") from err
    if told is None:
        raise InputError(f"{path} holds no identity or emotion adapters: give a file that save_reference wrote")
    configs = [AdapterConfig.from_dict(values) for values in json.loads(told)]
    expected = {
        f"blocks.{index}.adapters.{config.tokens}.{name}": value.shape
        for config in configs
        for index, template in transformer.adapter_templates(config).items()
        for name, value in template.items()
    }
    if expected != {name: value.shape for name, value in weights.items()}:
        dim = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        raise WeightsError(
            f"{path} belongs to a transformer of another size than this one ({len(transformer.blocks)} blocks of {dim})"
        )
    transformer.attach_adapters([config.to_dict() for config in configs])
    transformer.load_state_dict(weights, strict=False)
    return transformer
