"""How far the lips are apart, heard in the speech features alone, and latents moved towards it.

The generator knows more (whose face, which feeling, what came before) and follows the voices it was trained on better; a linear
reading of the encoder's features errs elsewhere, and the two together follow real speakers better than either
(docs/embedded-model.md). Articulation read from sound is known as acoustic-to-articulatory inversion (K. Richmond et al.,
"Modelling the uncertainty in recovering articulation from acoustics", Computer Speech & Language 17, 2003).
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class OpeningEstimator(ModelMixin, ConfigMixin):
    """The opening of the lips per video frame, from features and the felt expression; linear in the features.

    Fitted by `train.opening.fit_opening`. Openings are in canonical units, of which the eyes' outer corners are 8.9 apart.

    Args:
        feature_dim: size of a speech feature.
        expression_dim: number of expression weights (the rig's named shapes).
        latent_dim: numbers in a latent frame.
        group_frames: video frames of a latent frame.
        margin_features: features of context on each side of a window.
        share: of the opening that the estimate makes, 0 to 1; the rest is the generator's.
        closed_below, open_above: where generator and estimate both lie below the first, the generator's lips are left alone, so
            that closed lips stay closed; where either lies above the second, `share` holds; between them, a part of it.
    """

    gap: Tensor
    direction: Tensor

    @register_to_config
    def __init__(
        self,
        feature_dim: int = 256,
        expression_dim: int = 41,
        latent_dim: int = 256,
        group_frames: int = 4,
        margin_features: int = 4,
        share: float = 0.6,
        closed_below: float = 0.35,
        open_above: float = 0.6,
    ) -> None:
        super().__init__()
        self.aperture = nn.Linear(feature_dim, 1)
        self.scale = nn.Linear(expression_dim, 1)
        self.rest = nn.Linear(expression_dim, 1)
        self.register_buffer("gap", torch.zeros(latent_dim, group_frames))  # latents to openings
        self.register_buffer("direction", torch.zeros(group_frames, latent_dim))  # what opens with the lips

    def estimate(self, windows: Tensor, expression: Tensor) -> Tensor:
        """The opening that is heard.

        Args:
            windows: (F, M, D) speech features of latent frames, see `alignment.audio_windows`.
            expression: (B, P) weights of the named shapes.

        Returns:
            (B, F, group_frames), 0 or more.
        """
        weights = expression.to(self.scale.weight)
        return (self.scale(weights)[:, None] * self.heard(windows) + self.rest(weights)[:, None]).clamp_min(0.0)

    def heard(self, windows: Tensor) -> Tensor:
        """What the features say by themselves: (F, M, D) to (F, group_frames), in the units of the encoder's training."""
        margin = self.config.margin_features
        own = windows[:, margin : windows.shape[1] - margin].to(self.aperture.weight)
        return self.aperture(own).squeeze(-1).unflatten(1, (self.config.group_frames, -1)).mean(-1)

    def forward(self, latents: Tensor, windows: Tensor, expression: Tensor) -> Tensor:
        """Latents with the lips moved towards what is heard.

        Args:
            latents: [B, C, F, H, W].
            windows, expression: as for `estimate`.

        Returns:
            [B, C, F, H, W].
        """
        numbers = latents.permute(0, 2, 1, 3, 4).flatten(2)
        own = numbers @ self.gap.to(numbers)
        heard = self.estimate(windows, expression).to(own)
        low, high = self.config.closed_below, self.config.open_above
        is_open = ((torch.maximum(own, heard) - low) / (high - low)).clamp(0.0, 1.0)
        moved = self.config.share * is_open * (heard - own)
        numbers = numbers + moved @ self.direction.to(numbers)
        return numbers.unflatten(2, (latents.shape[1], *latents.shape[3:])).permute(0, 2, 1, 3, 4)


OpeningEstimator.__module__ = "avatar"  # the name saved pipelines know it by, so that the module may move
