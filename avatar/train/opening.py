"""Fits the opening estimator to the generator's training data: least squares, in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from avatar.audio.alignment import audio_windows
from avatar.audio.opening import OpeningEstimator
from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.rig import default_rig
from avatar.face_mesh import INNER_LIP_PAIRS
from avatar.train.generator import MARGIN_FEATURES, LipGap
from avatar.train.motion_cache import MotionItem

_RIDGE = 1e-3  # of a regressor's sum of squares
_RIDGE_OF_ALL = 1e-6  # of the mean one: a shape that no item shows has none of its own


@torch.no_grad()
def fit_opening(items: Sequence[MotionItem], weight: Tensor, bias: Tensor) -> OpeningEstimator:
    """The encoder's own reading of the aperture, scaled by what the face expresses to the opening that the lips then had.

    opening = (a0 + a x) heard + b0 + b x for expression weights x, by ridge regression; and the change of latents to be
    expected with a change of the opening, by linear regression within each item.

    Args:
        items: training cache.
        weight: (D,) of the encoder's head for the aperture, the last of `encoder.SpeechTeacher.curves`.
        bias: () of that head.
    """
    estimator = OpeningEstimator(len(weight), len(items[0].expression), margin_features=MARGIN_FEATURES)
    latent = GeometryLatent()
    estimator.gap.copy_(LipGap(latent).matrix.unflatten(1, (GROUP_FRAMES, -1))[:, :, len(INNER_LIP_PAIRS) // 2])
    estimator.aperture.weight.copy_(weight[None])
    estimator.aperture.bias.fill_(bias)
    size = 2 * (len(items[0].expression) + 1)
    normal, right = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    changes = []
    for item, numbers in zip(items, _latents(items, latent), strict=True):
        opening = numbers @ estimator.gap
        heard = _heard(estimator, item, len(numbers)).flatten().double()[:, None]
        felt = torch.from_numpy(np.append(item.expression, 1.0)).double()
        regressors = torch.cat([heard * felt, felt.expand(len(heard), -1)], dim=1)
        normal += regressors.T @ regressors
        right += regressors.T @ opening.flatten().double()
        changes.append(torch.cat([opening - opening.mean(0), numbers - numbers.mean(0)], dim=1))
    size_of_each = normal.diagonal()
    solved = torch.linalg.solve(normal + torch.diag(_RIDGE * size_of_each + _RIDGE_OF_ALL * size_of_each.mean()), right)
    for layer, part in zip((estimator.scale, estimator.rest), solved.float().chunk(2), strict=True):
        layer.weight.copy_(part[None, :-1])
        layer.bias.fill_(part[-1])
    opening, numbers = torch.cat(changes).double().split([GROUP_FRAMES, len(estimator.gap)], dim=1)
    estimator.direction.copy_(torch.linalg.lstsq(opening, numbers).solution)
    return estimator.eval()


def _latents(items: Sequence[MotionItem], latent: GeometryLatent) -> Iterator[Tensor]:
    """Each item's face, its head held still, as latent numbers (F, 256)."""
    matrix = latent.rig_matrix(default_rig())
    for item in items:
        still = np.zeros((len(item.weights), 3), np.float32)
        cells = latent.encode_rig(item.weights.astype(np.float32), still, still, still[:, :2], matrix)
        yield cells.permute(1, 0, 2, 3).flatten(1)


def _heard(estimator: OpeningEstimator, item: MotionItem, frames: int) -> Tensor:
    """What the head reads, per video frame of `frames` latent frames."""
    windows = audio_windows(
        torch.from_numpy(item.features.astype(np.float32)), 0, frames,
        temporal_stride=GROUP_FRAMES, margin_features=MARGIN_FEATURES,
    )  # fmt: skip
    return estimator.heard(windows)
