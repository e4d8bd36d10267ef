"""A sound to what the sync model hears: features of the shipped speech encoder, one vector per video frame."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from avatar.audio.encoder import FEATURE_RATE_HZ, encode_speech
from avatar.audio.voice_activity import speech_activity
from avatar.errors import MissingDependencyError
from avatar.types import DEFAULT_FPS, Waveform

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

FEATURES_PER_FRAME = int(FEATURE_RATE_HZ / DEFAULT_FPS)
_SHIPPED = ("weights", "embedded", "speech_encoder")


def shipped_encoder_folder() -> Path:
    """Where the speech encoder of the embedded model lies.

    Raises:
        MissingDependencyError: it is not there.
    """
    with as_file(files("avatar").joinpath(*_SHIPPED)) as folder:
        if not (folder / "model.safetensors").is_file():
            raise MissingDependencyError(
                f"{folder} has no speech encoder; reinstall the package: its weights are missing"
            )
        return folder


@cache
def shipped_encoder() -> Wav2Vec2Model:
    """The speech encoder of the embedded model, in float32, on the CPU; loaded once."""
    from transformers import Wav2Vec2Model

    return Wav2Vec2Model.from_pretrained(shipped_encoder_folder()).float().eval().requires_grad_(False)


@cache
def encoder_fingerprint(folder: Path | None = None) -> str:
    """The SHA-256 of an encoder's weights, by which a sync model knows the encoder it was trained behind."""
    weights = (folder or shipped_encoder_folder()) / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def per_frame(features: np.ndarray) -> np.ndarray:
    """(N, D) at 50 Hz to (N // 2, 2 D) at 25 fps: both features of a frame, side by side."""
    frames = len(features) // FEATURES_PER_FRAME
    return np.ascontiguousarray(features[: frames * FEATURES_PER_FRAME]).reshape(frames, -1)


@torch.no_grad()
def speech_per_frame(speech: Waveform, encoder: Wav2Vec2Model) -> np.ndarray:
    """What an encoder makes of a sound, with the pauses gated as the embedded model hears them.

    Args:
        speech: 16 kHz sound.
        encoder: 50 features a second.

    Returns:
        (T, 2 D) float32, T the whole video frames the sound lasts.
    """
    pieces = list(encode_speech(encoder, speech, speech_activity(speech)))
    features = torch.cat(pieces).numpy() if pieces else np.zeros((0, encoder.config.hidden_size), np.float32)
    return per_frame(features)
