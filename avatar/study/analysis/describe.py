"""Scores to means, spreads and intervals, for each system, scale and group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

NUM_BOOTSTRAP = 2000
THIN_RATERS, THIN_ITEMS = 5, 3  # a group with fewer is shown and marked
_LEVEL = 0.95


def describe(table: pd.DataFrame, seed: int, num_bootstrap: int = NUM_BOOTSTRAP) -> pd.DataFrame:
    """Each system on each scale.

    Args:
        table: rated clips, see `ratings_table`.
        seed: of the bootstrap.
        num_bootstrap: how many samples are drawn.

    Returns:
        Columns scale, system, n, raters, items, mean, sd, sd_raters (of the raters' means), low, high: 95 % interval by the cluster
        bootstrap over raters and items.
    """
    import pandas as pd

    rows = []
    for scale, part in table.groupby("scale", sort=False):
        means = bootstrap_means(part, seed, num_bootstrap)
        for system, scores in part.groupby("system", sort=False):
            low, high = interval(means[str(system)])
            of_raters = scores.groupby("rater")["score"].mean()
            rows.append(
                {
                    "scale": scale,
                    "system": system,
                    "n": len(scores),
                    "raters": scores["rater"].nunique(),
                    "items": scores["item"].nunique(),
                    "mean": scores["score"].mean(),
                    "sd": scores["score"].std(ddof=1),
                    "sd_raters": of_raters.std(ddof=1),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def bootstrap_means(part: pd.DataFrame, seed: int, num_bootstrap: int = NUM_BOOTSTRAP) -> dict[str, np.ndarray]:
    """Means of each system when raters and items are both drawn anew, with replacement.

    Args:
        part: rated clips on one scale.
        seed, num_bootstrap: as for `describe`.

    Returns:
        (num_bootstrap,) by system; the same draws for all, so that their differences are paired. NaN where a draw has none.

    Source: P. McCullagh, "Resampling and exchangeable arrays" (2000); A. Owen, "The pigeonhole bootstrap" (2007), which shows
    that the intervals are on the wide side.
    """
    raters, rater_of = np.unique(part["rater"].to_numpy(str), return_inverse=True)
    items, item_of = np.unique(part["item"].to_numpy(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    rater_weights = rng.multinomial(len(raters), np.full(len(raters), 1 / len(raters)), num_bootstrap).astype(float)
    item_weights = rng.multinomial(len(items), np.full(len(items), 1 / len(items)), num_bootstrap).astype(float)
    means = {}
    for system in part["system"].unique():
        mine = (part["system"] == system).to_numpy()
        total, count = np.zeros((2, len(raters), len(items)))
        np.add.at(total, (rater_of[mine], item_of[mine]), part["score"].to_numpy(float)[mine])
        np.add.at(count, (rater_of[mine], item_of[mine]), 1.0)
        above = ((rater_weights @ total) * item_weights).sum(1)
        below = ((rater_weights @ count) * item_weights).sum(1)
        means[str(system)] = np.divide(above, below, out=np.full(num_bootstrap, np.nan), where=below > 0)
    return means


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap values; NaN where there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def break_down(table: pd.DataFrame, column: str, seed: int, num_bootstrap: int = 500) -> pd.DataFrame:
    """The same for each value of a column: an item's language or group, or a rater's culture.

    Returns:
        As `describe`, with `group` (the column), `value`, and `thin`: fewer than 5 raters or 3 items.
    """
    import pandas as pd

    parts = []
    for value, part in table[table[column].fillna("") != ""].groupby(column):
        described = describe(part, seed, num_bootstrap)
        described.insert(0, "value", value)
        described.insert(0, "group", column)
        parts.append(described)
    if not parts:
        return pd.DataFrame()
    whole = pd.concat(parts, ignore_index=True)
    whole["thin"] = (whole["raters"] < THIN_RATERS) | (whole["items"] < THIN_ITEMS)
    return whole


def gaps(breakdown: pd.DataFrame) -> pd.DataFrame:
    """For each scale and system the largest difference between the values of a group; thin ones are left out.

    Returns:
        Columns group, scale, system, gap, best, worst; empty where no two values are thick enough.
    """
    import pandas as pd

    rows = []
    thick = breakdown[~breakdown["thin"]] if len(breakdown) else breakdown
    for keys, part in thick.groupby(["group", "scale", "system"], sort=False) if len(thick) else ():
        if len(part) < 2:
            continue
        best, worst = part.loc[part["mean"].idxmax()], part.loc[part["mean"].idxmin()]
        names = dict(zip(("group", "scale", "system"), keys, strict=True))
        rows.append({**names, "gap": best["mean"] - worst["mean"], "best": best["value"], "worst": worst["value"]})
    return pd.DataFrame(rows)
