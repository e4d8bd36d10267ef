"""Speech features to audio tokens, as each published system does it.

All projectors answer `audio_tokens(features, num_frames, …)` with tokens, and with what stands for silence in that system,
since most silence the sound *before* a projector whose biases make something of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from avatar.dit.published.windows import SLOTS, STRIDE, WINDOW, cut_slots, cut_windows
from avatar.errors import OptionError


@dataclass(frozen=True)
class AudioTokens:
    """What `Conditioning` wants to know of the sound.

    Attributes:
        tokens: [1, S, F, N_a, D_a].
        lengths: [1, S, F], see `Conditioning.audio_lengths`; None where padding is heard.
        null: [1, S', F, N_a, D_a], see `Conditioning.audio_null`; None for zeros.
    """

    tokens: Tensor
    lengths: Tensor | None = None
    null: Tensor | None = None


class WindowProjector(ModelMixin, ConfigMixin):
    """50 Hz features projected one by one, then cut into a window per latent frame (FantasyTalking, EchoMimicV3 preview).

    Args:
        feature_dim, token_dim: sizes of a feature and of a token.
        mask_padding: whether tokens beyond the ends of the sound are left out of the attention.
        frames_from_features: count a video frame for every two features rather than ask how many there are.
        null_features: whether silence is zero features, projected, rather than zero tokens.
    """

    @register_to_config
    def __init__(
        self,
        feature_dim: int = 768,
        token_dim: int = 2048,
        mask_padding: bool = True,
        frames_from_features: bool = False,
        null_features: bool = False,
    ) -> None:
        super().__init__()
        self.proj = nn.Linear(feature_dim, token_dim, bias=False)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, L, feature_dim) to (B, L, token_dim)."""
        return self.norm(self.proj(features))

    def audio_tokens(self, features: Sequence[Tensor], num_frames: int) -> AudioTokens:
        """Tokens of a video.

        Args:
            features: (L, feature_dim) of each speaker.
            num_frames: video frames.
        """
        stacked = torch.stack(list(features))
        frames = stacked.shape[1] // 2 if self.config.frames_from_features else num_frames
        tokens, lengths = cut_windows(self(stacked), frames)
        null = cut_windows(self(torch.zeros_like(stacked)), frames)[0] if self.config.null_features else None
        return AudioTokens(
            tokens[None],
            lengths.expand(1, len(features), -1) if self.config.mask_padding else None,
            None if null is None else null[None],
        )


class SlotProjector(ModelMixin, ConfigMixin):
    """Stacks of encoder layers at the video's rate, a window around each frame (MultiTalk, InfiniteTalk, EchoMimicV3 flash).

    Source: MultiTalk, arXiv 2505.22647, section 3.2.

    Args:
        num_layers, layer_dim: of the features.
        hidden_dim: of the perceptron.
        num_tokens, token_dim: per latent frame and speaker.
    """

    @register_to_config
    def __init__(
        self,
        num_layers: int = 12,
        layer_dim: int = 768,
        hidden_dim: int = 512,
        num_tokens: int = 32,
        token_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj1 = nn.Linear(WINDOW * num_layers * layer_dim, hidden_dim)
        self.proj1_vf = nn.Linear(SLOTS * num_layers * layer_dim, hidden_dim)
        self.proj2 = nn.Linear(hidden_dim, hidden_dim)
        self.proj3 = nn.Linear(hidden_dim, num_tokens * token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, first: Tensor, later: Tensor) -> Tensor:
        """Windows (P, 1, 5, layers, C) and (P, F - 1, 8, layers, C) to tokens (P, F, num_tokens, token_dim)."""
        hidden = torch.cat([self.proj1(first.flatten(2)), self.proj1_vf(later.flatten(2))], dim=1).relu()
        hidden = self.proj3(self.proj2(hidden).relu())
        return self.norm(hidden.unflatten(-1, (self.config.num_tokens, self.config.token_dim)))

    def audio_tokens(self, features: Sequence[Tensor], num_frames: int, start: int = 0) -> AudioTokens:
        """Tokens of a video, or of a stretch of it.

        Args:
            features: (N, layers, C) of each speaker, one feature per video frame.
            num_frames: video frames, 1 + 4 k.
            start: video frame, from the beginning of the sound, that they begin with.
        """
        stacked = torch.stack(list(features))
        # one silent stream: two speakers' positions mean nothing without their voices
        silence = torch.zeros_like(stacked if len(features) > 2 else stacked[:1])
        tokens, null = (self(*cut_slots(x, start, num_frames))[None] for x in (stacked, silence))
        return AudioTokens(tokens, null=null)


class PackProjector(ModelMixin, ConfigMixin):
    """Features at the video's rate, four frames packed into one token (OmniAvatar).

    Source: OmniAvatar, arXiv 2506.18866, section 3.2.

    Args:
        feature_dim: all encoder layers of a video frame, side by side.
        token_dim: of the one token of a latent frame.
    """

    @register_to_config
    def __init__(self, feature_dim: int = 10752, token_dim: int = 32) -> None:
        super().__init__()
        self.proj = nn.Linear(STRIDE * feature_dim, token_dim)
        self.norm_out = nn.LayerNorm(token_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, feature_dim), T = 1 + 4 k, to (B, F, token_dim); the first frame stands for the three before it."""
        padded = torch.cat([features[:, :1].expand(-1, STRIDE - 1, -1), features], dim=1)
        if padded.shape[1] % STRIDE:
            raise OptionError(f"Wan makes 1 + {STRIDE} k frames, not {features.shape[1]}")
        return self.norm_out(self.proj(padded.unflatten(1, (-1, STRIDE)).flatten(2)))

    def audio_tokens(self, features: Sequence[Tensor], num_frames: int, start: int = 0) -> AudioTokens:
        """Tokens of a video, or of a stretch of it.

        Args:
            features: (N, feature_dim) of each speaker, one per video frame; zeros follow where the sound has ended.
            num_frames: video frames, 1 + 4 k.
            start: video frame, from the beginning of the sound, that they begin with.
        """
        stacked = torch.stack(list(features))[:, start : start + num_frames]
        stacked = nn.functional.pad(stacked, (0, 0, 0, num_frames - stacked.shape[1]))
        tokens, null = (self(x)[None, :, :, None] for x in (stacked, torch.zeros_like(stacked)))
        return AudioTokens(tokens, null=null)
