"""The confirmatory test: score ~ system with random raters and items, crossed, and each one's own liking for a system."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from avatar.study.analysis.compare import holm

if TYPE_CHECKING:
    import pandas as pd

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
    """Fits one scale by restricted maximum likelihood; None where there is too little or it does not converge.

    Source: D. Barr et al., "Random effects structure for confirmatory hypothesis testing: keep it maximal" (2013): without the
    raters' and items' own preferences for a system the test finds differences that are not there.
    """
    import statsmodels.formula.api as formulas

    present = [system for system in systems if (part["system"] == system).any()]
    few = min(part["rater"].nunique(), part["item"].nunique()) < MIN_LEVELS
    if few or len(present) < 2 or part["score"].nunique() < 2:
        return None
    data = part[["score", "rater", "item", "system"]].copy()
    data["rater_system"] = data["rater"].astype(str) + "\0" + data["system"]
    data["item_system"] = data["item"].astype(str) + "\0" + data["system"]
    names = ("rater", "item", "rater_system", "item_system")
    terms = {name: f"0 + C({name})" for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of components at their limit, 0: those are answers, not failures
        model = formulas.mixedlm("score ~ 0 + C(system)", data, groups=np.ones(len(data)), vc_formula=terms)
        try:
            result = model.fit(reml=True)
        except np.linalg.LinAlgError:
            return None
    covariance = np.asarray(result.cov_params())[: len(present), : len(present)]
    if not np.isfinite(covariance).all() or (np.diag(covariance) <= 0).any():
        return None
    order = sorted(present)
    means = dict(zip(order, map(float, result.fe_params), strict=True))
    spreads = dict(zip(model.exog_vc.names, np.sqrt(np.maximum(result.vcomp, 0)).tolist(), strict=True))
    spreads["residual"] = float(np.sqrt(result.scale))
    return MixedFit(means, covariance, spreads)


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
