"""At which noise a sample is trained, and how much its error weighs there.

A sample is x = (1 - sigma) * clean + sigma * noise; the network's velocity is noise - clean (arXiv 2210.02747, with Wan's sign).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatar.train.config import LossOptions


def noise_levels(rng: np.random.Generator, frames: int, clean: int, options: LossOptions) -> np.ndarray:
    """Noise levels of a sample's latent frames.

    Args:
        rng: source of chance.
        frames: latent frames, F.
        clean: how many leading ones are given, and get no noise.
        options: of which `timesteps`, `mean`, `std`, `shift` and `chunk_noise` are read.

    Returns:
        (F,) float32 in [0, 1): one level for all that is made, or one for each chunk of `chunk_noise` frames.

    Source: P. Esser et al., arXiv 2403.03206, eq. 19 (logit normal) and 23 (shift); B. Chen et al., "Diffusion Forcing", arXiv
    2407.01392, for levels of their own.
    """
    made = frames - clean
    chunks = -(-made // options.chunk_noise) if options.chunk_noise else 1
    if options.timesteps == "uniform":
        levels = rng.uniform(0.0, 1.0, chunks)
    else:
        levels = 1 / (1 + np.exp(-(options.mean + options.std * rng.standard_normal(chunks))))
    levels = options.shift * levels / (1 + (options.shift - 1) * levels)
    each = np.repeat(levels, options.chunk_noise or made)[:made]
    return np.concatenate([np.zeros(clean), each]).astype(np.float32)


def velocity_weight(sigma: Tensor, options: LossOptions, *, predicts_sample: bool) -> Tensor:
    """What the squared error of the velocity is multiplied by, frame by frame, (B, F); 0 on clean frames.

    Args:
        sigma: (B, F) noise levels.
        options: of which `weighting`, `min_snr_gamma` and `min_sigma` are read.
        predicts_sample: whether the network itself predicts the clean latents: then an error of velocity is that error divided
            by sigma, which `min_sigma` keeps from exploding.
    """
    if options.weighting == "min_snr":
        snr = ((1 - sigma) / sigma.clamp_min(1e-4)) ** 2
        weight = snr.clamp_max(options.min_snr_gamma) * sigma**2
    elif predicts_sample:
        weight = (sigma / options.min_sigma).clamp_max(1.0) ** 2 if options.min_sigma > 0 else torch.ones_like(sigma)
    else:
        weight = torch.ones_like(sigma)
    return weight * (sigma > 0)


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """[B, C, F, H, W] latents at noise levels (B, F)."""
    level = sigma[:, None, :, None, None]
    return (1 - level) * latents + level * noise
