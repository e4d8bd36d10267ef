"""A published adapter file onto a Wan transformer: every key accounted for, every size read from the tensors.

A file is sorted into four heaps: weights of the adapters in the blocks, weights of the audio projector, weights of the base
that the file brings along and that replace the base's own, and names known to be dead. Whatever is left over, is missing or
has another shape makes the whole file refused, before the transformer is touched.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.preset import PublishedPreset
from avatar.dit.published.projectors import PackProjector, SlotProjector, WindowProjector
from avatar.dit.published.vocal_projector import VocalProjector
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.dit.wan_files import check_weights, read_state
from avatar.dit.wan_keys import diffusers_key, num_blocks, without_prefix
from avatar.errors import WeightsError
from avatar.types import Conditioning

_log = logging.getLogger(__name__)
_BLOCK = re.compile(r"blocks\.(\d+)\.(.*)", re.DOTALL)
Source = str | Path | Mapping[str, Tensor]
Projector = WindowProjector | SlotProjector | PackProjector | VocalProjector


@dataclass(frozen=True)
class PublishedAdapter:
    """An adapter that was loaded.

    Attributes:
        preset: the system's data.
        transformer: the model it was put on.
        projector: features to audio tokens.
        overridden: weights of the base that the file replaced, under diffusers' names.
        ignored: names in the file that the system itself does not read.
    """

    preset: PublishedPreset
    transformer: AvatarTransformer3DModel
    projector: Projector
    overridden: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def at_step(self, latents: Tensor, timestep: Tensor, conditioning: Conditioning) -> Conditioning:
        """The conditions of one step: the same, except where a projector looks at the noisy latents (StableAvatar).

        Args:
            latents: [B, C, F, H, W].
            timestep: 1000 * sigma, [B].
            conditioning: with the projector's audio tokens and the reference latents.
        """
        if not isinstance(self.projector, VocalProjector) or conditioning.audio_tokens is None:
            return conditioning
        video, time_projection, time_embedding = self.transformer.embed_latents(latents, timestep, conditioning)
        tokens = self.projector(conditioning.audio_tokens, video, time_projection, time_embedding)
        return replace(conditioning, audio_tokens=tokens)


@dataclass
class Heaps:
    """The keys of an adapter file, sorted.

    Attributes:
        adapter: weights of the blocks' adapters, `{block: {name: tensor}}`.
        projector: weights of the projector, without prefix.
        base: weights that replace the base's, under diffusers' names.
        ignored: names the system itself does not read.
    """

    adapter: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    projector: dict[str, Tensor] = field(default_factory=dict)
    base: dict[str, Tensor] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """Which names of a file mean what.

    Attributes:
        modules: of a block, the published name of a module to the adapter's.
        projector: prefixes of the projector's names; what follows is the name in the projector.
        ignored: modules of a block that are in the file and read by nobody.
        prefixes: what may stand before a block's name.
    """

    modules: Mapping[str, str]
    projector: str
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def sort(self, source: Source) -> Heaps:
        """Sorts the keys of a file; what is neither the adapter's nor dead is left to the base.

        Raises:
            InputError: the file cannot be read, or is a pickle with more than tensors.
        """
        heaps = Heaps()
        for key, value in (source if isinstance(source, Mapping) else read_state(source)).items():
            key = without_prefix(key)
            for prefix in self.prefixes:
                key = key.removeprefix(prefix)
            block = _BLOCK.fullmatch(key)
            module, _, parameter = block[2].rpartition(".") if block else ("", "", "")
            if block and module in self.modules:
                heaps.adapter.setdefault(int(block[1]), {})[f"{self.modules[module]}.{parameter}"] = value
            elif block and module in self.ignored:
                heaps.ignored.append(key)
            elif key.startswith(self.projector):
                heaps.projector[key.removeprefix(self.projector)] = value
            else:
                heaps.base[diffusers_key(key)] = value
        return heaps


def check_base(preset: PublishedPreset, transformer: AvatarTransformer3DModel) -> None:
    """Checks that a transformer is of the kind a system was trained on.

    Raises:
        WeightsError: it is not, with everything that differs.
    """
    config, base = transformer.config, preset.base
    pictures = {True: "an image-to-video model", False: "a text-to-video model"}
    pairs = [
        ("kind", pictures[base.image_to_video], pictures[config.image_dim is not None]),
        ("input channels", base.in_channels, config.in_channels),
        ("adapters", "none", ", ".join(each["tokens"] for each in config.adapters) or "none"),
    ]
    differences = [f"{what}: {got} instead of {wanted}" for what, wanted, got in pairs if wanted != got]
    if differences:
        raise WeightsError(
            f"{preset.title} needs {base.download.repository}, and this is another model: {'; '.join(differences)}"
        )


def size(heap: Mapping[str, Tensor], name: str, axis: int, preset: PublishedPreset) -> int:
    """One size, read from a tensor of a file.

    Raises:
        WeightsError: the tensor is not there.
    """
    if name not in heap:
        raise WeightsError(f"this is no adapter file of {preset.title}: it holds no {name}")
    return heap[name].shape[axis]


def first_block(heaps: Heaps, preset: PublishedPreset) -> Mapping[str, Tensor]:
    """Adapter weights of the first block that has any.

    Raises:
        WeightsError: no block has.
    """
    if not heaps.adapter:
        raise WeightsError(f"this is no adapter file of {preset.title}: no transformer block has an adapter in it")
    return heaps.adapter[min(heaps.adapter)]


def install(
    preset: PublishedPreset,
    transformer: AvatarTransformer3DModel,
    heaps: Heaps,
    config: AdapterConfig,
    make_projector: Callable[[], Projector],
    *,
    resize_patch_embedding: bool = False,
) -> PublishedAdapter:
    """Puts a sorted file onto a transformer.

    Args:
        preset: the system.
        transformer: the base; it is changed, or nothing is.
        heaps: the sorted file.
        config: settings of the adapter.
        make_projector: makes the projector, whose weights are then replaced.
        resize_patch_embedding: whether the file's patch embedding may take another number of channels.

    Returns:
        The adapter.

    Raises:
        WeightsError: keys are missing, surplus or of another shape, with the list.
    """
    projector = make_projector()
    expected = {f"projector.{name}": value for name, value in projector.state_dict().items()}
    given = {f"projector.{name}": value for name, value in heaps.projector.items()}
    own = {name: value for name, value in transformer.state_dict().items() if ".adapters." not in name}
    for index, template in transformer.adapter_templates(config).items():
        expected.update({f"blocks.{index}.{name}": value for name, value in template.items()})
    for index, weights in heaps.adapter.items():
        given.update({f"blocks.{index}.{name}": value for name, value in weights.items()})
    for name, value in heaps.base.items():  # a file may replace any weight of the base, but bring none of its own
        given[name] = value
        if name in own:
            expected[name] = value if name == "patch_embedding.weight" and resize_patch_embedding else own[name]
    blocks_given, blocks = num_blocks(given), len(transformer.blocks)
    of_blocks = "" if blocks_given in (0, blocks) else f" of {blocks_given} blocks"
    check_weights(expected, given, f"this file{of_blocks} does not fit {preset.title} on a base of {blocks} blocks")

    transformer.attach_adapters([config.to_dict()])
    for index, weights in heaps.adapter.items():
        transformer.get_submodule(f"blocks.{index}.adapters.{config.tokens}").load_state_dict(weights)
    transformer.load_base_overrides(heaps.base, resize_patch_embedding=resize_patch_embedding)
    transformer.register_to_config(timestep_precision="float64")  # as all of these systems compute it
    projector.load_state_dict(heaps.projector)
    parameters = sum(value.numel() for weights in heaps.adapter.values() for value in weights.values())
    _log.info(
        "%s: %d blocks with adapters (%.3g M parameters), %d weights of the base replaced by the file's, %d names ignored",
        preset.title, len(heaps.adapter), parameters / 1e6, len(heaps.base), len(heaps.ignored),
    )  # fmt: skip
    nn.Module.to(projector.eval(), transformer.device, transformer.dtype)  # diffusers' own `to` warns for nothing
    return PublishedAdapter(preset, transformer, projector, tuple(heaps.base), tuple(heaps.ignored))
