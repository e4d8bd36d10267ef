"""A portrait and speech to a talking video in pixels: a Wan model with a published adapter.

    speech ──▶ features ──▶ audio tokens ─┐
    portrait ─▶ CLIP tokens, first frame ──┼─▶ transformer, a chunk at a time ──▶ latents ──▶ frames
    prompt ───▶ text tokens ───────────────┘

Long speech is made in chunks, each of which begins with the last frames of the one before: handed over as pixels (MultiTalk,
EchoMimicV3), or as latents that never pass through the codec (InfiniteTalk).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPVisionModel,
    PreTrainedTokenizerBase,
    UMT5EncoderModel,
    Wav2Vec2Model,
)
from typing_extensions import Unpack

from avatar.audio.front_end import check_encoder
from avatar.clip import VideoClip
from avatar.codec.colour import check_strength, match_colours
from avatar.codec.wan import WanCodec, to_frames, to_pixels
from avatar.dit.adapters import AdapterConfig
from avatar.dit.long_video import Chunk
from avatar.dit.published.loading import Projector, PublishedAdapter
from avatar.dit.published.preset import GuidanceKind, Handover, PublishedPreset
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError
from avatar.media import read_speech, sound_of_video
from avatar.types import Conditioning, FaceChoice, Picture, Speech, VideoShape, Waveform
from avatar.wan.cast import Cast, cast_speakers
from avatar.wan.condition import channels_of_condition, noise_of, pinned_latents, reference_latents
from avatar.wan.denoise import Progress, Sampler, WanSampling, denoise, in_model_dtype
from avatar.wan.experts import Experts, LoadAdapter, boundary_of, load_experts
from avatar.wan.options import (
    DEFAULT_PROMPT,
    NEGATIVE_PROMPT,
    Masks,
    WanOptions,
    check_ranges,
)
from avatar.wan.plan import LongVideo, VideoPlan, plan_video
from avatar.wan.reference import reference_adapters, reference_tokens
from avatar.wan.reference_file import load_reference
from avatar.wan.sound import features_of, tokens_of_chunk
from avatar.wan.words import image_tokens, text_tokens


@dataclass(frozen=True)
class _Take:
    """Everything that decides the frames of one video."""

    cast: Cast
    features: list[Tensor]
    shape: VideoShape
    plan: VideoPlan
    sampling: WanSampling
    told: Conditioning  # what lasts; of masks and emotion one frame
    colour_match: float
    seed: int
    progress: Progress | None

    @property
    def size(self) -> tuple[int, int]:
        return self.shape.height_px, self.shape.width_px

    def finished(self, pixels: Tensor) -> np.ndarray:
        """Decoded pixels [3, T, H, W] to frames (T, H, W, 3) uint8."""
        return match_colours(to_frames(pixels), self.cast.image, self.colour_match)


class WanAvatarPipeline(DiffusionPipeline):
    """Portrait and speech to a talking video, by a Wan model with a published adapter.

    Args:
        preset: the published system.
        tokenizer, text_encoder: UMT5, for the prompt.
        vae: Wan's.
        speech_encoder: the wav2vec2 model the adapter was trained with.
        transformer: with the adapter on it.
        audio_projector: the adapter's.
        image_encoder: CLIP, where the transformer attends to a picture.
        transformer_2, audio_projector_2: Wan 2.2's expert for little noise, with the same adapter.
        boundary_ratio: noise level between the two experts.

    Raises:
        OptionError: parts that do not fit one another.
    """

    model_cpu_offload_seq = (
        "text_encoder->image_encoder->speech_encoder->audio_projector->transformer->transformer_2->vae"
    )
    _optional_components = ["image_encoder", "transformer_2", "audio_projector_2"]

    def __init__(  # a parameter for each component, as diffusers wants it
        self,
        preset: PublishedPreset,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: UMT5EncoderModel,
        vae: AutoencoderKLWan,
        speech_encoder: Wav2Vec2Model,
        transformer: AvatarTransformer3DModel,
        audio_projector: Projector,
        image_encoder: CLIPVisionModel | None = None,
        transformer_2: AvatarTransformer3DModel | None = None,
        audio_projector_2: Projector | None = None,
        boundary_ratio: float | None = None,
    ) -> None:
        super().__init__()
        if image_encoder is None and transformer.config.image_dim is not None:
            raise OptionError("this transformer attends to a picture: an image_encoder (CLIP) is needed")
        check_encoder(speech_encoder, preset.front_end)
        self.register_modules(
            preset=preset,
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            speech_encoder=speech_encoder,
            transformer=transformer,
            audio_projector=audio_projector,
            image_encoder=image_encoder,
            transformer_2=transformer_2,
            audio_projector_2=audio_projector_2,
        )
        second = None
        if transformer_2 is not None and audio_projector_2 is not None:
            second = PublishedAdapter(preset, transformer_2, audio_projector_2)
        self.experts = Experts(PublishedAdapter(preset, transformer, audio_projector), second, boundary_ratio or 0.0)
        self.codec = WanCodec(vae)
        self.condition_channels = channels_of_condition(transformer, self.codec)

    @classmethod
    def from_folders(
        cls,
        components: str | Path,
        load_adapter: LoadAdapter,
        speech_encoder: str | Path | None = None,
        *,
        transformer: str | Path | None = None,
        reference: str | Path | None = None,
        load_adapter_2: LoadAdapter | None = None,
        boundary_ratio: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> WanAvatarPipeline:
        """Loads everything from folders; nothing is fetched.

        Args:
            components: a diffusers repository of a Wan model, with `tokenizer`, `text_encoder`, `vae` and, for Wan 2.1
                image-to-video, `image_encoder`.
            load_adapter: puts an adapter file onto the transformer, such as
                `lambda model: fantasytalking.load(model, "fantasytalking_model.ckpt")`.
            speech_encoder: folder of the wav2vec2 model; None for `speech_encoder` among the components.
            transformer: folder or file of another transformer than the components', see `AvatarTransformer3DModel.from_wan`; or
                a folder with both experts of Wan 2.2, see `avatar.wan.experts`.
            reference: file of trained identity and emotion adapters (`avatar.wan.reference_file`); None for none.
            load_adapter_2: likewise for Wan 2.2's expert for little noise, where there is one; None for the same.
            boundary_ratio: noise level between the experts; None for the repository's own, or else Wan's.
            dtype: of text encoder, CLIP and transformer; None for as stored. The VAE and the speech encoder stay float32.

        Raises:
            InputError: a folder or a part of it is missing.
            OptionError, WeightsError: parts that do not fit one another.
        """
        folder, settings = Path(components), {} if dtype is None else {"dtype": dtype}
        first, second = load_experts(folder, load_adapter, transformer, load_adapter_2 or load_adapter, dtype)
        for adapter in (first, second):
            if reference is not None and adapter is not None:
                load_reference(adapter.transformer, reference)
        clip = folder / "image_encoder"
        needs_clip = first.transformer.config.image_dim is not None
        if needs_clip and not clip.is_dir():
            raise InputError(f"{folder} has no folder image_encoder, and the transformer attends to a picture")
        if second is not None and boundary_ratio is None:
            boundary_ratio = boundary_of(folder, first.transformer)
        return cls(
            preset=first.preset,
            tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
            text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", **settings),
            vae=AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32),
            speech_encoder=Wav2Vec2Model.from_pretrained(speech_encoder or folder / "speech_encoder").eval(),
            transformer=first.transformer,
            audio_projector=first.projector,
            image_encoder=CLIPVisionModel.from_pretrained(clip, **settings) if needs_clip else None,
            transformer_2=None if second is None else second.transformer,
            audio_projector_2=None if second is None else second.projector,
            boundary_ratio=boundary_ratio,
        )

    @torch.no_grad()
    def __call__(self, portrait: Picture, speech: Speech, **options: Unpack[WanOptions]) -> VideoClip:
        """A talking video, whose frames are made when they are first asked for.

        Args:
            portrait: a picture: a path, (H, W, 3) uint8 RGB, or a `Portrait`.
            speech: a sound file, a video with sound, or a waveform.
            options: see `WanOptions`.

        Returns:
            A clip; the first pass over its frames makes them, later ones only decode them.

        Raises:
            MediaError: the picture or a sound cannot be read.
            FaceError: not exactly one usable face, or none that fits the choice.
            OptionError: an option is out of range.
        """
        take = self._take(portrait, speech, **options)
        made: list[Tensor] = []
        heard = sound_of_video([speech, *(sound for _, sound in options.get("speakers", ()))])
        return VideoClip(take.shape, lambda: self._frames(take, made), heard)

    def stream(self, portrait: Picture, speech: Speech, **options: Unpack[WanOptions]) -> VideoClip:
        """The same as calling the pipeline: here, too, frames come chunk by chunk, as they are asked for."""
        return self(portrait, speech, **options)

    def _take(
        self,
        portrait: Picture,
        speech: Speech,
        *,
        prompt: str = DEFAULT_PROMPT,
        negative_prompt: str = NEGATIVE_PROMPT,
        seed: int = 0,
        size_px: int | None = None,
        face: FaceChoice = None,
        speakers: Sequence[tuple[FaceChoice, Speech]] = (),
        masks: Masks | None = None,
        emotion: str | Path | None = None,
        num_inference_steps: int | None = None,
        text_guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        guidance: GuidanceKind | None = None,
        shift: float | None = None,
        sampler: Sampler = "euler",
        chunk_frames: int | None = None,
        long_video: LongVideo | None = None,
        handover: Handover | None = None,
        colour_match: float | None = None,
        progress: Progress | None = None,
    ) -> _Take:
        preset, scales = self.preset, (text_guidance_scale, audio_guidance_scale)
        check_ranges(seed, *scales)
        chosen = [(face, speech), *speakers]
        sounds = [read_speech(sound) for _, sound in chosen]
        cast = cast_speakers(portrait, [choice for choice, _ in chosen], masks, bool(self._references))
        height, width = self.codec.size_for(cast.image, size_px or preset.max_side_px)
        seconds = max(sound.duration_s for sound in sounds)
        shape = VideoShape.for_duration(seconds, height, width, preset.front_end.fps)
        plan = plan_video(preset, shape.num_frames, chunk_frames, handover, long_video, self.codec.stride.time)
        sigmas = preset.schedule.sigmas(num_inference_steps, shift)
        steps = preset.guidance.steps(len(sigmas) - 1, guidance, *scales)
        projected = preset.guidance.scales(*scales) if guidance == "projected" else None
        if colour_match is None:
            colour_match = preset.colour_match if plan.handover == "pixels" else 0.0
        check_strength(colour_match)
        stop = plan.chunks[-1].stop
        return _Take(
            cast,
            [features_of(self.speech_encoder, sound, preset.front_end, shape.num_frames, stop) for sound in sounds],
            shape,
            plan,
            WanSampling(sigmas, steps, sampler, projected, plan.windows),
            self._told(cast, (prompt, negative_prompt), sounds, emotion, (height, width)),
            colour_match,
            seed,
            progress,
        )

    @property
    def _references(self) -> dict[str, AdapterConfig]:
        return reference_adapters(self.transformer)

    def _told(
        self,
        cast: Cast,
        prompts: tuple[str, str],
        sounds: list[Waveform],
        emotion: str | Path | None,
        size: tuple[int, int],
    ) -> Conditioning:
        """What lasts: prompts, CLIP's view of the picture, who is where, who they are and what they feel."""
        references = reference_tokens(self.codec, self._references, cast.people, sounds, emotion)
        by_system = self.preset.face_mask or cast.count > 1
        masks = None
        if by_system or cast.strict or references:
            masks = cast.masks(self.codec, size)[None, :, None]  # (1, S, 1, h, w)
        positive, negative = (text_tokens(self.tokenizer, self.text_encoder, words) for words in prompts)
        return Conditioning(
            text_tokens=positive,
            text_null=negative,
            image_tokens=None if self.image_encoder is None else image_tokens(self.image_encoder, cast.image),
            face_mask=masks if by_system else None,
            audio_mask=masks if cast.strict else None,
            reference_mask=masks if references else None,
            **references,
        )

    def _frames(self, take: _Take, made: list[Tensor]) -> Iterator[np.ndarray]:
        """All frames; `made` keeps the latents of chunks that are done."""
        left = take.shape.num_frames
        for block in self._decoded(take, made):
            kept = block[:left]
            left -= len(kept)
            if len(kept):
                yield kept

    def _decoded(self, take: _Take, made: list[Tensor]) -> Iterator[np.ndarray]:
        generator = torch.Generator().manual_seed(take.seed)
        if take.plan.handover == "latents":  # one stream
            for pixels in self.codec.decode_pixels(self._one_stream(take, made, generator)):
                yield take.finished(pixels)
            return
        tail: Tensor | None = None  # the last frames, which the next chunk begins with
        for index, chunk in enumerate(take.plan.chunks):
            latents = self._latents(take, index, made, generator, tail)
            tail, skipped = None, chunk.fresh
            for pixels in self.codec.decode_pixels(latents.split(1, dim=1)):
                frames = take.finished(pixels)
                given = to_pixels(frames) if take.colour_match else pixels.cpu()
                tail = given if tail is None else torch.cat([tail, given], dim=1)[:, -take.plan.chunks[-1].known :]
                yield frames[skipped:]
                skipped = max(0, skipped - len(frames))

    def _one_stream(self, take: _Take, made: list[Tensor], generator: torch.Generator) -> Iterator[Tensor]:
        """Latent frames one by one, each once."""
        for index, chunk in enumerate(take.plan.chunks):
            latents = self._latents(take, index, made, generator)
            yield from latents[:, self._known_latents(chunk) if chunk.fresh else 0 :].split(1, dim=1)

    def _known_latents(self, chunk: Chunk) -> int:
        return 1 + (chunk.known - 1) // self.codec.stride.time

    def _latents(
        self, take: _Take, index: int, made: list[Tensor], generator: torch.Generator, tail: Tensor | None = None
    ) -> Tensor:
        """Latents [C, F, h, w] of one chunk, made where they are not yet."""
        noise = noise_of(self.codec, take.plan.chunks[index].num_frames, take.size, generator)
        if index == len(made):
            made.append(self._chunk(take, index, noise, tail, made[-1] if made else None))
        return made[index]

    @torch.no_grad()
    def _chunk(self, take: _Take, index: int, noise: Tensor, tail: Tensor | None, before: Tensor | None) -> Tensor:
        """One chunk that begins with the frames `tail`, or, handed over as latents, with the last ones of `before`."""
        chunk = take.plan.chunks[index]
        picture = self.codec.pixels(take.cast.image, take.size)
        known, pinned = picture if tail is None else tail, None
        if take.plan.handover == "latents" and before is not None:
            known, pinned = picture, before[None, :, -self._known_latents(chunk) :]
        elif self.preset.pinned_motion or take.plan.handover == "latents":
            known, pinned = picture, self.codec.encode(known)[None]
        else:
            pinned = pinned_latents(self.codec, known, self.condition_channels)
        lasting = replace(
            take.told.at_frames(torch.zeros(noise.shape[2], dtype=torch.long)),
            reference_latents=reference_latents(self.codec, picture, known, chunk.num_frames, self.condition_channels),
        )
        device = self._execution_device
        told = []
        for adapter in self.experts:
            sound = tokens_of_chunk(adapter, take.features, chunk)
            heard = replace(lasting, audio_tokens=sound.tokens, audio_lengths=sound.lengths, audio_null=sound.null)
            told.append(in_model_dtype(heard, device, adapter.transformer.dtype))
        latents = denoise(
            self.experts,
            told,
            noise.to(device),
            take.sampling,
            pinned,
            _of_all(take.progress, index, len(take.plan.chunks)),
        )
        return latents[0].cpu()


def _of_all(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Progress of one chunk as progress of the whole."""
    if progress is None:
        return None
    return lambda done, steps: progress(index * steps + done, count * steps)
