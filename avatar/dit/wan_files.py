"""Weights from files as they are published: safetensors, in one piece or in shards, and PyTorch's own, without their code."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avatar.errors import InputError, WeightsError

_PICKLES = (".pt", ".pth", ".ckpt", ".bin")
_SHOWN = 12  # groups of names in a message
_WRAPPERS = ("state_dict", "model", "module", "generator", "generator_ema")  # what training programs put around weights


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name.

    Args:
        path: a file (`.safetensors`, `.pt`, `.pth`, `.ckpt`, `.bin`), an index of shards (`.index.json`), or a folder with any of
            these, safetensors first.

    Raises:
        InputError: there is none, or it cannot be read, or it is a pickle that holds more than tensors.
    """
    return _read(_weights_file(Path(path)))


def settings_beside(path: str | Path) -> dict[str, Any]:
    """What the `config.json` beside weights says; empty without one."""
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    config = folder / "config.json"
    return json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}


def _weights_file(path: Path) -> Path | list[Path]:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"there is no file or folder {path}")
    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.bin.index.json", *(f"*{end}" for end in _PICKLES)):
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found and all("-of-" in file.name for file in found):
            return found
        if found:
            names = ", ".join(file.name for file in found)
            raise InputError(f"{path} holds several files of weights ({names}); name one")
    raise InputError(f"{path} holds no weights (.safetensors, {', '.join(_PICKLES)})")


def _read(path: Path | list[Path]) -> dict[str, Tensor]:
    if isinstance(path, list):
        return _joined(path)
    if path.name.endswith(".index.json"):
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        return _joined([path.parent / name for name in sorted(set(names))])
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in _PICKLES:
            return _tensors(torch.load(path, map_location="cpu", weights_only=True), path)
    except FileNotFoundError as err:
        raise InputError(f"{path} is missing; were all files downloaded?") from err
    except (SafetensorError, RuntimeError, EOFError) as err:
        raise InputError(f"{path} cannot be read: {err}") from err
    except pickle.UnpicklingError as err:
        raise InputError(
            f"{path} is a pickle with more than tensors in it, and is not opened: it could run code"
        ) from err
    raise InputError(f"{path.name} is no file of weights; accepted: .safetensors, {', '.join(_PICKLES)}")


def _joined(paths: list[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in paths:
        state.update(_read(path))
    return state


def _tensors(loaded: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, without what training programs put around them; nested names are joined with dots."""
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path} holds a {type(loaded).__name__}, not tensors by name")
    for wrapper in _WRAPPERS:
        if isinstance(loaded.get(wrapper), Mapping):
            return _tensors(loaded[wrapper], path)
    state: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if isinstance(value, Tensor):
            state[key] = value
        elif isinstance(value, Mapping):
            state.update({f"{key}.{inner}": tensor for inner, tensor in _tensors(value, path).items()})
    return state


def check_weights(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], sentence: str) -> None:
    """Checks that weights fit, name by name and shape by shape.

    Args:
        expected: what is wanted; only shapes are looked at.
        given: what there is.
        sentence: what an error begins with: which weights do not fit what.

    Raises:
        WeightsError: with what is missing, surplus, or of another shape.
    """
    shapes = [name for name in set(expected) & set(given) if expected[name].shape != given[name].shape]
    problems = [
        f"{label}: {_grouped(names)}"
        for label, names in (
            ("missing", set(expected) - set(given)),
            ("surplus", set(given) - set(expected)),
            ("of another shape", [f"{n} {_shape(given[n])} instead of {_shape(expected[n])}" for n in shapes]),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"{sentence}; {'; '.join(problems)}")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _grouped(names: Iterable[str]) -> str:
    """Names in order, those that differ by the block alone as one, with their number."""
    groups: dict[str, int] = {}
    for name in sorted(names):
        group = re.sub(r"^blocks\.\d+", "blocks.N", name)
        groups[group] = groups.get(group, 0) + 1
    shown = [name if count == 1 else f"{name} ({count})" for name, count in groups.items()]
    return ", ".join(shown[:_SHOWN]) + (f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
