"""What a Wan pipeline may be asked for, and what is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from avatar.dit.published.preset import GuidanceKind, Handover
from avatar.dit.sampler import check_seed
from avatar.errors import OptionError
from avatar.types import FaceChoice, Speech
from avatar.wan.denoise import Progress, Sampler
from avatar.wan.plan import LongVideo

DEFAULT_PROMPT = "A person is talking to the camera."
NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, many "
    "people in the background, walking backwards"
)  # Wan's own, in English, as MultiTalk and InfiniteTalk use it
MAX_GUIDANCE = 20

Masks = Literal["faces"] | Sequence[str | Path | np.ndarray]


class WanOptions(TypedDict, total=False):
    """What may be asked for besides portrait and speech; None stands for the published system's own value.

    Attributes:
        prompt, negative_prompt: what the video shows, and what it should not.
        seed: the same seed gives the same video. Default 0.
        size_px: longer side of the video.
        face: which face speaks, where there are several.
        speakers: further people of the picture, each a face choice with a sound.
        masks: one picture per speaker, as large as the portrait and white where that person is; or `"faces"`, the faces'
            surroundings. A speaker's sound then acts there and nowhere else, for any number of speakers and in every
            system; a face need not be recognised. None: as the system was made (MultiTalk tells two people apart by itself).
        emotion: a label with or without strength (`"happy:0.6"`), the path of a picture of an expression, or `"auto"`, from
            the voice; of a transformer with an emotion adapter (`avatar.wan.reference.attach_reference`). None leaves it to
            prompt and sound.
        num_inference_steps: per chunk.
        text_guidance_scale, audio_guidance_scale: how strictly prompt and sound are followed.
        guidance: how the branches are combined: `"plain"`, `"boosted"` or `"falling"` (EchoMimicV3), `"stepwise"`
            (HunyuanVideo-Avatar), `"projected"` (against oversaturation); see `GuidanceDefaults.steps`.
        shift: of the noise levels towards much noise.
        sampler: `"euler"` (default) or `"unipc"`.
        chunk_frames: video frames made at a time, 1 + 4 k.
        long_video: what is done about speech longer than that: `"chunks"` one after another; `"windows"` of the whole,
            blended in every step; `"shifted"`, windows whose borders move with every step.
        handover: what a chunk takes from the one before: `"pixels"` or `"latents"`.
        colour_match: how far every frame's colours are brought to the portrait's, 0 to 1.
        progress: told (steps done, steps in all) of the whole video.
    """

    prompt: str
    negative_prompt: str
    seed: int
    size_px: int | None
    face: FaceChoice
    speakers: Sequence[tuple[FaceChoice, Speech]]
    masks: Masks | None
    emotion: str | Path | None
    num_inference_steps: int | None
    text_guidance_scale: float | None
    audio_guidance_scale: float | None
    guidance: GuidanceKind | None
    shift: float | None
    sampler: Sampler
    chunk_frames: int | None
    long_video: LongVideo | None
    handover: Handover | None
    colour_match: float | None
    progress: Progress | None


def check_ranges(seed: int, text_guidance_scale: float | None, audio_guidance_scale: float | None) -> None:
    """Refuses numbers that cannot be meant.

    Raises:
        OptionError: a seed or a scale is out of range.
    """
    check_seed(seed)
    for name, scale in (("text", text_guidance_scale), ("audio", audio_guidance_scale)):
        if scale is not None and not 0 <= scale <= MAX_GUIDANCE:
            raise OptionError(f"{name}_guidance_scale must lie between 0 and {MAX_GUIDANCE}, not {scale}; 1 is off")
