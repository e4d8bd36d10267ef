"""What trained weights belong to, told without loading anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SETTINGS = "trained.json"


def is_trained(folder: str | Path) -> bool:
    """Whether a folder holds what `avatar.wan.trained_file.save_trained` wrote."""
    return (Path(folder) / SETTINGS).is_file()


def base_of(folder: str | Path) -> dict[str, Any]:
    """The settings in such a folder: `base`, what `--preset` takes for it, `adapters` and `lora`; empty for anything else."""
    path = Path(folder) / SETTINGS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
