"""The values that travel between stages, and the only conversions between seconds, frames and latent frames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from avatar.errors import OptionError

MODEL_SAMPLE_RATE_HZ = 16_000  # what every wav2vec2 encoder was trained on
DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Waveform:
    """Mono sound.

    Attributes:
        samples: (S,) float32 in [-1, 1].
        sample_rate_hz: samples per second.
    """

    samples: np.ndarray
    sample_rate_hz: int = MODEL_SAMPLE_RATE_HZ

    def __post_init__(self) -> None:
        if self.samples.ndim != 1:
            raise OptionError(f"a waveform is one channel (S,), not {self.samples.shape}; mix the channels first")
        if self.sample_rate_hz <= 0:
            raise OptionError(f"sample_rate_hz must be positive, not {self.sample_rate_hz}")

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz


Speech = str | Path | Waveform  # a sound file, a video with sound, or sound


@dataclass(frozen=True)
class BBox:
    """An axis-aligned box in picture pixels, x to the right and y down."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def scaled(self, factor: float) -> BBox:
        """The same centre with both sides multiplied by `factor`."""
        (cx, cy), half_w, half_h = self.centre, self.width * factor / 2, self.height * factor / 2
        return BBox(cx - half_w, cy - half_h, cx + half_w, cy + half_h)

    def iou(self, other: BBox) -> float:
        """Intersection over union, in [0, 1]."""
        w = min(self.right, other.right) - max(self.left, other.left)
        h = min(self.bottom, other.bottom) - max(self.top, other.top)
        overlap = max(w, 0.0) * max(h, 0.0)
        union = self.width * self.height + other.width * other.height - overlap
        return overlap / union if union > 0 else 0.0


@dataclass(frozen=True)
class HeadPose:
    """Head rotation in degrees: yaw positive to the picture's right, pitch positive up, roll positive clockwise."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        bbox: tight box of the landmarks, px.
        landmarks: (478, 3) float32 in MediaPipe's mesh order, px of the whole picture: x right, y down,
            z in the same unit, *negative towards the camera* (as MediaPipe gives it).
        pose: head rotation.
    """

    bbox: BBox
    landmarks: np.ndarray
    pose: HeadPose


# Which face of a picture: its number from 1, largest first; a box that holds it; a word such as "left"
# (`identity.choose.FACE_WORDS`); None for the only one.
FaceChoice = int | BBox | str | None


@dataclass(frozen=True)
class Portrait:
    """A picture and the face in it that will speak.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        face: the chosen face.
        others: further faces in the picture, which must hold still while this one moves.
    """

    image: np.ndarray
    face: Face
    others: tuple[Face, ...] = ()


Picture = str | Path | np.ndarray | Portrait  # a file, (H, W, 3) uint8 RGB, or one in which the face is found


@dataclass(frozen=True)
class Stride:
    """How many frames and pixels one latent position covers. The first latent frame covers one frame alone."""

    time: int
    height: int
    width: int


@dataclass(frozen=True)
class VideoShape:
    """Size of a video; the conversions from sound to frames live here.

    Attributes:
        num_frames, height_px, width_px: as named.
        fps: frames per second.
    """

    num_frames: int
    height_px: int
    width_px: int
    fps: float = DEFAULT_FPS

    @classmethod
    def for_duration(cls, duration_s: float, height_px: int, width_px: int, fps: float = DEFAULT_FPS) -> VideoShape:
        """The shape of a video as long as `duration_s` to the nearest frame, one frame at least."""
        return cls(max(1, round(duration_s * fps)), height_px, width_px, fps)

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


@dataclass(frozen=True)
class LatentShape:
    """Size of a video in latent space: Wan's rule, T = 1 + stride.time * (F - 1) frames for F latent frames."""

    channels: int
    frames: int
    height: int
    width: int

    @classmethod
    def from_video(cls, shape: VideoShape, stride: Stride, channels: int) -> LatentShape:
        """The fewest latent frames that cover the video; the surplus frames are cut after decoding."""
        frames = 1 + math.ceil((shape.num_frames - 1) / stride.time)
        return cls(
            channels, frames, math.ceil(shape.height_px / stride.height), math.ceil(shape.width_px / stride.width)
        )

    def num_video_frames(self, stride: Stride) -> int:
        return 1 + stride.time * (self.frames - 1)


@dataclass(frozen=True)
class Conditioning:
    """Everything the transformer is told besides the noisy latents. B batch, S speakers, F latent frames.

    Attributes:
        audio_tokens: [B, S, F, N_a, D_a]; tokens of frame f hold only the sound around frame f.
        face_mask: [B, S, F, h, w] on the token grid, in [0, 1]: where speaker s's sound acts, in systems made for it, and
            wherever there are several speakers.
        identity_tokens: [B, N_i, D_i], or [B, S, N_i, D_i].
        emotion_tokens: [B, F, N_e, D_e], or [B, S, F, N_e, D_e].
        text_tokens: [B, N_t, D_t] (large backbones).
        image_tokens: [B, N_c, D_c], CLIP picture tokens (large backbones).
        reference_latents: [B, C', F, H, W], concatenated to the noisy latents along channels.
        audio_lengths: [B, S, F] how many of a frame's audio tokens are sound, the rest being padding that is not heard; None
            for all.
        audio_null: what stands for no sound, [B, S', F, N_a, D_a]; None for zeros. Systems that silence the sound before a
            projector with biases need it.
        text_null: what stands for no prompt, [B, N_t, D_t], as a rule the negative prompt; None for zeros.
        audio_mask: like `face_mask`, but it multiplies what the sound adds in every system, also where a system binds
            speakers in another way or lets one act everywhere; None leaves that to the system.
        reference_mask: likewise for identity and emotion; None takes `face_mask`, where the adapter is a masked one.
    """

    audio_tokens: torch.Tensor | None = None
    face_mask: torch.Tensor | None = None
    identity_tokens: torch.Tensor | None = None
    emotion_tokens: torch.Tensor | None = None
    text_tokens: torch.Tensor | None = None
    image_tokens: torch.Tensor | None = None
    reference_latents: torch.Tensor | None = None
    audio_lengths: torch.Tensor | None = None
    audio_null: torch.Tensor | None = None
    text_null: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None
    reference_mask: torch.Tensor | None = None

    def with_dropped(self, *names: str) -> Conditioning:
        """A copy in which the named tokens (`"audio"`, `"emotion"`, …) are the null ones, or zero: for guidance."""
        nulls = {"audio_tokens": self.audio_null, "text_tokens": self.text_null}
        return replace(
            self,
            **{
                key: torch.zeros_like(value) if (null := nulls.get(key)) is None else null
                for key, value in self._named(names)
            },
        )

    def adapter_tokens(self) -> dict[str, torch.Tensor]:
        """What adapters read, by name, without what is not there: tokens, their lengths, masks [B, S, F * N, 1] of their own."""
        named = {
            "audio": self.audio_tokens,
            "audio_lengths": self.audio_lengths,
            "audio_mask": self.audio_mask,
            "identity": self.identity_tokens,
            "identity_mask": self.reference_mask,
            "emotion": self.emotion_tokens,
            "emotion_mask": self.reference_mask,
        }
        return {
            name: value.flatten(2)[..., None] if name.endswith("_mask") else value
            for name, value in named.items()
            if value is not None
        }

    def frames(self, start: int, stop: int) -> Conditioning:
        """The part that belongs to latent frames [start, stop)."""
        return self.at_frames(slice(start, stop))

    def at_frames(self, frames: slice | torch.Tensor) -> Conditioning:
        """The part that belongs to some latent frames, given as a slice or one by one, (N,)."""
        axes = {
            "audio_tokens": 2,
            "face_mask": 2,
            "emotion_tokens": -3,
            "reference_latents": 2,
            "audio_lengths": 2,
            "audio_null": 2,
            "audio_mask": 2,
            "reference_mask": 2,
        }
        given = {name: getattr(self, name) for name in axes if getattr(self, name) is not None}
        cut = {name: value[(slice(None),) * (axes[name] % value.ndim) + (frames,)] for name, value in given.items()}
        return replace(self, **cut)

    def _named(self, names: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
        for name in names:
            key = f"{name}_tokens"
            if key not in self.__dataclass_fields__:
                accepted = ", ".join(
                    k.removesuffix("_tokens") for k in self.__dataclass_fields__ if k.endswith("_tokens")
                )
                raise OptionError(f"no condition is called {name!r}; accepted: {accepted}")
            value = getattr(self, key)
            if value is not None:
                yield key, value


class Codec(Protocol):
    """Gives latents their meaning: pictures in, pictures out."""

    stride: Stride
    channels: int

    def encode_portrait(self, portrait: Portrait) -> torch.Tensor:
        """The latent frame [C, 1, H, W] that decodes to the portrait itself."""
        ...

    def decode(self, latent_blocks: Iterator[torch.Tensor], portrait: Portrait) -> Iterator[np.ndarray]:
        """Blocks of latents [C, F, H, W], in order, to blocks of frames (T, H, W, 3) uint8.

        The first latent frame of the first block is one frame, every other latent frame is `stride.time`
        frames; how the latents are cut into blocks does not change the frames.
        """
        ...

    def face_mask(self, num_frames: int) -> torch.Tensor:
        """Where sound acts, (F, h, w) in [0, 1] on the transformer's token grid."""
        ...
