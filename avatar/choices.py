"""Which options a preset takes: those of the command line, sorted for loading and for making a video; others are refused."""

from __future__ import annotations

import argparse
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
    "guidance_kind": "guidance",
    "shift": "shift",
    "sampler": "sampler",
    "long_video": "long_video",
    "handover": "handover",
    "colour_match": "colour_match",
    "reference": "reference",
}
_OF_LOADING = ("runtime", "memory", "reference")
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


def add_published_choices(parser: argparse.ArgumentParser) -> None:
    """Options of `animate` that published presets alone have."""
    group = parser.add_argument_group("options of published presets (a preset refuses what it does not have)")
    group.add_argument("--prompt", metavar="TEXT", help="what the video shows")
    group.add_argument("--negative-prompt", metavar="TEXT", help="what it does not show")
    group.add_argument(
        "--text-guidance", type=float, metavar="X", help="guidance scale for the prompt (default: the preset's)"
    )
    group.add_argument(
        "--mask",
        dest="masks",
        action="append",
        default=[],
        metavar="PICTURE",
        help="a picture as large as PORTRAIT, white where the speaker is, whose sound then acts there alone; one for each "
        "speaker, in their order; or the word faces: around each one's face",
    )
    group.add_argument(
        "--memory",
        choices=("low", "balanced", "fast"),
        help="where weights are kept: fast: all on the device; balanced: one network at a time; low: in 8 bits, brought to "
        "the device block by block (default: balanced, without an accelerator fast); what each needs is printed first",
    )
    group.add_argument(
        "--guidance-kind",
        choices=("plain", "boosted", "falling", "stepwise", "projected"),
        help="how guidance is combined, as far as it goes with the preset (default: the preset's)",
    )
    group.add_argument("--shift", type=float, metavar="X", help="of the noise levels upwards (default: the preset's)")
    group.add_argument("--sampler", choices=("euler", "unipc"), help="how noise levels are followed (default: euler)")
    group.add_argument(
        "--long-video",
        choices=("chunks", "windows", "shifted"),
        help="speech longer than the preset makes at a time: chunks one after another, windows of the whole, or windows whose "
        "borders move with every step (default: the preset's)",
    )
    group.add_argument(
        "--handover",
        choices=("pixels", "latents"),
        help="what a chunk takes from the one before (default: the preset's)",
    )
    group.add_argument(
        "--colour-match",
        type=float,
        metavar="X",
        help="how far frames are brought to the portrait's colours, 0 to 1 (default: the preset's)",
    )
    group.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="trained adapters for identity and emotion, as save_reference writes them; the preset then takes --emotion",
    )


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
        published, accepted = True, _published_options(preset, "reference" in given)
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


def _published_options(preset: str | Path, with_reference: bool) -> dict[str, str]:
    """Emotion is for those who bring an adapter that listens to it: no published system has one."""
    from avatar.hub.files import place_of

    left_out = _WITHOUT_TEXT_GUIDANCE if place_of(preset).preset.guidance.order == "audio_only" else ()
    accepted = {name: option for name, option in PUBLISHED_OPTIONS.items() if name not in left_out}
    return {**accepted, "emotion": "emotion"} if with_reference else accepted


def _flag(name: str) -> str:
    return "--" + {"speakers": "speaker", "masks": "mask"}.get(name, name).replace("_", "-")
