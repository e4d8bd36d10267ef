"""Clips to what a Wan model is trained on: windows of latents with their condition, speech features, words, faces."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from avatar.data.clip_dataset import ClipEntry
from avatar.data.clip_sources import SourceClip
from avatar.errors import MediaError
from avatar.identity.choose import load_portrait
from avatar.identity.mask import face_oval_mask, lips_mask
from avatar.media import read_waveform
from avatar.media.video import read_video
from avatar.train.config import TrainConfig
from avatar.train.mesh_task import emotion_weights
from avatar.types import MODEL_SAMPLE_RATE_HZ, LatentShape, Portrait, Waveform
from avatar.wan.condition import reference_latents
from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.reference import emotion_tokens, identity_embedder, identity_tokens, reference_adapters
from avatar.wan.sound import features_of
from avatar.wan.words import image_tokens, text_tokens

_MAX_WINDOWS = 8  # of one clip, evenly spread


class WanPreparer:
    """Makes the tensors of one clip after another.

    Args:
        pipeline: the model that will be trained.
        config: of the run.
    """

    def __init__(self, pipeline: WanAvatarPipeline, config: TrainConfig) -> None:
        self._pipeline, self._config, self._codec = pipeline, config, pipeline.codec
        self._frames, self._known = (
            LatentShape(1, frames, 1, 1).num_video_frames(self._codec.stride)
            for frames in (config.data.latent_frames, config.data.context_frames)
        )
        self._references = reference_adapters(pipeline.transformer)

    @property
    def reads(self) -> tuple[str, ...]:
        """See `Preparer.reads`."""
        return ("emotion",) if "emotion" in self._references else ()

    def settings(self) -> dict[str, Any]:
        """What decides the tensors, for `ClipStore`."""
        data = self._config.data
        return {
            "kind": "wan",
            "system": self._pipeline.preset.name,
            "frames": self._frames,
            "known": self._known,
            "size_px": data.size_px,
            "prompt": data.prompt,
            "references": sorted(self._references),
        }

    @torch.no_grad()
    def prepare(self, clip: SourceClip) -> tuple[ClipEntry, dict[str, np.ndarray]]:
        """One clip: `windows` crops of equal length.

        Raises:
            MediaError: it cannot be read, has no sound, or is shorter than a window.
            FaceError: no face can be used.
        """
        fps = self._pipeline.preset.front_end.fps
        with clip.file() as path:
            speech, frames = read_waveform(path), list(read_video(path, fps))
        if len(frames) < self._frames:
            raise MediaError(f"the clip has {len(frames)} frames at {fps:g} a second; a window needs {self._frames}")
        size = self._codec.size_for(frames[0], self._config.data.size_px)
        count = min(_MAX_WINDOWS, max(1, len(frames) // self._frames))
        starts = np.linspace(0, len(frames) - self._frames, count).round().astype(int)
        windows = [
            self._window(frames[s : s + self._frames], _cut(speech, s / fps, self._frames / fps), size) for s in starts
        ]
        tensors = {name: np.stack([window[name] for window in windows]) for name in windows[0]}
        portrait = load_portrait(frames[0], "largest")
        labels = dict(clip.labels)
        grid = (self._config.data.latent_frames, size[0], size[1])
        entry = ClipEntry(clip.clip_id, len(frames), clip.person, clip.split, grid, labels, str(clip.path))
        return entry, {**tensors, **self._lasting(clip, entry, portrait, speech)}

    def _window(self, frames: list[np.ndarray], speech: Waveform, size: tuple[int, int]) -> dict[str, np.ndarray]:
        codec, pipeline = self._codec, self._pipeline
        portrait = load_portrait(frames[0], "largest")
        pixels = torch.cat([codec.pixels(frame, size) for frame in frames], dim=1)
        features = features_of(pipeline.speech_encoder, speech, pipeline.preset.front_end, self._frames, self._frames)
        out = {"latents": codec.encode(pixels), "features": features}
        grid, place = out["latents"].shape[-2:], (portrait.image.shape[0], portrait.image.shape[1])
        out["face"] = torch.from_numpy(_on_grid(face_oval_mask(portrait.face, place), grid))
        out["lips"] = torch.from_numpy(_on_grid(lips_mask(portrait.face, place), grid))
        out["speaker"] = codec.face_mask(1, [portrait], size)[0, 0]
        for name, known in (("start", 1), ("later", self._known)):
            condition = reference_latents(
                codec, pixels[:, :1], pixels[:, :known], len(frames), pipeline.condition_channels
            )
            if condition is not None:
                out[f"condition_{name}"] = condition[0]
        if pipeline.image_encoder is not None:
            out["image"] = image_tokens(pipeline.image_encoder, frames[0])[0]
        return {name: _half(value) for name, value in out.items()}

    def _lasting(
        self, clip: SourceClip, entry: ClipEntry, portrait: Portrait, speech: Waveform
    ) -> dict[str, np.ndarray]:
        """Words, who it is and what is felt."""
        pipeline = self._pipeline
        out = {}
        for name, words in (("text", clip.caption or self._config.data.prompt), ("text_null", "")):
            tokens = text_tokens(pipeline.tokenizer, pipeline.text_encoder, words)[0]
            length = int(tokens.abs().sum(1).nonzero().max()) + 1 if tokens.any() else 1
            out[name] = _half(tokens[:length])
        if "identity" in self._references:
            made_of = self._references["identity"].made_of
            out["identity"] = _half(identity_tokens(identity_embedder(made_of), portrait))
        weights = emotion_weights(entry)
        if "emotion" in self._references:
            from avatar.emotion.labels import EMOTIONS

            label = "neutral" if weights is None else EMOTIONS[int(weights.argmax())]
            out["emotion"] = _half(emotion_tokens(self._codec, label, speech, portrait))
        return out


def _cut(speech: Waveform, start_s: float, length_s: float) -> Waveform:
    first, length = (round(x * MODEL_SAMPLE_RATE_HZ) for x in (start_s, length_s))
    part = speech.samples[first : first + length]
    return Waveform(np.pad(part, (0, length - len(part))))


def _on_grid(mask: np.ndarray, grid: torch.Size) -> np.ndarray:
    return cv2.resize(mask, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)


def _half(value: Tensor) -> np.ndarray:
    return value.detach().cpu().float().numpy().astype(np.float16)
