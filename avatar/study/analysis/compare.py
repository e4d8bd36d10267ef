"""Raters' means to tests between systems: Friedman over all, Wilcoxon for each pair, Holm over pairs and scales."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from avatar.study.analysis.describe import bootstrap_means, interval

if TYPE_CHECKING:
    import pandas as pd


def rater_means(part: pd.DataFrame, systems: Sequence[str]) -> np.ndarray:
    """(raters, systems) mean scores on one scale, of the raters who saw every system."""
    wide = part.pivot_table("score", "rater", "system", aggfunc="mean").reindex(columns=list(systems))
    return wide.dropna().to_numpy(float)


def friedman(table: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """Whether the systems differ at all, for each scale.

    Returns:
        Columns scale, raters, statistic, p, kendall_w. With two systems the sign test's cousin; p is NaN where nobody differs or
        fewer than three raters saw all systems.
    """
    import pandas as pd

    rows = []
    for scale, part in table.groupby("scale", sort=False):
        means = rater_means(part, systems)
        statistic, p = friedman_test(means)
        weight = statistic / (len(means) * (len(systems) - 1)) if len(means) else float("nan")
        rows.append({"scale": scale, "raters": len(means), "statistic": statistic, "p": p, "kendall_w": weight})
    return pd.DataFrame(rows)


def friedman_test(means: np.ndarray) -> tuple[float, float]:
    """Friedman's chi-square over (raters, systems), corrected for ties, and its p.

    Source: M. Friedman, "The use of ranks …" (1937); W. Conover, "Practical Nonparametric Statistics" (1999), eq. 5.8.
    """
    num_raters, num_systems = means.shape
    if num_raters < 3 or num_systems < 2:
        return float("nan"), float("nan")
    ranks = stats.rankdata(means, axis=1)
    expected = num_raters * num_systems * (num_systems + 1) ** 2 / 4
    spread = (ranks**2).sum() - expected
    if spread <= 0:
        return float("nan"), float("nan")
    statistic = (num_systems - 1) * ((ranks.sum(0) ** 2).sum() - num_raters * expected) / spread
    return float(statistic), float(stats.chi2.sf(statistic, num_systems - 1))


def pairwise(table: pd.DataFrame, systems: Sequence[str], seed: int) -> pd.DataFrame:
    """Every pair of systems on every scale.

    Returns:
        Columns scale, one, other, raters, difference (mean of one minus the other's, of the raters' means), low, high (cluster
        bootstrap over raters and items), p (Wilcoxon), p_holm (over all rows), rank_biserial.
    """
    import pandas as pd

    rows = []
    for scale, part in table.groupby("scale", sort=False):
        draws = bootstrap_means(part, seed)
        means = part.pivot_table("score", "rater", "system", aggfunc="mean")
        for one, other in combinations(systems, 2):
            if one not in means or other not in means:
                continue
            pair = means[[one, other]].dropna()
            gap = (pair[one] - pair[other]).to_numpy(float)
            low, high = interval(draws[one] - draws[other])
            rows.append(
                {
                    "scale": scale,
                    "one": one,
                    "other": other,
                    "raters": len(gap),
                    "difference": gap.mean() if len(gap) else float("nan"),
                    "low": low,
                    "high": high,
                    "p": wilcoxon_p(gap),
                    "rank_biserial": rank_biserial(gap),
                }
            )
    pairs = pd.DataFrame(rows)
    pairs["p_holm"] = holm(pairs["p"].to_numpy(float))
    return pairs


def wilcoxon_p(gaps: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; zeros are dropped, as Wilcoxon did. NaN for no difference at all.

    Exact up to 50 raters where no two differences are equal in size, else by the normal approximation.
    """
    gaps = np.round(gaps[np.isfinite(gaps)], 9)  # means of the same scores added in another order
    gaps = gaps[gaps != 0]
    if not len(gaps):
        return float("nan")
    has_ties = len(np.unique(np.abs(gaps))) < len(gaps)
    method = "approx" if has_ties or len(gaps) > 50 else "exact"
    return float(stats.wilcoxon(gaps, method=method).pvalue)


def rank_biserial(gaps: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation: 1 if every difference is positive, -1 if none is.

    Source: D. Kerby, "The simple difference formula" (2014).
    """
    gaps = np.round(gaps[np.isfinite(gaps)], 9)
    gaps = gaps[gaps != 0]
    if not len(gaps):
        return float("nan")
    ranks = stats.rankdata(np.abs(gaps))
    return float((ranks * np.sign(gaps)).sum() / ranks.sum())


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment; NaN stays NaN and does not count.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted = np.full(len(p_values), np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def least_p(num_raters: int) -> float:
    """The smallest p that the signed-rank test can give for so many raters, if all agree."""
    return float(min(1.0, 2.0 ** (1 - num_raters)))
