"""The confirmatory test: score ~ system with random raters and items, crossed, and each one's own liking for a system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from avatar.study.analysis.compare import holm

if TYPE_CHECKING:
    import pandas as pd

SPREADS = ("rater", "item", "rater_system", "item_system", "residual")
MIN_LEVELS = 3  # raters and items; fewer have no spread to estimate


@dataclass(frozen=True)
class MixedFit:
    """One scale's model.

    Attributes:
        means: estimated mean by system; covariance: of those, in the same order.
        spreads: standard deviations: rater, item, rater x system, item x system, residual.
    """

    means: dict[str, float]
    covariance: np.ndarray
    spreads: dict[str, float]


def fit_mixed(part: pd.DataFrame, systems: Sequence[str]) -> MixedFit | None:
    """Fits one scale by restricted maximum likelihood; None where there is too little to estimate spreads from.

    Source: D. Barr et al., "Random effects structure for confirmatory hypothesis testing: keep it maximal" (2013): without the
    raters' and items' own preferences for a system the test finds differences that are not there.
    """
    present = [system for system in systems if (part["system"] == system).any()]
    few = min(part["rater"].nunique(), part["item"].nunique()) < MIN_LEVELS
    if few or len(present) < 2 or part["score"].nunique() < 2:
        return None
    raters, items, of = (
        np.unique(part[name].to_numpy(str), return_inverse=True)[1] for name in ("rater", "item", "system")
    )
    levels = (raters, items, raters * len(present) + of, items * len(present) + of)
    fixed, ratios, scale, information = _restricted_likelihood(part["score"].to_numpy(float), of, levels)
    if not scale > 0:
        return None
    means = dict(zip(sorted(present), map(float, fixed), strict=True))
    spreads = dict(zip(SPREADS, (np.sqrt(scale) * np.append(ratios, 1.0)).tolist(), strict=True))
    return MixedFit(means, scale * np.linalg.inv(information), spreads)


def _restricted_likelihood(
    scores: np.ndarray, of: np.ndarray, levels: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """The maximum of the restricted likelihood.

    Args:
        scores: (n,); of: (n,) which mean each belongs to; levels: (n,) for each random effect.

    Returns:
        The means, each effect's spread over the residual's, the residual variance, and the means' information times that.

    Source: D. Bates et al., "Fitting linear mixed-effects models using lme4" (2015), eq. 34 to 41.
    """
    x = np.eye(of.max() + 1)[of]
    blocks = [_dummies(level) for level in levels]
    z, sizes = np.hstack(blocks), [block.shape[1] for block in blocks]
    ztz, ztx, zty, xtx, xty = z.T @ z, z.T @ x, z.T @ scores, x.T @ x, x.T @ scores
    freedom, total = len(scores) - x.shape[1], scores @ scores

    def solved(ratios: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        weights = np.repeat(ratios, sizes)
        lower = np.linalg.cholesky(weights[:, None] * ztz * weights + np.eye(len(weights)))
        parts = solve_triangular(lower, weights[:, None] * np.column_stack([ztx, zty]), lower=True)
        of_x, of_y = parts[:, :-1], parts[:, -1]
        information = xtx - of_x.T @ of_x
        right = xty - of_x.T @ of_y
        means = np.linalg.solve(information, right)
        left = float(total - of_y @ of_y - right @ means)
        logs = 2 * np.log(np.diag(lower)).sum() + np.linalg.slogdet(information)[1]
        return float(logs + freedom * np.log(max(left, 1e-12))), left, means, information

    start = np.full(len(levels), 0.5)
    best = minimize(lambda ratios: solved(ratios)[0], start, method="L-BFGS-B", bounds=[(0.0, 20.0)] * len(levels)).x
    _, left, means, information = solved(best)
    return means, best, left / freedom, information


def _dummies(labels: np.ndarray) -> np.ndarray:
    _, codes = np.unique(labels, return_inverse=True)
    return np.eye(codes.max() + 1)[codes]


def mixed_pairs(table: pd.DataFrame, systems: Sequence[str]) -> tuple[pd.DataFrame, dict[str, MixedFit]]:
    """Every pair of systems on every scale by the model.

    Returns:
        Columns scale, one, other, difference, low, high (95 %), p, p_holm (over all rows); and the fits by scale.
        Empty where no model could be fitted.

    The intervals and p are t-based with the smaller of raters and items, less one, as degrees of freedom: a Wald test that takes
    the estimated spreads for known finds too much in small studies.
    """
    import pandas as pd

    rows, fits = [], {}
    for scale, part in table.groupby("scale", sort=False):
        fit = fit_mixed(part, systems)
        if fit is None:
            continue
        fits[str(scale)] = fit
        freedom = min(part["rater"].nunique(), part["item"].nunique()) - 1
        reach = float(stats.t.ppf(0.975, freedom))
        names = list(fit.means)
        for one, other in combinations([system for system in systems if system in fit.means], 2):
            contrast = np.array([(name == one) - float(name == other) for name in names])
            error = float(np.sqrt(contrast @ fit.covariance @ contrast))
            gap = fit.means[one] - fit.means[other]
            p = float(2 * stats.t.sf(abs(gap) / error, freedom))
            bounds = {"low": gap - reach * error, "high": gap + reach * error}
            rows.append({"scale": scale, "one": one, "other": other, "difference": gap, **bounds, "p": p})
    pairs = pd.DataFrame(rows, columns=["scale", "one", "other", "difference", "low", "high", "p"])
    pairs["p_holm"] = holm(pairs["p"].to_numpy(float))
    return pairs, fits
