"""Which speech features belong to which latent frame.

A latent frame f > 0 covers `stride` video frames that end at frame f * stride; its window holds the features of that time
and a margin on both sides. The first latent frame gets a window of the same length, so every latent frame hears the same
amount of sound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar.audio.encoder import FEATURE_RATE_HZ
from avatar.errors import OptionError
from avatar.types import DEFAULT_FPS


def window_length(temporal_stride: int, margin_features: int, fps: float = DEFAULT_FPS) -> int:
    """How many features one latent frame hears.

    Raises:
        OptionError: a video frame is not a whole number of features long.
    """
    per_frame = FEATURE_RATE_HZ / fps
    if per_frame != int(per_frame):
        raise OptionError(f"{FEATURE_RATE_HZ} features a second do not divide evenly over {fps} frames a second")
    return int(per_frame) * temporal_stride + 2 * margin_features


def first_feature(latent_frame: int, temporal_stride: int, margin_features: int, fps: float = DEFAULT_FPS) -> int:
    """Index of the first feature in the window of a latent frame; negative before the sound starts."""
    per_frame = int(FEATURE_RATE_HZ / fps)
    first_video_frame = (latent_frame - 1) * temporal_stride + 1
    return first_video_frame * per_frame - margin_features


def audio_windows(
    features: Tensor, start: int, stop: int, *, temporal_stride: int, margin_features: int, offset: int = 0
) -> Tensor:
    """Cuts features into one window per latent frame.

    Args:
        features: (N, D) at 50 Hz; zeros stand in for what lies before the beginning and after the end.
        start, stop: latent frames [start, stop).
        temporal_stride: video frames per latent frame.
        margin_features: features of context on each side.
        offset: index, in the whole sound, of features[0].

    Returns:
        (stop - start, M, D).
    """
    length = window_length(temporal_stride, margin_features)
    if len(features) == 0:
        return features.new_zeros(stop - start, length, features.shape[1])
    first = first_feature(start, temporal_stride, margin_features) - offset
    step = length - 2 * margin_features
    index = first + step * torch.arange(stop - start)[:, None] + torch.arange(length)
    inside = (index >= 0) & (index < len(features))
    windows = features[index.clamp(0, len(features) - 1).to(features.device)]
    return windows * inside[..., None].to(windows)
