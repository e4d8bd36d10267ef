"""How far raters agree: Krippendorff's alpha for ordinal scores, ICC(2,k) for their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avatar.study.analysis.screening import repeat_gaps
from avatar.study.analysis.table import rated

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Icc:
    """Reliability of one rater's score, and of the mean over the k raters of a clip."""

    single: float
    mean: float
    k: float


def krippendorff_alpha(scores: np.ndarray) -> float:
    """Krippendorff's alpha with the ordinal metric.

    Args:
        scores: (raters, clips), NaN where a rater did not see a clip.

    Returns:
        1 for full agreement, 0 for chance, below for less; NaN where no clip has two scores or all scores are the same.

    Source: K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section D.
    """
    values = np.unique(scores[np.isfinite(scores)])
    counts = np.stack([(scores == value).sum(0) for value in values], axis=1).astype(float)  # (clips, values)
    raters = counts.sum(1)
    counts, raters = counts[raters > 1], raters[raters > 1]
    if len(values) < 2 or not len(counts):
        return float("nan")
    pairs = counts / (raters - 1)[:, None]
    coincidences = pairs.T @ counts - np.diag(pairs.sum(0))
    marginals = coincidences.sum(0)
    below = np.cumsum(marginals)
    distance = np.abs((below - marginals / 2)[:, None] - (below - marginals / 2)[None, :]) ** 2
    expected = np.outer(marginals, marginals) - np.diag(marginals)
    return float(1 - (marginals.sum() - 1) * (coincidences * distance).sum() / (expected * distance).sum())


def icc2(scores: np.ndarray) -> Icc:
    """ICC(2,1) and ICC(2,k), absolute agreement, also where raters saw different clips.

    Args:
        scores: (raters, clips), NaN where a rater did not see a clip.

    Returns:
        k is the harmonic mean of raters a clip. NaN where there is too little.

    Source: P. Shrout & J. Fleiss, "Intraclass correlations" (1979), case 2; the components by C. Henderson's method 3 (1953), which
    is the analysis of variance where every rater saw every clip.
    """
    raters, clips = np.nonzero(np.isfinite(scores))
    if not len(raters):
        return Icc(*[float("nan")] * 3)
    values = scores[raters, clips]
    of_rater, of_clip = _dummies(raters), _dummies(clips)
    num_raters, num_clips, num = of_rater.shape[1], of_clip.shape[1], len(values)
    freedom = num - num_raters - num_clips + 1
    if min(num_raters, num_clips) < 2 or freedom < 1 or num in (num_raters, num_clips):
        return Icc(*[float("nan")] * 3)
    left = _left_over(np.hstack([of_rater, of_clip]), values)
    error = left / freedom
    by_clip = (_left_over(of_rater, values) - left - (num_clips - 1) * error) / (num - num_raters)
    by_rater = (_left_over(of_clip, values) - left - (num_raters - 1) * error) / (num - num_clips)
    k = float(num_clips / (1 / of_clip.sum(0)).sum())
    below = by_clip + by_rater + error, by_clip + (by_rater + error) / k
    single, mean = (float(by_clip / part) if part > 0 else float("nan") for part in below)
    return Icc(single, mean, k)


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """For each scale.

    Returns:
        Columns scale, alpha, icc_single, icc_mean, k, repeats (answers), repeat_exact (share of the same score), repeat_gap (mean
        absolute difference).
    """
    import pandas as pd

    gaps = repeat_gaps(table)
    rows = []
    for scale, part in rated(table).groupby("scale", sort=False):
        scores = part.pivot_table("score", "rater", "clip", aggfunc="mean").to_numpy(float)
        icc, again = icc2(scores), gaps[gaps["scale"] == scale]["gap"]
        rows.append(
            {
                "scale": scale,
                "alpha": krippendorff_alpha(scores),
                "icc_single": icc.single,
                "icc_mean": icc.mean,
                "k": icc.k,
                "repeats": len(again),
                "repeat_exact": float((again == 0).mean()) if len(again) else float("nan"),
                "repeat_gap": float(again.mean()) if len(again) else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def _dummies(labels: np.ndarray) -> np.ndarray:
    _, codes = np.unique(labels, return_inverse=True)
    return np.eye(codes.max() + 1)[codes]


def _left_over(design: np.ndarray, values: np.ndarray) -> float:
    """The sum of squares that a least-squares fit leaves."""
    gram = design.T @ design
    fitted = design @ (np.linalg.pinv(gram) @ (design.T @ values))
    return float(((values - fitted) ** 2).sum())
