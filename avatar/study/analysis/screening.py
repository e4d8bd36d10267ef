"""Whose answers do not count: traps that were missed, answers that follow nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from avatar.study.analysis.table import rated

if TYPE_CHECKING:
    import pandas as pd

FAILED_TRAP_SCORE = 4  # on LS: "good" or better for a muted clip or lips 400 ms early
FAILED_TRAPS = 2  # so many exclude a rater; fewer than that many traps exclude nobody
P913_CORRELATION = 0.75  # shown; it was made for compression, where raters agree far more than about faces
_LEVEL = 0.01  # how sure we are that a rater follows the others less than half as well as the median rater
_MIN_SPREAD = 0.2  # of all a rater's scores; less is the same answer to everything
_MIN_REPEAT_GAP = 2.0  # mean difference between two answers to one clip
_MIN_REPEATS = 6  # scores given twice; fewer differ so much by chance
_WEAK_REPEAT_GAP = 1.25  # a sign, not a proof; counts beside answers that follow nobody
_WEAK_LEVEL = 0.05  # not even so surely above no correlation at all


def screen(table: pd.DataFrame) -> pd.DataFrame:
    """Looks at each rater.

    Args:
        table: everything, see `ratings_table`.

    Returns:
        Columns rater, answers, traps, traps_failed, correlation (with the mean of the others, each scale centred), spread,
        repeat_gap (mean absolute difference on hidden repeats), below_p913, reasons ("" for those who stay).

    A rater leaves for two missed traps, for a correlation surely below half the median rater's, for one that is below half
    and may be chance beside a missed trap or repeats that differ by 1.25 points on average, for the same answer to
    everything, or for repeats (six scores or more) that differ by two points on average. The fixed threshold of ITU-T P.913,
    0.75, is shown but not used: on talking faces attentive raters do not reach it.
    """
    import pandas as pd

    correlations, counts = follows_others(rated(table))
    known = [value for value in correlations.values() if np.isfinite(value)]
    typical = float(np.median(known)) if known else float("nan")
    repeats = repeat_gaps(table)
    rows = []
    for rater, part in table.groupby("rater"):
        traps = part[(part["kind"] == "trap") & (part["scale"] == "LS")]
        failed = int((traps["score"] >= FAILED_TRAP_SCORE).sum())
        spread = float(rated(part)["score"].std(ddof=0))
        follows = correlations.get(str(rater), float("nan"))
        gaps = repeats[repeats["rater"] == rater]["gap"]
        gap = float(gaps.mean()) if len(gaps) else float("nan")
        reasons = []
        if failed >= FAILED_TRAPS:
            reasons.append(f"{failed} of {len(traps)} traps missed")
        if _is_apart(follows, typical, counts.get(str(rater), 0)):
            reasons.append(f"follows the others at {follows:.2f}, the median rater at {typical:.2f}")
        elif _may_be_chance(follows, typical, counts.get(str(rater), 0)) and (failed or gap >= _WEAK_REPEAT_GAP):
            beside = f"{failed} of {len(traps)} traps missed" if failed else f"repeats differ by {gap:.1f} points"
            reasons.append(f"follows the others at {follows:.2f}, which may be chance, and {beside}")
        if spread < _MIN_SPREAD:
            reasons.append("gave the same answer to everything")
        if gap >= _MIN_REPEAT_GAP and len(gaps) >= _MIN_REPEATS:
            reasons.append(f"repeats differ by {gap:.1f} points")
        rows.append(
            {
                "rater": rater,
                "answers": int(part["trial"].nunique()),
                "traps": len(traps),
                "traps_failed": failed,
                "correlation": follows,
                "spread": spread,
                "repeat_gap": gap,
                "below_p913": bool(follows < P913_CORRELATION),
                "reasons": "; ".join(reasons),
            }
        )
    return pd.DataFrame(rows)


def follows_others(table: pd.DataFrame) -> tuple[dict[str, float], dict[str, int]]:
    """Each rater's correlation with the mean of the others over all clips and scales, each scale centred for each rater.

    Returns:
        Correlations, and the numbers of independent scores that they are worth, by rater.
    """
    wide = table.pivot_table("score", "rater", ["scale", "clip"], aggfunc="mean")
    scores = wide.to_numpy(float).copy()
    scales = wide.columns.get_level_values("scale")
    for scale in set(scales):
        of_scale = np.asarray(scales == scale)
        scores[:, of_scale] -= np.nanmean(scores[:, of_scale], axis=1, keepdims=True)
    known = np.isfinite(scores)
    total, count = np.where(known, scores, 0).sum(0), known.sum(0)
    correlations, counts = {}, {}
    for index, rater in enumerate(wide.index):
        shared = known[index] & (count > 1)
        mine = scores[index, shared]
        others = (total[shared] - mine) / (count[shared] - 1)
        # a clip's scores on several scales tell less than as many clips, and more than one
        clips, of_scales = ({label[place] for label in wide.columns[shared]} for place in (1, 0))
        counts[str(rater)] = int(len(clips) * np.sqrt(len(of_scales)))
        varies = len(mine) > 2 and mine.std() > 0 and others.std() > 0
        correlations[str(rater)] = float(np.corrcoef(mine, others)[0, 1]) if varies else float("nan")
    return correlations, counts


def repeat_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Hidden repeats beside the first answers to the same clips.

    Returns:
        Columns rater, scale, first, second, gap (absolute); a row for each repeat and scale.
    """
    again = table[table["kind"] == "repeat"][["rater", "scale", "repeats", "score"]]
    first = rated(table)[["rater", "scale", "clip", "score"]]
    both = again.merge(first, left_on=["rater", "scale", "repeats"], right_on=["rater", "scale", "clip"])
    both = both.rename(columns={"score_x": "second", "score_y": "first"})
    both["gap"] = (both["second"] - both["first"]).abs()
    return both[["rater", "scale", "first", "second", "gap"]]


def _is_apart(correlation: float, typical: float, num_scores: int) -> bool:
    """Whether a correlation is surely below half the typical one (Fisher's z); never where there is little to follow."""
    if not np.isfinite(correlation) or not np.isfinite(typical) or typical <= 0 or num_scores < 6:
        return False
    reach = stats.norm.ppf(1 - _LEVEL) / np.sqrt(num_scores - 3)
    is_below = bool(np.arctanh(min(correlation, 0.999)) + reach < np.arctanh(min(typical, 0.999)))
    return is_below and correlation < typical / 2


def _may_be_chance(correlation: float, typical: float, num_scores: int) -> bool:
    """Whether a correlation is below half the typical one and not surely above zero (Fisher's z)."""
    if not np.isfinite(correlation) or not np.isfinite(typical) or num_scores < 6:
        return False
    reach = stats.norm.ppf(1 - _WEAK_LEVEL) / np.sqrt(num_scores - 3)
    return correlation < typical / 2 and bool(np.arctanh(min(correlation, 0.999)) < reach)
