"""Saving and resuming a run: everything that decides the next step, in one file that is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from avatar.errors import OptionError


class Stateful(Protocol):
    """A module, an optimiser, a schedule: what has a state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


def save_checkpoint(path: Path, recipe: dict[str, Any], step: int, parts: Mapping[str, Stateful]) -> None:
    """Writes beside, then renames, so that a kill while saving leaves the former checkpoint."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {"recipe": recipe, "step": step, "parts": {name: part.state_dict() for name, part in parts.items()}}, temporary
    )
    temporary.replace(path)


def resume_checkpoint(path: Path, recipe: dict[str, Any], parts: Mapping[str, Stateful]) -> int:
    """Restores the parts and returns the step to go on with, 0 where there is no checkpoint.

    Raises:
        OptionError: the checkpoint belongs to another recipe; the differing keys are named.
    """
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    differing = sorted(key for key in recipe if saved["recipe"].get(key) != recipe[key])
    if differing:
        raise OptionError(
            f"{path} was made with other values of {', '.join(differing)}; use another folder or the same recipe"
        )
    for name, part in parts.items():
        part.load_state_dict(saved["parts"][name])
    return int(saved["step"])


def log_line(path: Path, line: dict[str, float], log: Callable[[dict[str, float]], None] | None) -> None:
    """Appends one line of figures to a JSON-lines file and tells the caller."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    if log:
        log(line)
