"""OmniAvatar: a LoRA on Wan 2.1 text-to-video, a wider patch embedding, and packed sound added before the blocks.

Source: Q. Gan et al., arXiv 2506.18866; code Omni-Avatar/OmniAvatar. The condition has 16 channels of the picture's latents and
then one mask channel, and the file replaces the patch embedding by one that takes them. Of L blocks those from 2 to L / 2 have
a projection of the sound. The LoRA is merged into the weights.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.loading import Heaps, Layout, PublishedAdapter, Source, check_base, install, size
from avatar.dit.published.preset import PublishedPreset
from avatar.dit.published.presets import OMNIAVATAR
from avatar.dit.published.projectors import PackProjector
from avatar.dit.published.windows import STRIDE
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.dit.wan_files import settings_beside
from avatar.dit.wan_lora import merge_lora
from avatar.errors import WeightsError

FIRST_BLOCK = 2  # the first that gets a projection of the sound
_CONDITION = "audio_cond_projs."

LAYOUT = Layout(modules={}, projector="audio_proj.")


def load(
    transformer: AvatarTransformer3DModel,
    source: Source,
    *,
    lora_alpha: float | None = None,
    preset: PublishedPreset = OMNIAVATAR,
) -> PublishedAdapter:
    """Puts the adapter onto a base.

    Args:
        transformer: Wan 2.1 text-to-video; it is changed.
        source: the file, or its tensors by name.
        lora_alpha: the LoRA's alpha; None to read it from the `config.json` beside the file.
        preset: which of the sizes the file belongs to.

    Raises:
        InputError, WeightsError: the file cannot be read or does not fit, or says nothing of alpha.
    """
    check_base(preset, transformer)
    alpha = _alpha(source) if lora_alpha is None else lora_alpha
    heaps = LAYOUT.sort(source)
    lora = {key: heaps.base.pop(key) for key in list(heaps.base) if ".lora_" in key}
    _sort_conditions(heaps)
    token_dim = size(heaps.projector, "norm_out.weight", 0, preset)
    inputs = size(heaps.projector, "proj.weight", 1, preset)
    _check_lora(transformer, lora)
    stop = len(transformer.blocks) // 2 + 1
    adapter = install(
        preset,
        transformer,
        heaps,
        AdapterConfig("audio", "input", token_dim=token_dim, masked=True, blocks=(FIRST_BLOCK, stop)),
        lambda: PackProjector(inputs // STRIDE, token_dim),
        resize_patch_embedding=True,
    )
    merge_lora(transformer, lora, alpha=alpha)
    return adapter


def _alpha(source: Source) -> float:
    settings = settings_beside(source) if isinstance(source, str | Path) else {}
    for name in ("lora_alpha", "alpha"):
        if name in settings:
            return float(settings[name])
    raise WeightsError(
        f"{OMNIAVATAR.title}'s LoRA is worth nothing without its alpha, which stands in the config.json beside the file; "
        "put it there or give lora_alpha"
    )


def _sort_conditions(heaps: Heaps) -> None:
    """`audio_cond_projs.j` is the adapter of block j + 2."""
    for key in [key for key in heaps.base if key.startswith(_CONDITION)]:
        index, _, parameter = key.removeprefix(_CONDITION).partition(".")
        heaps.adapter.setdefault(int(index) + FIRST_BLOCK, {})[f"proj.{parameter}"] = heaps.base.pop(key)


def _check_lora(transformer: AvatarTransformer3DModel, lora: dict[str, Tensor]) -> None:
    """Every layer must have both matrices, and they must fit, so that a wrong file is refused before anything is merged."""
    if not lora:
        raise WeightsError(f"this is no adapter file of {OMNIAVATAR.title}: there is no LoRA in it")
    layers = [f"attn{attention}.to_{name}" for attention in (1, 2) for name in ("q", "k", "v", "out.0")]
    layers += ["ffn.net.0.proj", "ffn.net.2"]
    names = [f"blocks.{index}.{layer}" for index in range(len(transformer.blocks)) for layer in layers]
    expected = {f"{name}.lora_{matrix}.default.weight" for name in names for matrix in "AB"}
    if set(lora) != expected:
        missing, surplus = sorted(expected - set(lora)), sorted(set(lora) - expected)
        raise WeightsError(
            f"the LoRA of this file does not fit a base of {len(transformer.blocks)} blocks: {len(missing)} matrices are "
            f"missing ({', '.join(missing[:4])} …), {len(surplus)} surplus ({', '.join(surplus[:4])} …)"
        )
    for name in names:
        down, up = (lora[f"{name}.lora_{matrix}.default.weight"] for matrix in "AB")
        weight = transformer.get_parameter(f"{name}.weight")
        if (up.shape[0], down.shape[1]) != weight.shape or up.shape[1] != down.shape[0]:
            raise WeightsError(
                f"the LoRA's matrices for {name} are {tuple(up.shape)} and {tuple(down.shape)}; "
                f"the weight is {tuple(weight.shape)}"
            )
