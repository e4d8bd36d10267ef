"""The models that can be asked for by name, with the figures one chooses by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from avatar.errors import MissingDependencyError, OptionError

_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Preset:
    """One row of `avatar presets`.

    Attributes:
        name: what `--preset` and `AvatarPipeline.from_pretrained` take.
        backbone: the transformer's size in words.
        codec: what the latents mean: `mesh` (a moving face, drawn onto the photo) or `wan` (pixels).
        parameters: rounded count of all networks together.
        weights: where the weights come from.
        memory: what it takes while it works, measured.
        licence: of the weights.
        runs_on: the least machine it is meant for, with the measured speed.
    """

    name: str
    backbone: str
    codec: str
    parameters: str
    weights: str
    memory: str
    licence: str
    runs_on: str


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="embedded",
            backbone="AvatarTransformer3DModel, 6 layers, chunks with motion frames",
            codec="mesh",
            parameters="about 10 M",
            weights="ship with the package",
            memory="0.9 GB of RAM",
            licence="Apache-2.0",
            runs_on="2 CPU cores, offline",
        ),
        Preset(
            name="debug",
            backbone="two layers",
            codec="mesh",
            parameters="< 1 M",
            weights="random, made on the fly",
            memory="< 1 GB of RAM",
            licence="none needed",
            runs_on="anything; tests",
        ),
    )
}


def is_own(name_or_folder: str | Path) -> bool:
    """Whether a name stands for a preset of this package, or a folder holds a saved pipeline; else it may be a published one's."""
    return str(name_or_folder) in PRESETS or (Path(name_or_folder) / "model_index.json").is_file()


def resolve_preset(name_or_folder: str | Path) -> Path:
    """The folder of a preset's weights, or of a pipeline that was saved.

    Raises:
        OptionError: neither a preset nor a folder with a `model_index.json` of this package.
        MissingDependencyError: the preset's weights are not there.
    """
    is_preset = str(name_or_folder) in PRESETS
    folder = _WEIGHTS / str(name_or_folder) if is_preset else Path(name_or_folder)
    if is_preset and not (folder / "model_index.json").is_file():
        raise MissingDependencyError(
            f"the weights of preset {str(name_or_folder)!r} are not in {folder}; reinstall avatar"
        )
    if not (folder / "model_index.json").is_file():
        raise OptionError(
            f"{str(name_or_folder)!r} is neither a preset nor a folder with a saved pipeline (model_index.json); "
            f"presets: {', '.join(PRESETS)}"
        )
    kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    if kind != "AvatarPipeline":
        raise OptionError(
            f"{folder} holds a {kind}, which is a model without a voice; give the folder that `avatar fetch PRESET --to FOLDER` "
            "wrote, or debug:PRESET"
        )
    return folder
