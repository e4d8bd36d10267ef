"""A preset, a portrait and a speech to the clip of a system that is made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from avatar.errors import OptionError
from avatar.study.spec import ItemSpec, SystemSpec


def preset_generator() -> Callable[[SystemSpec, ItemSpec, Path], None]:
    """A function that makes a system's clip of an item; it loads each preset once and keeps the last."""

    @lru_cache(maxsize=1)
    def loaded(preset: str, loading: tuple[tuple[str, Any], ...]) -> Any:
        from avatar.pipeline import AvatarPipeline

        return AvatarPipeline.from_pretrained(preset, **dict(loading))

    def generate(system: SystemSpec, item: ItemSpec, path: Path) -> None:
        from avatar.choices import choices_for
        from avatar.media import write_video

        if system.preset is None or item.portrait is None or item.speech is None:
            raise OptionError(f"system {system.name} needs a preset, and item {item.id} a portrait and a speech")
        choices = choices_for(system.preset, system.options)
        pipe = loaded(system.preset, tuple(sorted(choices.loading.items())))
        stream = pipe.stream(portrait=item.portrait, speech=item.speech, **choices.video)
        write_video(path, iter(stream), fps=stream.shape.fps, speech=stream.speech)

    return generate
