"""InfiniteTalk's driver: a video of any length, chunk after chunk, each starting from the end of the one before.

Source: S. Yang et al., arXiv 2508.14033; code MeiGen-AI/InfiniteTalk. The published driver decodes a chunk, takes its last frames,
encodes them again and pins their latents while the next chunk is denoised; each round trip through the codec shifts colours
a little. Here the last *latents* are pinned as they are (`last_latents`), and the chunks' new latents, one after another, are one
stream for a codec that decodes in blocks. `reencoded` makes the published handover where that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.errors import OptionError

_STRIDE = 4  # video frames per latent frame
_SPARE = 3  # mirrored audio frames beyond the end of the last chunk, so that windows find something there


@dataclass(frozen=True)
class TalkChunk:
    """A piece of the video.

    Attributes:
        start, stop: its video frames [start, stop), of a video that may end before `stop`.
        known_frames: frames at its beginning that the chunk before has made; of the first chunk, 1, the reference itself.
        first: whether it is the first one, of which all frames are kept.
    """

    start: int
    stop: int
    known_frames: int
    first: bool

    @property
    def reference_frame(self) -> int:
        """Frame of the source video that conditions the chunk (of a still picture: always the picture)."""
        return self.start

    @property
    def pinned_latents(self) -> int:
        """Latent frames at its beginning that are known."""
        return 1 + (self.known_frames - 1) // _STRIDE

    @property
    def kept_frames(self) -> tuple[int, int]:
        """Which of its frames, counted from its own beginning, are new."""
        return (0 if self.first else self.known_frames, self.stop - self.start)

    @property
    def kept_latents(self) -> tuple[int, int]:
        """Which of its latent frames are new."""
        return (0 if self.first else self.pinned_latents, 1 + (self.stop - self.start - 1) // _STRIDE)


def plan_talk(
    num_audio_frames: int, *, frame_num: int = 81, motion_frames: int = 9, max_frames: int = 1000
) -> list[TalkChunk]:
    """Chunks until the sound, or `max_frames`, is covered.

    Raises:
        OptionError: lengths that are not 1 + 4 k, or a chunk with nothing new.
    """
    if (frame_num - 1) % _STRIDE or (motion_frames - 1) % _STRIDE or not 0 < motion_frames < frame_num:
        raise OptionError(f"a chunk and its motion frames are 1 + 4 k frames, not {frame_num} and {motion_frames}")
    end = min(num_audio_frames, max_frames)
    chunks = [TalkChunk(0, frame_num, 1, first=True)]
    while chunks[-1].stop < end:
        start = chunks[-1].stop - motion_frames
        chunks.append(TalkChunk(start, start + frame_num, motion_frames, first=False))
    return chunks


def extended_audio(num_audio_frames: int, last_frame: int) -> Tensor:
    """Which audio frame is heard at each place, after the end the sound's last frames backwards, (N,).

    Args:
        num_audio_frames: of the sound.
        last_frame: where the last chunk ends.
    """
    missing = last_frame - num_audio_frames + _SPARE if last_frame >= num_audio_frames else 0
    places = torch.arange(num_audio_frames + missing) % (2 * num_audio_frames)  # forwards, backwards, forwards, …
    return torch.where(places < num_audio_frames, places, 2 * num_audio_frames - 1 - places)


def last_latents(latents: Tensor, chunk: TalkChunk, following: TalkChunk) -> Tensor:
    """The latent frames that a chunk hands over, as they are; no codec in between."""
    return latents[:, :, -following.pinned_latents :]


def reencoded(decode: Callable[[Tensor], Tensor], encode: Callable[[Tensor], Tensor]) -> Handover:
    """The published handover: the last frames, decoded, and encoded again as a short video of their own.

    Args:
        decode: latents [B, C, F, H, W] to frames [B, 3, T, H', W'].
        encode: the other way round.
    """

    def handover(latents: Tensor, chunk: TalkChunk, following: TalkChunk) -> Tensor:
        return encode(decode(latents)[:, :, -following.known_frames :])

    return handover


Handover = Callable[[Tensor, TalkChunk, TalkChunk], Tensor]


def generate_talk(
    denoise: Callable[[TalkChunk, Tensor], Tensor],
    reference: Tensor,
    chunks: list[TalkChunk],
    handover: Handover = last_latents,
) -> Iterator[tuple[TalkChunk, Tensor]]:
    """Latents of a video, chunk by chunk.

    Args:
        denoise: a chunk and its known latents to the latents of the whole chunk; pins the known ones before and after every
            step (`sample_euler`'s `pinned`).
        reference: [B, C, 1, H, W] the encoded reference picture.
        chunks: `plan_talk`.
        handover: what the next chunk is told to begin with.

    Yields:
        Chunks with their latents; `kept_latents` are new, `kept_frames` where every chunk is decoded for itself.
    """
    known = reference
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
        latents = denoise(chunk, known)
        yield chunk, latents
        if following is not None:
            known = handover(latents, chunk, following)
