"""Published audio adapters on Wan transformers: one module each over the adapter classes of `avatar.dit.adapters`.

    adapter = load_adapter("fantasytalking", transformer, "fantasytalking_model.ckpt")
    sound = adapter.projector.audio_tokens([features], num_frames)

A system is its file's layout, its projector, and its data (`PublishedPreset`: base model, speech front end, guidance, noise
levels). Every loader is checked against golden values of the published code (`scripts/check_parity.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avatar.dit.published.presets import PUBLISHED_PRESETS
from avatar.errors import OptionError

if TYPE_CHECKING:  # the list of all presets does without torch
    from avatar.dit.published.loading import PublishedAdapter, Source
    from avatar.dit.transformer import AvatarTransformer3DModel

__all__ = ["PUBLISHED_PRESETS", "load_adapter"]


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
    if name not in PUBLISHED_PRESETS:
        raise OptionError(f"no published adapter is called {name!r}; known: {', '.join(PUBLISHED_PRESETS)}")
    from avatar.dit.published.loaders import LOADERS

    return LOADERS[name](transformer, source, **options)
