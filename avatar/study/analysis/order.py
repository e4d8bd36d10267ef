"""Does the place in the session matter? Drift of the scores, of the time taken, and pull by the clip before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from avatar.study.analysis.table import rated

if TYPE_CHECKING:
    import pandas as pd

_MIN_CLIPS = 6  # of a rater, for a slope


def order_effects(table: pd.DataFrame) -> pd.DataFrame:
    """Tests over raters, each one's slope being one value.

    Returns:
        Columns scale, effect, raters, value, low, high (95 %), p. Effects: "drift": points from the first place to the last, after
        the clip's and the rater's means are taken out; "contrast": points for each point that the clip before got more; "time"
        (scale ""): seconds an answer, last place against first.
    """
    import pandas as pd

    rows = []
    for scale, part in rated(table).groupby("scale", sort=False):
        left = _centred(part)
        rows.append({"scale": scale, "effect": "drift", **_over_raters(left, "share", "left")})
        before = left.sort_values(["rater", "place"])
        before["before"] = before.groupby("rater")["left"].shift()
        rows.append(
            {"scale": scale, "effect": "contrast", **_over_raters(before.dropna(subset="before"), "before", "left")}
        )
    timed = table[table["kind"] != "trap"].drop_duplicates(["rater", "trial"]).dropna(subset="rt_s")
    if len(timed):
        timed = timed.assign(share=_share(timed))
        rows.append({"scale": "", "effect": "time", **_over_raters(timed, "share", "rt_s")})
    return pd.DataFrame(rows)


def _centred(part: pd.DataFrame) -> pd.DataFrame:
    """Scores without what the clip and the rater are like: means taken out in turn until nothing changes."""
    left = part["score"].astype(float) - part["score"].mean()
    for _ in range(20):
        left = left - left.groupby(part["clip"]).transform("mean")
        left = left - left.groupby(part["rater"]).transform("mean")
    return part.assign(left=left, share=_share(part))


def _share(part: pd.DataFrame) -> pd.Series:
    """0 at the first place, 1 at the last."""
    last = part.groupby("rater")["place"].transform("max").clip(lower=1)
    return part["place"] / last


def _over_raters(part: pd.DataFrame, cause: str, effect: str) -> dict[str, float]:
    slopes = []
    for _, mine in part.groupby("rater"):
        x, y = mine[cause].to_numpy(float), mine[effect].to_numpy(float)
        if len(x) >= _MIN_CLIPS and x.std() > 0:
            slopes.append(float(np.cov(x, y)[0, 1] / x.var(ddof=1)))
    if len(slopes) < 2 or np.std(slopes) == 0:
        return {"raters": len(slopes), **dict.fromkeys(("value", "low", "high", "p"), float("nan"))}
    mean, error = float(np.mean(slopes)), float(stats.sem(slopes))
    reach = float(stats.t.ppf(0.975, len(slopes) - 1)) * error
    p = float(stats.ttest_1samp(slopes, 0.0).pvalue)
    return {"raters": len(slopes), "value": mean, "low": mean - reach, "high": mean + reach, "p": p}
