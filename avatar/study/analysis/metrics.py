"""Automatic metrics beside human means: does a metric follow opinion?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from avatar.errors import InputError
from avatar.study.formats import Key

if TYPE_CHECKING:
    import pandas as pd

MIN_ITEMS = 8  # drawing anew from fewer gives intervals that are too short
_NUM_BOOTSTRAP = 1000


def read_metrics(path: str | Path, key: Key) -> pd.DataFrame:
    """Metrics of clips or of whole systems.

    Args:
        path: a CSV table with the column system, a column item where each clip has its own value, and a column for each metric.
        key: whose systems and items they are.

    Raises:
        InputError: it cannot be read, lacks columns, or names systems or items that the study does not have.
    """
    import pandas as pd

    try:
        metrics = pd.read_csv(path, dtype={"system": str, "item": str})
    except (OSError, UnicodeError, ValueError) as err:
        raise InputError(f"{path} is not a CSV table that can be read: {err}") from err
    if "system" not in metrics:
        raise InputError(
            f"{path} has the columns {', '.join(metrics.columns)}; it needs system, perhaps item, and metrics"
        )
    for column, known in (("system", key.systems), ("item", key.items)):
        unknown = sorted(set(metrics[column]) - set(known)) if column in metrics else []
        if unknown:
            raise InputError(
                f"{path} names the {column} {', '.join(map(str, unknown))}; the study has {', '.join(known)}"
            )
    if not list(_names(metrics)):
        raise InputError(f"{path} has no column of numbers beside system and item")
    return metrics


def _names(metrics: pd.DataFrame) -> list[str]:
    return [name for name in metrics.select_dtypes("number").columns if name not in ("system", "item")]


def correlations(table: pd.DataFrame, metrics: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Spearman and Pearson between human means and each metric.

    Args:
        table: rated clips.
        metrics: see `read_metrics`.
        seed: of the bootstrap.

    Returns:
        Columns scale, metric, level, points, spearman, low, high (95 %, bootstrap over items), p (of spearman; NaN where points are
        not independent of one another), pearson. Level "clip": over all clips, "within item": both centred for each item, so
        that only the systems' differences are left; "system": over the systems' means.
    """
    import pandas as pd

    rows = []
    has_items = "item" in metrics
    on = ["system", "item"] if has_items else ["system"]
    values = metrics.groupby(on)[_names(metrics)].mean()
    for scale, part in table.groupby("scale", sort=False):
        human = part.groupby(on)["score"].mean()
        for name in values:
            both = pd.concat([human, values[name]], axis=1, keys=["human", "metric"]).dropna().reset_index()
            what = {"scale": scale, "metric": name}
            if has_items:
                rows.append({**what, "level": "clip", **_figures(both, seed)})
                inside = both[["human", "metric"]] - both.groupby("item")[["human", "metric"]].transform("mean")
                rows.append({**what, "level": "within item", **_figures(inside.assign(item=both["item"]), seed)})
            means = both.groupby("system")[["human", "metric"]].mean()
            rows.append({**what, "level": "system", **_figures(means, seed)})
    return pd.DataFrame(rows)


def _figures(both: pd.DataFrame, seed: int) -> dict[str, float]:
    human, metric = both["human"].to_numpy(float), both["metric"].to_numpy(float)
    nothing = dict.fromkeys(("spearman", "low", "high", "p", "pearson"), float("nan"))
    if len(both) < 3 or np.ptp(human) == 0 or np.ptp(metric) == 0:
        return {"points": len(both), **nothing}
    spearman = stats.spearmanr(human, metric)
    low = high = float("nan")
    if "item" in both and both["item"].nunique() >= MIN_ITEMS:
        low, high = _interval(both, seed)
    p = float(spearman.pvalue) if "item" not in both else float("nan")
    pearson = float(np.corrcoef(human, metric)[0, 1])
    return {
        "points": len(both),
        "spearman": float(spearman.statistic),
        "low": low,
        "high": high,
        "p": p,
        "pearson": pearson,
    }


def _interval(both: pd.DataFrame, seed: int) -> tuple[float, float]:
    """Over items drawn anew, since the clips of one item have much in common."""
    groups = [part[["human", "metric"]].to_numpy(float) for _, part in both.groupby("item")]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(_NUM_BOOTSTRAP):
        drawn = np.concatenate([groups[index] for index in rng.integers(0, len(groups), len(groups))])
        ranks = stats.rankdata(drawn, axis=0)
        if (np.ptp(ranks, axis=0) > 0).all():
            values.append(np.corrcoef(ranks.T)[0, 1])
    if len(values) < _NUM_BOOTSTRAP // 2:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
