"""Which audio tokens a latent frame hears, as the published systems count them: windows at 50 Hz, slots at the video's rate.

Sources: FantasyTalking, arXiv 2504.04842, section 3.2; MultiTalk, arXiv 2505.22647, section 3.2; the arithmetic, with its
roundings, was pinned down with golden values (`tests/golden`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar.errors import OptionError

STRIDE = 4  # video frames per latent frame of Wan's VAE, the first one alone
EXPAND = 4  # tokens that every 50 Hz window is wider on each side
WINDOW = 5  # video frames that one frame's window spans in the slot scheme
SLOTS = 8  # frame-and-slot pairs that a latent frame after the first keeps: 3 + 1 + 1 + 3


def num_latent_frames(num_frames: int) -> int:
    """Latent frames of `num_frames` video frames.

    Raises:
        OptionError: they are not 1 + 4 k.
    """
    if num_frames < 1 or (num_frames - 1) % STRIDE:
        raise OptionError(f"Wan makes 1 + {STRIDE} k frames, not {num_frames}")
    return (num_frames - 1) // STRIDE + 1


def window_ranges(num_tokens: int, num_frames: int) -> list[tuple[int, int]]:
    """First and last token, both included, of each latent frame's window; negative or too large where it hangs over."""
    per_frame = num_tokens / num_frames
    half = int(STRIDE * per_frame / 2)
    starts = [
        int((per_frame * (STRIDE * (i - 1) + 1) + per_frame * (STRIDE * i + 1)) / 2) - 1 - half
        for i in range(1, max(2, (num_frames - 1) // STRIDE + 1))
    ]
    ranges = [(-(2 * half - starts[0]), starts[0])] + [(start, start + 2 * half) for start in starts]
    frames = (num_frames - 1) // STRIDE + 1
    return [(first - EXPAND, last + EXPAND) for first, last in ranges[:frames]]


def cut_windows(tokens: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """A window of tokens per latent frame, filled up with zeros at its end.

    Args:
        tokens: (B, L, D) at 50 Hz, of the whole video.
        num_frames: video frames they belong to.

    Returns:
        (B, F, M, D), and how many tokens of each window are real, (F,).
    """
    count = tokens.shape[1]
    ranges = window_ranges(count, num_frames)
    width = ranges[0][1] - ranges[0][0] + 1
    windows = tokens.new_zeros(tokens.shape[0], len(ranges), width, tokens.shape[2])
    lengths = []
    for frame, (first, last) in enumerate(ranges):
        heard = tokens[:, max(first, 0) : min(last, count - 1) + 1]
        windows[:, frame, : heard.shape[1]] = heard
        lengths.append(heard.shape[1])
    return windows, torch.tensor(lengths, device=tokens.device)


def slot_indices(num_features: int, start: int, num_frames: int) -> Tensor:
    """Features in the five-frame window around each video frame, (num_frames, 5), clamped to the sound."""
    around = torch.arange(num_frames)[:, None] + torch.arange(WINDOW) - WINDOW // 2 + start
    return around.clamp(0, num_features - 1)


def cut_slots(features: Tensor, start: int, num_frames: int) -> tuple[Tensor, Tensor]:
    """What the first latent frame hears, and what every later one does.

    Of four video frames that make a latent frame, the first gives the earlier half of its window, the last the later half,
    the others their centre.

    Args:
        features: (P, N, layers, C), one per video frame and speaker.
        start: feature of the first video frame.
        num_frames: video frames, 1 + 4 k.

    Returns:
        (P, 1, 5, layers, C) and (P, F - 1, 8, layers, C).
    """
    num_latent_frames(num_frames)
    windows = features[:, slot_indices(features.shape[1], start, num_frames).to(features.device)]
    first, later = windows[:, :1], windows[:, 1:].unflatten(1, (-1, STRIDE))
    middle = WINDOW // 2
    kept = [
        later[:, :, 0, : middle + 1],
        later[:, :, 1:-1, middle],
        later[:, :, -1, middle:],
    ]
    return first, torch.cat(kept, dim=2)
