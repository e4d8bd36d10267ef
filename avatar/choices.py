"""Which options a preset takes: those of the command line, sorted for loading and for making a video; others are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avatar.errors import OptionError
from avatar.presets import is_own

_BOTH = {
    "seed": "seed",
    "size": "size_px",
    "face": "face",
    "speakers": "speakers",
    "steps": "num_inference_steps",
}
OWN_OPTIONS: dict[str, str] = {  # the command line's name to the pipeline's
    **_BOTH,
    "emotion": "emotion",
    "guidance": "guidance_scale",
    "head_motion": "head_motion",
    "runtime": "runtime",
}
PUBLISHED_OPTIONS: dict[str, str] = {
    **_BOTH,
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "guidance": "audio_guidance_scale",
    "text_guidance": "text_guidance_scale",
    "masks": "masks",
    "memory": "memory",
}
_OF_LOADING = ("runtime", "memory")
_WITHOUT_TEXT_GUIDANCE = ("negative_prompt", "text_guidance")  # read by nobody where guidance is about the sound alone


@dataclass(frozen=True)
class Choices:
    """Options under the pipeline's names.

    Attributes:
        published: whether the preset is a published system, whose work is counted in denoising steps.
        loading: what concerns how it is loaded.
        video: what concerns the video.
    """

    published: bool
    loading: dict[str, Any] = field(default_factory=dict)
    video: dict[str, Any] = field(default_factory=dict)


def choices_for(preset: str | Path, given: Mapping[str, Any], notify: Callable[[str], None] | None = None) -> Choices:
    """Sorts the options that were given; the others are left to the pipeline's defaults.

    Args:
        preset: what `--preset` takes.
        given: value by the command line's name, with underscores.
        notify: told in sentences what takes long or much memory.

    Raises:
        OptionError: no such preset, or options that it does not have, with those it has.
    """
    if is_own(preset):
        published, accepted = False, OWN_OPTIONS
    else:
        published, accepted = True, _published_options(preset)
    surplus = [name for name in given if name not in accepted]
    if surplus:
        raise OptionError(
            f"preset {str(preset)!r} has no {', '.join(map(_flag, surplus))}; it takes {', '.join(map(_flag, accepted))}"
        )
    loading = {accepted[name]: value for name, value in given.items() if name in _OF_LOADING}
    if notify is not None and (published or "runtime" in loading):
        loading["notify"] = notify
    video = {accepted[name]: value for name, value in given.items() if name not in _OF_LOADING}
    if video.get("masks") == ["faces"]:
        video["masks"] = "faces"
    return Choices(published, loading, video)


def _published_options(preset: str | Path) -> dict[str, str]:
    from avatar.hub.files import place_of

    if place_of(preset).preset.guidance.order != "audio_only":
        return PUBLISHED_OPTIONS
    return {name: option for name, option in PUBLISHED_OPTIONS.items() if name not in _WITHOUT_TEXT_GUIDANCE}


def _flag(name: str) -> str:
    return "--" + {"speakers": "speaker", "masks": "mask"}.get(name, name).replace("_", "-")
