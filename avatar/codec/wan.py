"""The Wan codec: pictures to the latents of Wan's causal video autoencoder, and back, in blocks of any length.

Source: Wan, arXiv 2503.20314, section 4.1 (3D causal VAE). The first frame is coded alone, every later latent frame covers
four; 8 x 8 pixels (16 x 16 in Wan 2.2's 5B) become one position. diffusers' `AutoencoderKLWan` keeps the state of its causal
convolutions on the module and drops frames that do not fill a group of four; here each stream has its own state, and
what does not fit is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d, unpatchify
from torch import Tensor

from avatar.errors import OptionError
from avatar.identity.mask import face_region_masks
from avatar.types import DEFAULT_FPS, Portrait, Stride

PATCH = 2  # latent positions a side that the transformer takes as one token
Padding = Literal["none", "repeat_last"]


class WanCodec:
    """Implements `avatar.types.Codec` for pixels.

    Args:
        vae: Wan 2.1's or 2.2's. Its `enable_tiling()` is heeded; its `use_slicing` is not needed.

    Attributes:
        stride: video frames and pixels per latent position.
        channels: of the latents.
        fps: frames per second where nothing else is said.
        token_px: pixels a side of a token; the sides of a video are multiples of it.
    """

    fps = DEFAULT_FPS

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.vae = vae
        spatial = vae.config.scale_factor_spatial
        self.stride = Stride(vae.config.scale_factor_temporal, spatial, spatial)
        self.channels: int = vae.config.z_dim
        self.token_px = PATCH * spatial

    def size_for(self, image: np.ndarray, longer_side_px: int) -> tuple[int, int]:
        """(height, width) nearest to the picture's shape, with sides that tokens fill.

        Raises:
            OptionError: a side of less than one token.
        """
        if longer_side_px < self.token_px:
            raise OptionError(f"the video's longer side must be {self.token_px} px or more, not {longer_side_px}")
        scale = longer_side_px / max(image.shape[:2])
        height, width = (max(1, round(side * scale / self.token_px)) for side in image.shape[:2])
        return height * self.token_px, width * self.token_px

    def pixels(self, image: np.ndarray, size: tuple[int, int]) -> Tensor:
        """A picture (H, W, 3) uint8, resized, as frames [3, 1, h, w] in [-1, 1]."""
        smaller = size[0] < image.shape[0]
        resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        return to_pixels(resized[None])

    @torch.no_grad()
    def encode(self, frames: np.ndarray | Tensor, padding: Padding = "none") -> Tensor:
        """Frames to normalised latents.

        Args:
            frames: (T, H, W, 3) uint8, or [3, T, H, W] in [-1, 1].
            padding: `"none"`, or `"repeat_last"`: the last frame is repeated until the frames fill a group of four; cut the
                surplus after decoding.

        Returns:
            [C, F, h, w] float32, T = 1 + 4 (F - 1).

        Raises:
            OptionError: a number of frames or a size that does not fit.
        """
        video = to_pixels(frames) if isinstance(frames, np.ndarray) else frames
        missing = (1 - video.shape[1]) % self.stride.time
        if video.shape[1] < 1 or (missing and padding == "none"):
            count, step = video.shape[1], self.stride.time
            below = count - (count - 1) % step
            raise OptionError(
                f"{count} frames do not fit the Wan codec, which takes 1 + {step} k: give {max(1, below)} or "
                f"{max(1, below) + step}, or padding='repeat_last'"
            )
        if missing:
            video = torch.cat([video, video[:, -1:].expand(-1, missing, -1, -1)], dim=1)
        self._check_size(video.shape[-2:])
        video = video[None].to(self.vae.device, self.vae.dtype)
        return self._normalised(self.vae.encode(video).latent_dist.mode()[0].float())

    def encode_portrait(self, portrait: Portrait, size: tuple[int, int] | None = None) -> Tensor:
        """The latent frame [C, 1, h, w] of a portrait, at its own size (or `size`), brought to whole tokens."""
        size = size or self.size_for(portrait.image, max(portrait.image.shape[:2]))
        return self.encode(self.pixels(portrait.image, size))

    def condition(self, known: Tensor, num_frames: int) -> Tensor:
        """What an image-to-video model is told of the video: frames that are given, grey elsewhere, and which is which.

        Args:
            known: [3, k, H, W] in [-1, 1], the first k frames.
            num_frames: of the whole video, 1 + 4 n.

        Returns:
            [4 + C, F, h, w] float32: a mask with a channel for each of a latent frame's video frames (the first frame counting
            four times), then latents.

        Raises:
            OptionError: `num_frames` does not fit, or is less than the frames given.

        Source: Wan, arXiv 2503.20314, section 5.1; as diffusers' `WanImageToVideoPipeline.prepare_latents`.
        """
        count = known.shape[1]
        if count > num_frames:
            raise OptionError(f"{count} frames are given for a video of {num_frames}")
        grey = known.new_zeros(known.shape[0], num_frames - count, *known.shape[2:])
        latents = self.encode(torch.cat([known, grey], dim=1))
        given = torch.zeros(num_frames)
        given[:count] = 1
        given = torch.cat([given[:1].expand(self.stride.time - 1), given]).unflatten(0, (-1, self.stride.time))
        mask = given.T[..., None, None].expand(-1, -1, *latents.shape[2:])
        return torch.cat([mask.to(latents), latents])

    def decode(self, latent_blocks: Iterable[Tensor], portrait: Portrait | None = None) -> Iterator[np.ndarray]:
        """Blocks of latents [C, f, h, w], in order, to blocks of frames (T, H, W, 3) uint8, however they are cut.

        Args:
            latent_blocks: normalised latents.
            portrait: not needed; the latents hold the whole picture.

        Yields:
            One block of frames for each block of latents. Several streams may run at a time, each with its own state.
        """
        for frames in self.decode_pixels(latent_blocks):
            yield to_frames(frames)

    def decode_pixels(self, latent_blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """As `decode`, [3, T, H, W] float32 in [-1, 1]."""
        stream: _Stream | None = None
        for block in latent_blocks:
            stream = stream or _Stream(self.vae, *block.shape[-2:])
            with torch.no_grad():  # not around the yield: the caller may leave the generator unfinished
                latents = self._denormalised(block.float().to(self.vae.device))
                frames = stream.decode(latents.to(self.vae.dtype)[None])[0].float()
            yield frames

    def face_mask(self, num_frames: int, portraits: Sequence[Portrait], size: tuple[int, int]) -> Tensor:
        """Where each speaker's sound acts.

        Args:
            num_frames: latent frames.
            portraits: the speakers, all in the same picture.
            size: (height, width) of the video, px.

        Returns:
            (S, F, h, w) in [0, 1] on the transformer's token grid.
        """
        grid = self.token_grid(size)
        height, width = portraits[0].image.shape[:2]
        masks = face_region_masks([person.face for person in portraits], (height, width), grid)
        return torch.from_numpy(masks.astype(np.float32))[:, None].expand(-1, num_frames, -1, -1)

    def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of tokens of a video of (height, width) px.

        Raises:
            OptionError: sides that tokens do not fill.
        """
        self._check_size(size)
        return size[0] // self.token_px, size[1] // self.token_px

    def _check_size(self, size: Sequence[int]) -> None:
        if size[0] % self.token_px or size[1] % self.token_px:
            raise OptionError(
                f"the sides of a video for the Wan codec are multiples of {self.token_px} px, not {size[1]}x{size[0]}; "
                "see size_for"
            )

    def _normalised(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return (latents - mean) * (1.0 / std)

    def _denormalised(self, latents: Tensor) -> Tensor:
        mean, std = self._statistics(latents)
        return latents / (1.0 / std) + mean  # as diffusers computes it, to the bit

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = (torch.tensor(x).view(-1, 1, 1, 1).to(like) for x in (config.latents_mean, config.latents_std))
        return mean, std


class _Stream:
    """One video being decoded: the state of the causal convolutions, one set for each tile.

    diffusers keeps this state on the autoencoder and clears it with every call; it is handed to the decoder here instead.
    """

    def __init__(self, vae: AutoencoderKLWan, height: int, width: int) -> None:
        self.vae = vae
        self.begun = False
        compression = vae.spatial_compression_ratio
        tile = (vae.tile_sample_min_height // compression, vae.tile_sample_min_width // compression)
        step = (vae.tile_sample_stride_height // compression, vae.tile_sample_stride_width // compression)
        tiled = vae.use_tiling and (height > tile[0] or width > tile[1])
        self.rows = [slice(i, i + tile[0]) for i in range(0, height, step[0])] if tiled else [slice(None)]
        self.columns = [slice(j, j + tile[1]) for j in range(0, width, step[1])] if tiled else [slice(None)]
        num_states = sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())
        self.states: list[list[list[Tensor | None]]] = [[[None] * num_states for _ in self.columns] for _ in self.rows]
        patch = vae.config.patch_size or 1
        self.size = (height * compression // patch, width * compression // patch)
        self.kept = (vae.tile_sample_stride_height // patch, vae.tile_sample_stride_width // patch)
        self.blend = (vae.tile_sample_min_height // patch, vae.tile_sample_min_width // patch)

    def decode(self, latents: Tensor) -> Tensor:
        """The next latent frames [1, C, f, h, w] to frames [1, 3, T, H, W] in [-1, 1]."""
        hook = getattr(self.vae, "_hf_hook", None)  # of accelerate, which brings the weights to where they are needed
        if hook is not None:
            hook.pre_forward(self.vae)
        tiles = [
            [
                self._tile(latents[..., rows, columns], state)
                for columns, state in zip(self.columns, states, strict=True)
            ]
            for rows, states in zip(self.rows, self.states, strict=True)
        ]
        self.begun = True
        frames = tiles[0][0] if len(tiles) == len(tiles[0]) == 1 else self._joined(tiles)
        if self.vae.config.patch_size is not None:
            frames = unpatchify(frames, patch_size=self.vae.config.patch_size)
        return frames.clamp(-1.0, 1.0)

    def _tile(self, latents: Tensor, state: list[Tensor | None]) -> Tensor:
        frames = []
        for index in range(latents.shape[2]):  # all of it by the frame, so that cuts cannot matter
            one = self.vae.post_quant_conv(latents[:, :, index : index + 1])
            first = not self.begun and index == 0
            frames.append(self.vae.decoder(one, feat_cache=state, feat_idx=[0], first_chunk=first))
        return torch.cat(frames, dim=2)

    def _joined(self, tiles: list[list[Tensor]]) -> Tensor:
        """Tiles faded into their upper and left neighbours, as `AutoencoderKLWan.tiled_decode`."""
        rows = []
        for i, row in enumerate(tiles):
            for j, tile in enumerate(row):
                if i > 0:
                    tile = self.vae.blend_v(tiles[i - 1][j], tile, self.blend[0] - self.kept[0])
                if j > 0:
                    self.vae.blend_h(row[j - 1], tile, self.blend[1] - self.kept[1])
            rows.append(torch.cat([tile[..., : self.kept[0], : self.kept[1]] for tile in row], dim=-1))
        return torch.cat(rows, dim=3)[..., : self.size[0], : self.size[1]]


def to_frames(pixels: Tensor) -> np.ndarray:
    """[3, T, H, W] in [-1, 1] to (T, H, W, 3) uint8."""
    return ((pixels + 1) * 127.5).round().byte().movedim(0, -1).cpu().numpy()


def to_pixels(frames: np.ndarray) -> Tensor:
    """(T, H, W, 3) uint8 to [3, T, H, W] in [-1, 1]."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise OptionError(f"frames are (T, H, W, 3) uint8, not {frames.shape} {frames.dtype}")
    return torch.from_numpy(frames).movedim(-1, 0).float() / 127.5 - 1
