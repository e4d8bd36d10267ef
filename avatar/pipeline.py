"""A portrait and speech to a talking video: the file to read first.

    speech ──▶ audio tokens ─┐
    portrait ─▶ identity ────┼─▶ transformer, a chunk at a time ──▶ latents ──▶ motion + idle life ──▶ frames
    emotion ──▶ tokens ──────┘

Frames are made as they are asked for, in memory that does not grow with the length of the speech.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from diffusers import DiffusionPipeline
from transformers import Wav2Vec2Model
from typing_extensions import Unpack

from avatar.audio.opening import OpeningEstimator
from avatar.audio.projector import AudioProjector
from avatar.clip import VideoClip
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.idle import IdleMotion
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.rig import default_rig
from avatar.dit.generate import ChunkPlan, SamplingOptions
from avatar.dit.guidance import audio_guidance
from avatar.dit.sampler import check_seed
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.labels import shapes_of
from avatar.emotion.reference import EmotionReference, felt_expression, read_emotion
from avatar.emotion.tokens import EmotionEncoder
from avatar.errors import OptionError
from avatar.identity.choose import check_distinct, load_portrait
from avatar.identity.tokens import IdentityEncoder
from avatar.media import read_speech, sound_of_video
from avatar.parts import debug_parts, trained_parts
from avatar.performer import Performer
from avatar.presets import is_own, resolve_preset
from avatar.runtime import GraphSpeechEncoder, GraphTransformer, Notify, check_runtime
from avatar.types import FaceChoice, LatentShape, Picture, Portrait, Speech, VideoShape, Waveform

if TYPE_CHECKING:
    from avatar.wan.pipeline import WanAvatarPipeline

DEFAULT_STEPS = 4
DEFAULT_GUIDANCE = 1.5
SIGMA_SHIFT = 3.0
# Lips follow real speech closer, and tremble less, than at 1; what should differ from take to take, the head and the
# eyes, has chance of its own (docs/embedded-model.md).
TEMPERATURE = 0.5
BLOCK_BYTES = 16 << 20  # of frames handed over at a time


@dataclass(frozen=True)
class _Speaker:
    """One face, its sound, and where it is drawn."""

    portrait: Portrait
    speech: Waveform
    stage: Stage
    identity: torch.Tensor
    emotion: EmotionReference


@dataclass(frozen=True)
class _Take:
    """Everything that decides the frames of one video."""

    cast: list[_Speaker]
    shape: VideoShape
    seed: int
    sampling: SamplingOptions
    head_motion: float


class Options(TypedDict, total=False):
    """What may be asked for besides portrait and speech.

    Attributes:
        emotion: a label with or without strength (`"happy"`, `"happy:0.6"`, `"happy:0.5,surprised:0.3"`), the path of a
            picture of an expression, or `"auto"`: from the voice. Default neutral.
        seed: the same seed gives the same video. Default 0.
        size_px: longer side of the video; None, the default, keeps the picture's own.
        face: which face speaks, by number, box or word (`"left"`), where there are several.
        speakers: further people of the picture, each a face choice with a sound, speaking at the same time.
        num_inference_steps: sampling steps per chunk; None is 4.
        guidance_scale: how strictly the mouth follows the sound; None is 1.5, 1 is off.
        head_motion: 0 keeps the head still, 1, the default, is natural.
    """

    emotion: str | Path
    seed: int
    size_px: int | None
    face: FaceChoice
    speakers: Sequence[tuple[FaceChoice, Speech]]
    num_inference_steps: int | None
    guidance_scale: float | None
    head_motion: float


class AvatarPipeline(DiffusionPipeline):
    """Portrait and speech to a talking video.

    Args:
        transformer: denoises the latents.
        codec: gives the latents their meaning.
        speech_encoder: 16 kHz sound to features.
        audio_projector, identity_encoder, emotion_encoder: features to tokens.
        opening_estimator: hears how far the lips are apart, besides; pipelines saved without one have None.
    """

    _optional_components = ["opening_estimator"]
    model_cpu_offload_seq = "speech_encoder->transformer"

    def __init__(
        self,
        transformer: AvatarTransformer3DModel,
        codec: MeshCodec,
        speech_encoder: Wav2Vec2Model,
        audio_projector: AudioProjector,
        identity_encoder: IdentityEncoder,
        emotion_encoder: EmotionEncoder,
        opening_estimator: OpeningEstimator | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            codec=codec,
            speech_encoder=speech_encoder,
            audio_projector=audio_projector,
            identity_encoder=identity_encoder,
            emotion_encoder=emotion_encoder,
            opening_estimator=opening_estimator,
        )
        self.plan = ChunkPlan()
        self._graphs: tuple[GraphTransformer, GraphSpeechEncoder] | None = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path = "embedded",
        *,
        runtime: str = "torch",
        notify: Notify | None = None,
        **kwargs: Any,
    ) -> AvatarPipeline | WanAvatarPipeline:
        """Loads a preset by name, or a folder that `save_pretrained` wrote.

        Args:
            pretrained_model_name_or_path: which. A published system (`"echomimic-v3"`, `"FOLDER:echomimic-v3"`,
                `"debug:echomimic-v3"`) gives a `WanAvatarPipeline`, which is called in the same way.
            runtime: see `use_runtime`.
            notify: told in a sentence what takes long, or much memory, before it begins.
            kwargs: as for `DiffusionPipeline.from_pretrained`; of a published system `memory`, `device`, `dtype` and
                `reference`, see `avatar.hub.load.load_published`.

        Raises:
            OptionError: neither a preset nor such a folder, or no such runtime.
            MissingDependencyError: the runtime's package is not installed, or a published system's files are not there.
        """
        check_runtime(runtime)
        if not is_own(pretrained_model_name_or_path):
            return _published(pretrained_model_name_or_path, runtime, notify=notify, **kwargs)
        if str(pretrained_model_name_or_path) == "debug":
            return debug_pipeline().use_runtime(runtime, notify=notify)
        kwargs.setdefault("dtype", torch.float32)
        pipeline = super().from_pretrained(resolve_preset(pretrained_model_name_or_path), **kwargs)
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.eval()
        pipeline.codec.warm_up()  # so that the first frame is not what waits for it
        return pipeline.use_runtime(runtime, notify=notify)

    def use_runtime(
        self, name: str, cache_dir: str | Path | None = None, notify: Notify | None = None
    ) -> AvatarPipeline:
        """Chooses what computes the transformer and the speech encoder.

        Args:
            name: `"torch"`, or `"openvino"`: compiled graphs of the weights as they are now, in about 0.6 of the time on a CPU
                (`avatar.runtime`). Weights that are changed later need another call.
            cache_dir: where compiled graphs are kept; None for the platform's cache folder.
            notify: told in a sentence what takes long, the first time.

        Returns:
            The pipeline itself.

        Raises:
            OptionError: no such runtime, or one that this pipeline's networks cannot use.
            MissingDependencyError: the runtime's package is not installed.
        """
        check_runtime(name)
        self._graphs = None
        if name == "openvino":
            folder = None if cache_dir is None else Path(cache_dir)
            self._graphs = (
                GraphTransformer(self.transformer, folder, notify),
                GraphSpeechEncoder(self.speech_encoder, folder, notify),
            )
        return self

    @torch.no_grad()
    def __call__(self, portrait: Picture, speech: Speech, **options: Unpack[Options]) -> VideoClip:
        """Makes a talking video.

        Args:
            portrait: a picture: a path, (H, W, 3) uint8 RGB, or a `Portrait`.
            speech: a sound file, a video with sound, or a waveform.
            options: see `Options`.

        Returns:
            A clip whose motion is made; its frames are rendered when asked for (`clip.save("out.mp4")`, `clip.frames()`).

        Raises:
            MediaError: the picture or a sound cannot be read.
            FaceError: not exactly one usable face, or none that fits the choice.
            OptionError: an option is out of range.
        """
        take = self._take(portrait, speech, **options)
        latents = [list(self._latents(take, index)) for index in range(len(take.cast))]
        return VideoClip(take.shape, lambda: self._frames(take, latents), _heard(speech, options))

    def stream(self, portrait: Picture, speech: Speech, **options: Unpack[Options]) -> VideoClip:
        """As calling the pipeline, but motion, too, is made while the clip is iterated over: the first frame comes at once.

        Args:
            portrait, speech, options: as for calling the pipeline.

        Returns:
            A clip; iterating gives blocks of frames (T, H, W, 3) uint8, the same ones as from calling the pipeline.

        Raises:
            MediaError, FaceError, OptionError: as for calling the pipeline.
        """
        take = self._take(portrait, speech, **options)
        return VideoClip(take.shape, lambda: self._frames(take), _heard(speech, options))

    @torch.no_grad()
    def motion(self, portrait: Picture, speech: Speech, **options: Unpack[Options]) -> list[MeshMotion]:
        """What the faces do, undrawn: displacements of a face mesh of 478 points, turns of head and eyes.

        Args:
            portrait, speech, options: as for calling the pipeline.

        Returns:
            One motion per speaker, the first the one of `speech`; T frames each, as many as the video would have.

        Raises:
            MediaError, FaceError, OptionError: as for calling the pipeline.
        """
        take = self._take(portrait, speech, **options)
        motions = (list(self._motion(take, k, self._latents(take, k))) for k in range(len(take.cast)))
        return [MeshMotion.concatenate(blocks)[: take.shape.num_frames] for blocks in motions]

    @torch.no_grad()
    def _take(
        self,
        portrait: Picture,
        speech: Speech,
        *,
        emotion: str | Path = "neutral",
        seed: int = 0,
        size_px: int | None = None,
        face: FaceChoice = None,
        speakers: Sequence[tuple[FaceChoice, Speech]] = (),
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        head_motion: float = 1.0,
    ) -> _Take:
        """Checks and reads everything, and sets every speaker's portrait up."""
        sampling = _sampling(num_inference_steps, guidance_scale)
        check_seed(seed)
        if not 0 <= head_motion <= 2:
            raise OptionError(f"head_motion must lie between 0 (still) and 2 (twice as lively), not {head_motion}")
        chosen = [(face, speech), *speakers]
        sounds = [read_speech(sound) for _, sound in chosen]
        feelings = [read_emotion(emotion, sound, self._felt_in) for sound in sounds]
        portraits = [load_portrait(portrait, choice) for choice, _ in chosen]
        check_distinct([person.face for person in portraits])
        cast = [
            self._speaker(person, sound, feeling, size_px)
            for person, sound, feeling in zip(portraits, sounds, feelings, strict=True)
        ]
        height, width = cast[0].stage.size
        shape = VideoShape.for_duration(max(sound.duration_s for sound in sounds), height, width, self.codec.fps)
        return _Take(cast, shape, seed, sampling, head_motion)

    def _speaker(
        self, portrait: Portrait, speech: Waveform, feeling: EmotionReference, size_px: int | None
    ) -> _Speaker:
        stage, identity = self.codec.stage(portrait, size_px), self.identity_encoder.encode(portrait)
        if feeling.labels is not None:  # the expression that the labels stand for
            feeling = replace(feeling, expression=self.codec.felt_weights(shapes_of(feeling.labels.weights)))
        return _Speaker(portrait, speech, stage, identity, feeling)

    def _felt_in(self, picture: Path) -> np.ndarray:
        """The expression in a reference picture, as weights of the rig's named shapes."""
        expression = self.codec.expression_of(load_portrait(picture).face)
        return felt_expression(expression, default_rig().names[: len(expression)])

    def _frames(self, take: _Take, latents: list[list[torch.Tensor]] | None = None) -> Iterator[np.ndarray]:
        """Every speaker's motion side by side, drawn into the same picture, in blocks of a few megabytes."""
        sources = [self._latents(take, index) for index in range(len(take.cast))] if latents is None else latents
        motions = [self._motion(take, index, source) for index, source in enumerate(sources)]
        still = take.cast[0].stage.still
        length = max(1, BLOCK_BYTES // still.nbytes)
        left = take.shape.num_frames
        for parts in zip(*motions, strict=True):
            count = min(len(parts[0]), left)
            left -= count
            for start in range(0, count, length):
                block = np.empty((min(length, count - start), *still.shape), np.uint8)
                for index, frame in enumerate(block, start):
                    frame[:] = still
                    for speaker, motion in zip(take.cast, parts, strict=True):
                        speaker.stage.draw(frame, motion, index)
                yield block

    def _motion(self, take: _Take, index: int, latents: Iterable[torch.Tensor]) -> Iterator[MeshMotion]:
        """One person's motion: what speech and feeling cause, and the life that goes on anyway."""
        idle = IdleMotion(_person_seed(take.seed, index), take.head_motion)
        blocks = (block[0].float().cpu() for block in latents)
        return idle.added_to(self.codec.decode_motion(blocks, take.cast[index].portrait))

    def _latents(self, take: _Take, index: int) -> Iterator[torch.Tensor]:
        """One person's latents, [1, C, f, H, W] a block."""
        speaker = take.cast[index]
        latent = LatentShape.from_video(take.shape, self.codec.stride, self.codec.channels)
        transformer, encoder = self._graphs or (self.transformer, self.speech_encoder)
        performer = Performer(
            transformer,
            self.codec,
            encoder,
            self.audio_projector,
            self.emotion_encoder,
            self.opening_estimator,
            self.plan,
        )
        first = self.codec.encode_portrait(speaker.portrait)[None]
        first = first.to(self.transformer.device, self.transformer.dtype)
        generator = torch.Generator().manual_seed(_person_seed(take.seed, index))
        return performer.latents(
            first, speaker.speech, speaker.identity, [speaker.emotion], latent.frames, take.sampling, generator
        )


def _sampling(steps: int | None, guidance: float | None) -> SamplingOptions:
    steps = DEFAULT_STEPS if steps is None else steps
    guidance = DEFAULT_GUIDANCE if guidance is None else guidance
    if not 1 <= steps <= 1000:
        raise OptionError(f"num_inference_steps must lie between 1 and 1000, not {steps}")
    if not 0 <= guidance <= 20:
        raise OptionError(f"guidance_scale must lie between 0 and 20, not {guidance}; 1 is off, 1.5 the default")
    return SamplingOptions(steps, SIGMA_SHIFT, audio_guidance(guidance), TEMPERATURE)


def _person_seed(seed: int, index: int) -> int:
    """People in one picture do not blink in step."""
    return seed * 1009 + index


def _heard(speech: Speech, options: Options) -> Path | Waveform:
    return sound_of_video([speech, *(sound for _, sound in options.get("speakers", ()))])


def _published(name: str | Path, runtime: str, **kwargs: Any) -> WanAvatarPipeline:
    from avatar.hub.load import load_published

    if runtime != "torch":
        raise OptionError(f"runtime {runtime!r} computes this package's own presets; published ones take torch")
    return load_published(name, **kwargs)


def assemble_pipeline(speech_encoder: Path, networks: Path) -> AvatarPipeline:
    """The pipeline of freshly trained parts, see `parts.trained_parts`."""
    return AvatarPipeline(**trained_parts(speech_encoder, networks))


def debug_pipeline(seed: int = 0) -> AvatarPipeline:
    """A pipeline that runs without weights, see `parts.debug_parts`."""
    return AvatarPipeline(**debug_parts(seed))
