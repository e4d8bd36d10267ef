"""Label rotary positions (L-RoPE): which of two voices belongs to which video token, by where the token looks.

Every video token is labelled by the region of the first frame (speaker 1, speaker 2, background) that its own
self-attention looks at most; tokens and voices with the same label get neighbouring rotary positions in the audio
attention, others get distant ones. Source: Z. Kong et al., "Let Them Talk" (MultiTalk), arXiv 2505.22647, section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SPEAKER_RANGES = ((0.0, 4.0), (20.0, 24.0))  # query positions of a speaker's tokens
BACKGROUND_POSITION = 12.0
VOICE_POSITIONS = (2.0, 22.0)  # key positions of a speaker's audio tokens
ROTARY_BASE = 10_000.0


def region_scores(query: Tensor, key: Tensor, regions: Tensor) -> Tensor:
    """How much each video token looks at each region of the first latent frame.

    The average of attention weights over a region is attention with the region's mask as value, so the attention map
    itself, gigabytes at full size, is never made.

    Args:
        query: (B, N, heads, d) of the block's self-attention, normalised and rotated.
        key: (B, M, heads, d), likewise, of the first latent frame alone.
        regions: (B, R, M) masks on the token grid of the first frame, 0 or 1.

    Returns:
        (B, R, N), averaged over heads.

    Source: arXiv 2505.22647, section 3.3.
    """
    shares = regions / regions.sum(-1, keepdim=True).clamp_min(1e-8)
    value = shares.mT[:, None].expand(-1, query.shape[2], -1, -1).type_as(query)
    scores = nn.functional.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value)
    return scores.mean(1).mT


def query_positions(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and rotary positions of the video tokens.

    Args:
        scores: (B, 3, N) of speaker 1, speaker 2 and the background.

    Returns:
        Labels (B, N), 0, 1 or 2, and positions (B, N) float32.
    """
    labels = scores.argmax(1)
    scores = scores.float()
    low, high = scores.amin(-1, keepdim=True), scores.amax(-1, keepdim=True)
    spread = (scores - low) / (high - low + 1e-8)
    positions = torch.full_like(spread[:, 0], BACKGROUND_POSITION)
    for speaker, (start, stop) in enumerate(SPEAKER_RANGES):
        positions = torch.where(labels == speaker, spread[:, speaker] * (stop - start) + start, positions)
    return labels, positions


def token_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks of a picture or of its latents on the token grid: (R, H, W) to (R, height, width), 0 or 1, nearest neighbour."""
    return (nn.functional.interpolate(masks[None].float(), (height, width), mode="nearest")[0] > 0).float()


def voice_positions(tokens_per_voice: int, device: torch.device | None = None) -> Tensor:
    """Rotary positions of the audio tokens of both voices, (2 * M,), speaker 1 first."""
    first, second = VOICE_POSITIONS  # computed on the device: nothing is copied to it in the loop
    return (first + (second - first) * torch.arange(2.0, device=device)).repeat_interleave(tokens_per_voice)


def half_masks(height_px: int, width_px: int, margin: float = 0.05) -> Tensor:
    """Masks of two speakers who sit side by side, (2, H, W): the halves of the picture without a margin around each.

    Source: MultiTalk's default where no boxes are given.
    """
    half = width_px // 2
    rows, columns = ((int(margin * size), int((1 - margin) * size)) for size in (height_px, half))
    masks = torch.zeros(2, height_px, width_px)
    for speaker in range(2):
        masks[speaker, slice(*rows), speaker * half + columns[0] : speaker * half + columns[1]] = 1
    return masks


def rotate(states: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions on queries or keys.

    Args:
        states: (B, heads, N, d); channels 2i and 2i + 1 are a pair.
        positions: (B, N), or (N,) for all.

    Returns:
        Like `states`.

    Source: J. Su et al., "RoFormer", arXiv 2104.09864, eq. 34, in one dimension.
    """
    width = states.shape[-1]
    exponents = torch.arange(0, width, 2, device=states.device, dtype=torch.float32) / width
    angles = positions.float()[..., None] * ROTARY_BASE**-exponents
    angles = angles[:, None] if positions.ndim == 2 else angles
    cos, sin = angles.cos(), angles.sin()
    even, odd = states.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).type_as(states)
