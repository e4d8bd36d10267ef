"""A portrait and speech to a talking video in pixels: a Wan model with a published adapter.

    speech ──▶ features ──▶ audio tokens ─┐
    portrait ─▶ CLIP tokens, first frame ──┼─▶ transformer, a chunk at a time ──▶ latents ──▶ frames
    prompt ───▶ text tokens ───────────────┘

Long speech is made in chunks, each of which begins with the last frames of the one before: handed over as pixels (MultiTalk,
EchoMimicV3), or as latents that never pass through the codec (InfiniteTalk).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypedDict

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
from avatar.codec.wan import WanCodec
from avatar.dit.published.loading import Projector, PublishedAdapter
from avatar.dit.published.preset import PublishedPreset
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError
from avatar.identity.choose import check_distinct, load_portrait
from avatar.media import check_waveform, mix_speech, read_waveform
from avatar.types import Conditioning, FaceChoice, Portrait, VideoShape, Waveform
from avatar.wan.condition import channels_of_condition, pinned_latents, reference_latents
from avatar.wan.denoise import Experts, Progress, Sampler, WanSampling, denoise, in_model_dtype
from avatar.wan.plan import Chunk, plan_chunks
from avatar.wan.sound import features_of, tokens_of_chunk
from avatar.wan.words import image_tokens, text_tokens

DEFAULT_PROMPT = "A person is talking to the camera."
NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, many "
    "people in the background, walking backwards"
)  # Wan's own, in English, as MultiTalk and InfiniteTalk use it
MAX_SEED = 2**32 - 1
MAX_GUIDANCE = 20
_HANDS_OVER_LATENTS = ("infinitetalk", "infinitetalk-multi")

Speech = str | Path | Waveform
Handover = Literal["pixels", "latents"]
LoadAdapter = Callable[[AvatarTransformer3DModel], PublishedAdapter]


class WanOptions(TypedDict, total=False):
    """What may be asked for besides portrait and speech; None stands for the published system's own value.

    Attributes:
        prompt, negative_prompt: what the video shows, and what it should not.
        seed: the same seed gives the same video. Default 0.
        size_px: longer side of the video.
        face: which face speaks, where there are several.
        speakers: further people of the picture, each a face choice with a sound.
        num_inference_steps: per chunk.
        text_guidance_scale, audio_guidance_scale: how strictly prompt and sound are followed.
        shift: of the noise levels towards much noise.
        sampler: `"euler"` (default) or `"unipc"`.
        chunk_frames: video frames made at a time, 1 + 4 k.
        handover: what a chunk takes from the one before: `"pixels"` or `"latents"`.
        progress: told (steps done, steps in all) of the whole video.
    """

    prompt: str
    negative_prompt: str
    seed: int
    size_px: int | None
    face: FaceChoice
    speakers: Sequence[tuple[FaceChoice, Speech]]
    num_inference_steps: int | None
    text_guidance_scale: float | None
    audio_guidance_scale: float | None
    shift: float | None
    sampler: Sampler
    chunk_frames: int | None
    handover: Handover | None
    progress: Progress | None


@dataclass(frozen=True)
class _Take:
    """Everything that decides the frames of one video."""

    portraits: list[Portrait]
    features: list[Tensor]
    shape: VideoShape
    chunks: list[Chunk]
    sampling: WanSampling
    words: Conditioning
    handover: Handover
    seed: int
    progress: Progress | None


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
        dtype: torch.dtype | None = None,
    ) -> WanAvatarPipeline:
        """Loads everything from folders; nothing is fetched.

        Args:
            components: a diffusers repository of a Wan model, with `tokenizer`, `text_encoder`, `vae` and, for Wan 2.1
                image-to-video, `image_encoder`.
            load_adapter: puts an adapter file onto the transformer, such as
                `lambda model: fantasytalking.load(model, "fantasytalking_model.ckpt")`.
            speech_encoder: folder of the wav2vec2 model; None for `speech_encoder` among the components.
            transformer: folder or file of another transformer than the components', see `AvatarTransformer3DModel.from_wan`.
            dtype: of text encoder, CLIP and transformer; None for as stored. The VAE and the speech encoder stay float32.

        Raises:
            InputError: a folder or a part of it is missing.
            OptionError, WeightsError: parts that do not fit one another.
        """
        folder = Path(components)
        for part in ("tokenizer", "text_encoder", "vae"):
            if not (folder / part).is_dir():
                raise InputError(f"{folder} has no folder {part}: give a Wan repository in diffusers' layout")
        base = AvatarTransformer3DModel.from_wan(folder if transformer is None else transformer, dtype=dtype)
        adapter = load_adapter(base)
        settings = {} if dtype is None else {"dtype": dtype}
        clip = folder / "image_encoder"
        needs_clip = adapter.transformer.config.image_dim is not None
        if needs_clip and not clip.is_dir():
            raise InputError(f"{folder} has no folder image_encoder, and the transformer attends to a picture")
        return cls(
            preset=adapter.preset,
            tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
            text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", **settings),
            vae=AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32),
            speech_encoder=Wav2Vec2Model.from_pretrained(speech_encoder or folder / "speech_encoder").eval(),
            transformer=adapter.transformer,
            audio_projector=adapter.projector,
            image_encoder=CLIPVisionModel.from_pretrained(clip, **settings) if needs_clip else None,
        )

    @torch.no_grad()
    def __call__(
        self, portrait: str | Path | np.ndarray | Portrait, speech: Speech, **options: Unpack[WanOptions]
    ) -> VideoClip:
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
        speakers = options.get("speakers", ())
        heard: Path | Waveform = speech if isinstance(speech, Waveform) else Path(speech)
        if speakers:
            heard = mix_speech([speech, *(sound for _, sound in speakers)])
        return VideoClip(take.shape, lambda: self._frames(take, made), heard)

    def stream(
        self, portrait: str | Path | np.ndarray | Portrait, speech: Speech, **options: Unpack[WanOptions]
    ) -> VideoClip:
        """The same as calling the pipeline: here, too, frames come chunk by chunk, as they are asked for."""
        return self(portrait, speech, **options)

    def _take(
        self,
        portrait: str | Path | np.ndarray | Portrait,
        speech: Speech,
        *,
        prompt: str = DEFAULT_PROMPT,
        negative_prompt: str = NEGATIVE_PROMPT,
        seed: int = 0,
        size_px: int | None = None,
        face: FaceChoice = None,
        speakers: Sequence[tuple[FaceChoice, Speech]] = (),
        num_inference_steps: int | None = None,
        text_guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        shift: float | None = None,
        sampler: Sampler = "euler",
        chunk_frames: int | None = None,
        handover: Handover | None = None,
        progress: Progress | None = None,
    ) -> _Take:
        preset = self.preset
        if not 0 <= seed <= MAX_SEED:
            raise OptionError(f"seed must lie between 0 and {MAX_SEED}, not {seed}")
        for name, scale in (("text", text_guidance_scale), ("audio", audio_guidance_scale)):
            if scale is not None and not 0 <= scale <= MAX_GUIDANCE:
                raise OptionError(f"{name}_guidance_scale must lie between 0 and {MAX_GUIDANCE}, not {scale}; 1 is off")
        chosen = [(face, speech), *speakers]
        sounds = [check_waveform(s) if isinstance(s, Waveform) else read_waveform(s) for _, s in chosen]
        portraits = [_portrait(portrait, choice) for choice, _ in chosen]
        check_distinct([person.face for person in portraits])
        fps = preset.front_end.fps
        height, width = self.codec.size_for(portraits[0].image, size_px or preset.max_side_px)
        shape = VideoShape.for_duration(max(sound.duration_s for sound in sounds), height, width, fps)
        handover = handover or ("latents" if preset.name in _HANDS_OVER_LATENTS else "pixels")
        if handover not in ("pixels", "latents"):
            raise OptionError(f"handover must be pixels or latents, not {handover!r}")
        size = chunk_frames or preset.chunk_frames
        overlap, step = max(1, min(preset.overlap_frames, size - 4)), self.codec.stride.time
        if handover == "latents":
            overlap -= (overlap - 1) % step
        chunks = plan_chunks(shape.num_frames, size, overlap, step)
        features = [features_of(self.speech_encoder, sound, preset.front_end, chunks[-1].stop) for sound in sounds]
        sampling = WanSampling(
            preset.schedule.sigmas(num_inference_steps, shift),
            preset.guidance.rule(text_guidance_scale, audio_guidance_scale),
            sampler,
        )
        words = self._words(prompt, negative_prompt, portraits[0])
        return _Take(portraits, features, shape, chunks, sampling, words, handover, seed, progress)

    def _frames(self, take: _Take, made: list[Tensor]) -> Iterator[np.ndarray]:
        """All frames; `made` keeps the latents of chunks that are done."""
        left = take.shape.num_frames
        for skipped, latents in self._streams(take, made):
            for block in self.codec.decode(latents):
                kept = block[skipped:][:left]
                skipped = max(0, skipped - len(block))
                left -= len(kept)
                if len(kept):
                    yield kept

    def _streams(self, take: _Take, made: list[Tensor]) -> Iterator[tuple[int, Iterator[Tensor]]]:
        """(frames to leave out, latent frames one by one) of each stretch that is decoded for itself."""
        latents = self._latents(take, made)
        if take.handover == "pixels":
            for chunk, of_chunk in zip(take.chunks, latents, strict=True):
                yield (chunk.known if chunk.start else 0), iter(of_chunk.split(1, dim=1))
            return
        fresh = (
            of_chunk[:, self._known_latents(chunk) if chunk.start else 0 :]
            for chunk, of_chunk in zip(take.chunks, latents, strict=True)
        )
        yield 0, (frame for of_chunk in fresh for frame in of_chunk.split(1, dim=1))

    def _known_latents(self, chunk: Chunk) -> int:
        return 1 + (chunk.known - 1) // self.codec.stride.time

    def _latents(self, take: _Take, made: list[Tensor]) -> Iterator[Tensor]:
        """Latents [C, F, h, w] of each chunk."""
        generator = torch.Generator().manual_seed(take.seed)
        for index, chunk in enumerate(take.chunks):
            noise = self._noise(take, chunk, generator)
            if index == len(made):
                made.append(self._chunk(take, chunk, index, made, noise))
            yield made[index]

    @torch.no_grad()
    def _chunk(self, take: _Take, chunk: Chunk, index: int, made: list[Tensor], noise: Tensor) -> Tensor:
        size = (take.shape.height_px, take.shape.width_px)
        picture = known = self.codec.pixels(take.portraits[0].image, size)
        pinned = None
        if take.handover == "latents":
            before = made[index - 1] if index else self.codec.encode(picture)
            pinned = before[None, :, -self._known_latents(chunk) :]
        elif index:
            decoded = self.codec.decode_pixels(made[index - 1].split(1, dim=1))
            known = torch.cat(list(decoded), dim=1)[:, -chunk.known :].cpu()
        if pinned is None:
            pinned = pinned_latents(self.codec, known, self.condition_channels)
        adapter = self.experts.much_noise
        sound = tokens_of_chunk(adapter, take.features, chunk)
        conditioning = replace(
            take.words,
            audio_tokens=sound.tokens,
            audio_lengths=sound.lengths,
            audio_null=sound.null,
            face_mask=self._face_mask(take, noise.shape[2]),
            reference_latents=reference_latents(self.codec, picture, known, chunk.num_frames, self.condition_channels),
        )
        device = self._execution_device
        latents = denoise(
            self.experts,
            in_model_dtype(conditioning, device, adapter.transformer.dtype),
            noise.to(device),
            take.sampling,
            pinned,
            _of_all(take.progress, index, len(take.chunks)),
        )
        return latents[0].cpu()

    def _face_mask(self, take: _Take, num_frames: int) -> Tensor | None:
        """(1, S, F, h, w); None where the system lets one person's sound act everywhere."""
        if len(take.portraits) == 1 and not self.preset.face_mask:
            return None
        size = (take.shape.height_px, take.shape.width_px)
        return self.codec.face_mask(num_frames, take.portraits, size)[None]

    def _words(self, prompt: str, negative_prompt: str, portrait: Portrait) -> Conditioning:
        """Prompt, negative prompt and CLIP's view of the picture; the same for all chunks."""
        positive, negative = (
            text_tokens(self.tokenizer, self.text_encoder, words) for words in (prompt, negative_prompt)
        )
        picture = None
        if self.image_encoder is not None:
            picture = image_tokens(self.image_encoder, portrait.image)
        return Conditioning(text_tokens=positive, text_null=negative, image_tokens=picture)

    def _noise(self, take: _Take, chunk: Chunk, generator: torch.Generator) -> Tensor:
        stride = self.codec.stride
        frames = 1 + (chunk.num_frames - 1) // stride.time
        shape = (
            1,
            self.codec.channels,
            frames,
            take.shape.height_px // stride.height,
            take.shape.width_px // stride.width,
        )
        return torch.randn(shape, generator=generator)


def _portrait(portrait: str | Path | np.ndarray | Portrait, choice: FaceChoice) -> Portrait:
    if not isinstance(portrait, Portrait):
        return load_portrait(portrait, choice)
    return portrait if choice is None else load_portrait(portrait.image, choice)


def _of_all(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Progress of one chunk as progress of the whole."""
    if progress is None:
        return None
    return lambda done, steps: progress(index * steps + done, count * steps)
