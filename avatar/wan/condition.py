"""What a model is told of the video besides tokens: latents of known frames, in the layout its patch embedding takes."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar.codec.wan import WanCodec
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError


def channels_of_condition(transformer: AvatarTransformer3DModel, codec: WanCodec) -> int:
    """How many channels stand beside the noisy latents.

    20: a mask of 4 and latents (Wan's image-to-video); 17: latents and a mask of 1 (OmniAvatar); 0: none.

    Raises:
        OptionError: another number.
    """
    extra = transformer.config.in_channels - codec.channels
    layouts = (0, codec.channels + 1, codec.channels + codec.stride.time)
    if transformer.config.out_channels != codec.channels or extra not in layouts:
        raise OptionError(
            f"a transformer with {transformer.config.in_channels} channels in and {transformer.config.out_channels} out does "
            f"not fit a codec of {codec.channels}; known layouts take {', '.join(map(str, layouts))} more in than out"
        )
    return extra


def reference_latents(codec: WanCodec, picture: Tensor, known: Tensor, num_frames: int, channels: int) -> Tensor | None:
    """The condition [1, channels, F, h, w] of one chunk.

    Args:
        codec: the codec.
        picture: [3, 1, H, W] the portrait.
        known: [3, k, H, W] the chunk's first frames.
        num_frames: of the chunk.
        channels: see `channels_of_condition`.

    Source: for 17 channels `WanVideoPipeline.__call__` of Omni-Avatar/OmniAvatar: the picture in every frame, and 0 in the
    mask where a frame is given.
    """
    if channels == 0:
        return None
    if channels == codec.channels + codec.stride.time:
        return codec.condition(known, num_frames)[None]
    frames = 1 + (num_frames - 1) // codec.stride.time
    latents = codec.encode(picture).expand(-1, frames, -1, -1)
    mask = latents.new_ones(1, *latents.shape[1:])
    mask[:, :1] = 0
    return torch.cat([latents, mask])[None]


def pinned_latents(codec: WanCodec, known: Tensor, channels: int) -> Tensor | None:
    """Latents [1, C, k, h, w] of known frames that are put back before every step, where the condition has no place for them."""
    if channels != codec.channels + 1:
        return None
    whole = known.shape[1] - (known.shape[1] - 1) % codec.stride.time
    return codec.encode(known[:, -whole:])[None]


def noise_of(codec: WanCodec, num_frames: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Noise [1, C, F, h, w] for so many video frames of (height, width) px."""
    stride = codec.stride
    frames = 1 + (num_frames - 1) // stride.time
    shape = (1, codec.channels, frames, size[0] // stride.height, size[1] // stride.width)
    return torch.randn(shape, generator=generator)
