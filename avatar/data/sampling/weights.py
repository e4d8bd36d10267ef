"""Sizes of cells to how often their clips are drawn, and how much they count.

Source: Y. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555.
"""

from __future__ import annotations

import numpy as np

from avatar.data.sampling.cells import Cells
from avatar.errors import OptionError

DEFAULT_CAP = 10.0
DEFAULT_THIN = 20


def effective_number(sizes: np.ndarray, beta: float) -> np.ndarray:
    """How many clips a class is worth, (1 - beta^n) / (1 - beta); the paper's eq. 2.

    Args:
        sizes: (C,) numbers of clips, not necessarily whole; less than one counts as one.
        beta: in [0, 1]: 0 makes every class worth one clip, 1 stands for the limit, n.

    Raises:
        OptionError: beta is out of range.
    """
    if not 0 <= beta <= 1:
        raise OptionError(f"beta must lie between 0 and 1, not {beta}")
    n = np.maximum(np.asarray(sizes, np.float64), 1.0)
    if beta == 0:
        return np.ones_like(n)
    if beta == 1:
        return n
    return -np.expm1(n * np.log(beta)) / (1 - beta)


def beta_for(sizes: np.ndarray) -> float:
    """1 - 1 / N with N the median size, at least 2: classes much smaller are fully evened out, larger ones hardly."""
    return 1 - 1 / max(2.0, float(np.median(np.asarray(sizes)[np.asarray(sizes) > 0])))


def smoothed_sizes(cells: Cells, thin: float = DEFAULT_THIN) -> np.ndarray:
    """Sizes (C,) in which a thin cell borrows from its margins.

    A cell of a handful of clips would be weighted as if its size were known; what is better known is how frequent its labels
    are one by one. Below `thin` clips a size moves towards what independent labels would give, the thinner the further, but
    never below the cell's own.
    """
    own = cells.sizes
    trust = np.minimum(own / max(thin, 1e-9), 1.0)
    return np.maximum(own, trust * own + (1 - trust) * cells.independent_sizes())


def class_weights(
    sizes: np.ndarray, beta: float, *, cap: float = DEFAULT_CAP, counts: np.ndarray | None = None
) -> np.ndarray:
    """How often a clip of each cell is drawn, in multiples of once per epoch: proportional to 1 / effective number.

    Args:
        sizes: (C,) numbers the weights follow.
        beta: see `effective_number`.
        cap: no clip is drawn more often than this.
        counts: (C,) numbers of clips over which the mean weight is 1; None for `sizes`.

    Returns:
        (C,) positive and finite, also for sizes of 0 and 1.

    Raises:
        OptionError: beta out of range, or a cap below 1.
    """
    return capped(1 / effective_number(sizes, beta), sizes if counts is None else counts, cap)


def capped(weights: np.ndarray, counts: np.ndarray, cap: float) -> np.ndarray:
    """Weights scaled to a mean of 1 over clips, none above `cap`; what is cut off goes to the others."""
    if not cap >= 1:
        raise OptionError(f"the cap on weights must be 1 or more, not {cap}")
    counts = np.asarray(counts, np.float64)
    weights = np.asarray(weights, np.float64).copy()
    at_cap = np.zeros(len(weights), bool)
    for _ in range(len(weights) + 1):
        left = counts.sum() - cap * counts[at_cap].sum()
        free = (weights * counts)[~at_cap].sum()
        if free > 0:
            weights[~at_cap] *= max(left, 0.0) / free
        weights[at_cap] = cap
        above = weights > cap * (1 + 1e-12)
        if not above.any():
            break
        at_cap |= above
    return weights


def loss_weights(cells: Cells, beta: float, drawn: np.ndarray, *, cap: float = DEFAULT_CAP) -> np.ndarray:
    """What each clip's loss is multiplied by, (N,), so that the expected scale of the loss stays as it was.

    A generator has no class logit: the class-balanced loss is a weight on the denoising loss.

    Args:
        cells: the clips.
        beta: see `effective_number`.
        drawn: (N,) probability of each clip; the mean weight over draws is 1.
        cap: on the weights of cells.
    """
    each = cells.per_clip(class_weights(smoothed_sizes(cells), beta, cap=cap, counts=cells.sizes))
    return (each / float((each * drawn).sum())).astype(np.float32)
