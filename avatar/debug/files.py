"""All files of a published system, tiny and random, in the folders and formats that the real ones are fetched into."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from avatar.debug.adapters import DEBUG_SYSTEMS, debug_adapter
from avatar.debug.repository import write_debug_repository
from avatar.dit.published import PUBLISHED_PRESETS
from avatar.dit.published.preset import Download, PublishedPreset
from avatar.errors import OptionError, OutputError

_LORA_ALPHA = 8.0
_NARROW = {"avatar_debug": True}  # tells the loader that a speech encoder is narrower than the real one


def write_debug_files(folder: str | Path, system: str, seed: int = 0) -> Path:
    """Writes what `avatar fetch SYSTEM --to FOLDER` would fetch, as tiny random models.

    Args:
        folder: where; it must not exist, or be empty.
        system: one of `DEBUG_SYSTEMS`.
        seed: of the weights.

    Returns:
        The folder, which `--preset` takes.

    Raises:
        OptionError: no such system.
        OutputError: there is something in the folder already.
    """
    if system not in DEBUG_SYSTEMS:
        raise OptionError(f"no debug system is called {system!r}; accepted: {', '.join(DEBUG_SYSTEMS)}")
    preset, root = PUBLISHED_PRESETS[system], Path(folder)
    if root.exists() and any(root.iterdir()):
        raise OutputError(f"{root} is not empty; name a new folder")
    base = preset.base
    whole = write_debug_repository(
        root / (base.components or base.download).repository,
        DEBUG_SYSTEMS[system],  # type: ignore[arg-type]
        seed,
    )
    _move_encoder(whole / "speech_encoder", root, preset.encoder)
    if base.components is not None:
        (root / base.download.repository).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(whole / "transformer", root / base.download.repository)
        (whole / "model_index.json").unlink()
    _write_adapter(root, preset, seed)
    return root


def _move_encoder(source: Path, root: Path, encoder: Download) -> None:
    """The encoder with its weights in the format its publisher chose."""
    target = root / encoder.repository
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)
    settings = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**settings, **_NARROW}, indent=2) + "\n", encoding="utf-8")
    if "pytorch_model.bin" in encoder.files:
        torch.save(load_file(target / "model.safetensors"), target / "pytorch_model.bin")
        (target / "model.safetensors").unlink()


def _write_adapter(root: Path, preset: PublishedPreset, seed: int) -> None:
    path = root / preset.adapter.repository / preset.adapter.files[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in debug_adapter(preset.name, seed=seed).items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    if "config.json" in preset.adapter.files:
        settings = json.dumps({"lora_alpha": _LORA_ALPHA}) + "\n"
        (path.parent / "config.json").write_text(settings, encoding="utf-8")
