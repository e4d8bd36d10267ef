"""Published audio adapters on Wan transformers: one module each over the adapter classes of `avatar.dit.adapters`.

    adapter = load_adapter("fantasytalking", transformer, "fantasytalking_model.ckpt")
    sound = adapter.projector.audio_tokens([features], num_frames)

A system is its file's layout, its projector, and its data (`PublishedPreset`: base model, speech front end, guidance, noise
levels). Every loader is checked against golden values of the published code (`scripts/check_parity.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from avatar.dit.published import echomimic_flash, echomimic_preview, fantasytalking, multitalk, omniavatar, stableavatar
from avatar.dit.published.loading import PublishedAdapter, Source
from avatar.dit.published.preset import PublishedPreset
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError

_Load = Callable[..., PublishedAdapter]
_LOADERS: dict[str, tuple[PublishedPreset, _Load]] = {
    preset.name: (preset, load)
    for preset, load in (
        (fantasytalking.PRESET, fantasytalking.load),
        (echomimic_preview.PRESET, echomimic_preview.load),
        (echomimic_flash.PRESET, echomimic_flash.load),
        (multitalk.MULTITALK, multitalk.load),
        (multitalk.INFINITETALK, partial(multitalk.load, preset=multitalk.INFINITETALK)),
        (multitalk.INFINITETALK_MULTI, partial(multitalk.load, preset=multitalk.INFINITETALK_MULTI)),
        (omniavatar.PRESET, omniavatar.load),
        (omniavatar.PRESET_1_3B, partial(omniavatar.load, preset=omniavatar.PRESET_1_3B)),
        (stableavatar.PRESET, stableavatar.load),
    )
}
PUBLISHED_PRESETS: dict[str, PublishedPreset] = {name: preset for name, (preset, _) in _LOADERS.items()}


def load_adapter(name: str, transformer: AvatarTransformer3DModel, source: Source, **options: Any) -> PublishedAdapter:
    """Puts a published adapter onto its base.

    Args:
        name: one of `PUBLISHED_PRESETS`.
        transformer: the base, without adapters; it is changed.
        source: the adapter file, or its tensors by name.
        options: of the system's own `load`, such as FantasyTalking's `audio_padding`.

    Raises:
        OptionError: no such system.
        InputError, WeightsError: the file cannot be read, or file and base do not fit, with the list of what differs.
    """
    if name not in _LOADERS:
        raise OptionError(f"no published adapter is called {name!r}; known: {', '.join(_LOADERS)}")
    return _LOADERS[name][1](transformer, source, **options)
