"""What a published system is made of, as data: base model, adapter file, speech encoder, guidance, schedule and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from avatar.audio.front_end_settings import SpeechFrontEnd
from avatar.errors import OptionError

if TYPE_CHECKING:  # the list of all presets does without torch
    from torch import Tensor

    from avatar.dit.guidance import GuidanceBranch, GuidanceOrder, GuidanceStep
    from avatar.dit.sampler import Spacing

GuidanceKind = Literal["plain", "boosted", "falling", "stepwise", "projected"]
_NEEDS_ORDER: dict[str, GuidanceOrder] = {
    "boosted": "text_then_audio",
    "falling": "text_then_audio",
    "projected": "audio_then_text",
}
_JOINT_SHARE = 5  # HunyuanVideo-Avatar guides text and sound together in 10 of its 50 steps

Handover = Literal["pixels", "latents"]


@dataclass(frozen=True)
class Download:
    """Files on the Hugging Face hub.

    Attributes:
        repository: its id.
        files: patterns of the files that are needed.
        licence: of the weights, as their publisher states it; `"not stated"` where nobody does.
    """

    repository: str
    files: tuple[str, ...]
    licence: str


@dataclass(frozen=True)
class BaseModel:
    """The Wan model an adapter was trained on.

    Attributes:
        download: where it is.
        image_to_video: whether it attends to CLIP's tokens of the first frame.
        in_channels: of the patch embedding, before the adapter file may replace it.
        components: where tokenizer, text encoder, picture encoder and VAE are, in diffusers' layout, if not there.
    """

    download: Download
    image_to_video: bool = True
    in_channels: int = 36
    components: Download | None = None


@dataclass(frozen=True)
class GuidanceDefaults:
    """How a system combines its branches.

    Attributes:
        order: which condition is nested in which.
        text_scale, audio_scale: the published defaults.
        kind: see `steps`.
    """

    order: GuidanceOrder
    text_scale: float
    audio_scale: float
    kind: GuidanceKind = "plain"

    def rule(self, text_scale: float | None = None, audio_scale: float | None = None) -> tuple[GuidanceBranch, ...]:
        """Branches for `guided_velocity`; None for the published scale."""
        from avatar.dit.guidance import nested_guidance

        return nested_guidance(self.order, *self.scales(text_scale, audio_scale))

    def steps(
        self,
        num_steps: int,
        kind: GuidanceKind | None = None,
        text_scale: float | None = None,
        audio_scale: float | None = None,
    ) -> tuple[GuidanceStep, ...]:
        """A rule for each step.

        Args:
            num_steps: how many.
            kind: `"plain"`, the same in all of them; `"boosted"`, EchoMimicV3's, whose negative prompt grows stronger in the
                first steps; `"falling"`, that with scales that fall to half; `"stepwise"`, HunyuanVideo-Avatar's;
                `"projected"`, whose branches are combined by `AdaptiveProjectedGuidance`. None for the published one.
            text_scale, audio_scale: as for `rule`.

        Raises:
            OptionError: a kind that is not known, or that does not go with this system's branches.
        """
        from avatar.dit.guidance import GuidanceStep, echomimic_steps, hunyuan_avatar_steps

        kind = kind or self.kind
        if kind not in get_args(GuidanceKind):
            raise OptionError(f"guidance must be {', '.join(get_args(GuidanceKind))}, not {kind!r}")
        if kind == "stepwise":
            if audio_scale is not None:
                raise OptionError(
                    "stepwise guidance brings its own scales of the sound; leave audio_guidance_scale out"
                )
            return hunyuan_avatar_steps(num_steps, text_scale or 7.5, max(1, num_steps // _JOINT_SHARE))
        if self.order != _NEEDS_ORDER.get(kind, self.order):
            raise OptionError(
                f"{kind} guidance goes with branches nested {_NEEDS_ORDER[kind]}, and this system's are {self.order}"
            )
        if kind in ("boosted", "falling"):
            text, audio = self.scales(text_scale, audio_scale)
            return echomimic_steps(num_steps, text, audio, dynamic=kind == "falling")
        return (GuidanceStep(self.rule(text_scale, audio_scale)),) * num_steps

    def scales(self, text_scale: float | None = None, audio_scale: float | None = None) -> tuple[float, float]:
        """Both scales, the published ones where None is given."""
        return (
            self.text_scale if text_scale is None else text_scale,
            self.audio_scale if audio_scale is None else audio_scale,
        )


@dataclass(frozen=True)
class ScheduleDefaults:
    """Noise levels: how many steps, shifted how far, spaced how."""

    num_inference_steps: int
    shift: float
    spacing: Spacing = "to_zero"

    def sigmas(self, num_inference_steps: int | None = None, shift: float | None = None) -> Tensor:
        """Noise levels for `sample_euler`; None for the published value."""
        from avatar.dit.sampler import flow_sigmas

        return flow_sigmas(
            self.num_inference_steps if num_inference_steps is None else num_inference_steps,
            self.shift if shift is None else shift,
            self.spacing,
        )


@dataclass(frozen=True)
class PublishedPreset:
    """One published system.

    Attributes:
        name: what `--preset` takes.
        title: how its authors call it.
        source: code whose behaviour is reproduced, with the commit.
        base: the model under it.
        adapter: the adapter file.
        encoder: the speech encoder.
        front_end: how sound becomes features.
        guidance: how branches are combined.
        schedule: noise levels.
        chunk_frames: video frames made at a time.
        overlap_frames: video frames a chunk shares with the one before; 0 for a system that makes one piece.
        whole_chunks: whether the last chunk, too, is as long as the others; else it is only as long as it must be.
        max_side_px: longer side of the pictures it was made for.
        max_speakers: voices its own mechanism tells apart; more are bound by face masks.
        face_mask: whether the sound of one speaker, too, acts on the face alone; that of several always does.
        colour_match: how far its driver brings the colours of decoded chunks to the picture's, 0 to 1.
        handover: what a chunk takes from the one before: its last frames, or their latents, which never pass through the codec.
        pinned_motion: whether what it takes is put back before every step, while the condition shows the picture alone; else
            the condition shows it.
        long_video: `"single"` piece, `"chunks"` after one another, or `"windows"` blended in every step.
    """

    name: str
    title: str
    source: str
    base: BaseModel
    adapter: Download
    encoder: Download
    front_end: SpeechFrontEnd
    guidance: GuidanceDefaults
    schedule: ScheduleDefaults
    chunk_frames: int = 81
    overlap_frames: int = 0
    whole_chunks: bool = False
    max_side_px: int = 832
    max_speakers: int = 1
    face_mask: bool = False
    colour_match: float = 0.0
    handover: Handover = "pixels"
    pinned_motion: bool = False
    long_video: Literal["single", "chunks", "windows"] = "single"
