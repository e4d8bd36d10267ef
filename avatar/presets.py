"""The models that can be asked for by name, with the figures one chooses by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """One row of `avatar presets`.

    Attributes:
        name: what `--preset` and `AvatarPipeline.from_pretrained` take.
        backbone: the transformer's size in words.
        codec: what the latents mean: `mesh` (a moving face, drawn onto the photo) or `wan` (pixels).
        parameters: rounded count of all networks together.
        weights: where the weights come from.
        runs_on: the least machine it is meant for, with the measured speed.
    """

    name: str
    backbone: str
    codec: str
    parameters: str
    weights: str
    runs_on: str


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="embedded",
            backbone="AvatarTransformer3DModel, small, block-causal",
            codec="mesh",
            parameters="about 10 M",
            weights="ship with the package",
            runs_on="2 CPU cores, offline",
        ),
        Preset(
            name="debug",
            backbone="two layers",
            codec="mesh",
            parameters="< 1 M",
            weights="random, made on the fly",
            runs_on="anything; tests",
        ),
    )
}
