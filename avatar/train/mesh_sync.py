"""What the sync scorer says of the lips that a network has just predicted, as a part of its loss."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.latent import LATENT_CHANNELS, LATENT_GRID, GeometryLatent
from avatar.data.sync.lag_curve import MAX_OFFSET_FRAMES
from avatar.data.sync.lips import LIP_NUMBERS, lip_numbers
from avatar.data.sync.model import SyncModel, sync_loss
from avatar.errors import OptionError, WeightsError

_WINDOW_FRAMES = 10
MIN_LATENT_FRAMES = -(-(2 * MAX_OFFSET_FRAMES + _WINDOW_FRAMES + 1) // GROUP_FRAMES)


class SyncTerm(nn.Module):
    """Predicted latents and the windows of speech features they belong to, to the sync model's loss.

    Args:
        margin_features: of the windows.
        model: None for the one that ships.
    """

    matrix: Tensor

    def __init__(self, margin_features: int, model: SyncModel | None = None) -> None:
        super().__init__()
        self.model = (model or SyncModel.load()).requires_grad_(False).eval()
        self._margin = margin_features
        self.register_buffer("matrix", _lip_matrix().clone(), persistent=False)

    def forward(self, latents: Tensor, windows: Tensor) -> Tensor:
        """(B,) the sync scorer's loss of each clip, whose gradients reach the latents.

        Args:
            latents: [B, 16, F, 4, 4] clean ones, as predicted.
            windows: (B, F, M, D) speech features.

        Raises:
            OptionError: too few latent frames to tell an offset, or features of another encoder.
        """
        if latents.shape[2] < MIN_LATENT_FRAMES:
            raise OptionError(
                f"loss.sync_weight needs data.latent_frames of {MIN_LATENT_FRAMES} or more, not {latents.shape[2]}"
            )
        inner = windows[
            :, :, self._margin : windows.shape[2] - self._margin
        ]  # each frame's own, two for every video frame
        features = inner.unflatten(2, (GROUP_FRAMES, -1)).flatten(3).flatten(1, 2)
        if features.shape[-1] != self.model.config.sound_dim:
            raise OptionError(
                f"loss.sync_weight reads features of {self.model.config.sound_dim // 2} numbers, the shipped speech encoder's, not "
                f"{features.shape[-1] // 2}"
            )
        lips = (latents.permute(0, 2, 1, 3, 4).flatten(2) @ self.matrix).unflatten(2, (GROUP_FRAMES, -1)).flatten(1, 2)
        return sync_loss(self.model, lips, features, window_frames=_WINDOW_FRAMES, per_clip=True)

    def can_judge(self, latents: Tensor, windows: Tensor) -> bool:
        """Whether `forward` would not refuse them."""
        return latents.shape[2] >= MIN_LATENT_FRAMES and 2 * windows.shape[-1] == self.model.config.sound_dim


@cache
def validation_sync(margin_features: int, device: torch.device) -> SyncTerm | None:
    """The shipped scorer for figures of validation; None where it belongs to another speech encoder than the shipped one."""
    try:
        return SyncTerm(margin_features).to(device)
    except WeightsError:
        return None


@cache
def _lip_matrix() -> Tensor:
    """(256, 4 * 12): a latent frame to the lip numbers of its four video frames."""
    size = LATENT_CHANNELS * LATENT_GRID[0] * LATENT_GRID[1]
    probe = torch.eye(size).unflatten(1, (LATENT_CHANNELS, *LATENT_GRID)).permute(1, 0, 2, 3).contiguous()
    expression, _ = GeometryLatent().decode_groups(probe)  # (size, 4, 478, 3)
    return lip_numbers(torch.from_numpy(expression)).reshape(size, GROUP_FRAMES * len(LIP_NUMBERS))
