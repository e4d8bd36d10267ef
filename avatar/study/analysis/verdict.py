"""Numbers to sentences: what was shown, what was not, and what nobody can say from these data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from avatar.study.analysis.compare import least_p
from avatar.study.formats import SCALES

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
LARGE_RANK_BISERIAL, MEDIUM_RANK_BISERIAL = 0.5, 0.3
SHOWN, UNDECIDED, NOT_SHOWN, UNKNOWN = "shown", "undecided", "not shown", "nothing can be said"


@dataclass(frozen=True)
class Verdict:
    """What follows for one pair on one scale.

    Attributes:
        scale, one, other: what was compared; `one` is the higher where a difference is shown.
        kind: `SHOWN`, `UNDECIDED`, `NOT_SHOWN` or `UNKNOWN`.
        sentence: in words.
    """

    scale: str
    one: str
    other: str
    kind: str
    sentence: str


def verdicts(pairs: pd.DataFrame, mixed: pd.DataFrame, labels: Mapping[str, str]) -> list[Verdict]:
    """One for each row of `pairwise`.

    Args:
        pairs: Wilcoxon's tests.
        mixed: the model's; may be empty.
        labels: of the systems.

    A difference counts as shown when both tests, each adjusted for all pairs and scales, find it with the same sign.
    """
    model = {(row.scale, row.one, row.other): row for row in mixed.itertuples()}
    num_tests = len(pairs)
    return [_verdict(row, model.get((row.scale, row.one, row.other)), num_tests, labels) for row in pairs.itertuples()]


def _verdict(row: pd.Series, model: pd.Series | None, num_tests: int, labels: Mapping[str, str]) -> Verdict:
    one, other, difference = row.one, row.other, row.difference
    scale = f"{SCALES[row.scale].capitalize()} ({row.scale})"
    if least_p(row.raters) * num_tests > ALPHA:
        sentence = (
            f"{scale}: nothing can be said about {labels[one]} and {labels[other]}: with {row.raters} raters and {num_tests} tests "
            f"even full agreement would not reach p < {ALPHA}."
        )
        return Verdict(row.scale, one, other, UNKNOWN, sentence)
    if model is None:
        sentence = (
            f"{scale}: nothing can be said about {labels[one]} and {labels[other]} with confidence: the mixed model could not be "
            f"fitted (Wilcoxon, Holm: {p_words(row.p_holm)})."
        )
        return Verdict(row.scale, one, other, UNKNOWN, sentence)
    by_ranks, by_model = row.p_holm < ALPHA, model.p_holm < ALPHA
    if difference < 0:
        one, other = other, one
    sign = 1 if difference >= 0 else -1
    low, high = sorted((sign * model.low, sign * model.high))
    limits = f"95 % CI {low:+.2f} to {high:+.2f}"
    tests = f"Wilcoxon {p_words(row.p_holm)}, mixed model {p_words(model.p_holm)}, both by Holm over {num_tests} tests"
    if by_ranks and by_model and difference * model.difference > 0:
        effect = abs(row.rank_biserial)
        size = "large" if effect >= LARGE_RANK_BISERIAL else "medium" if effect >= MEDIUM_RANK_BISERIAL else "small"
        sentence = (
            f"{scale}: {labels[one]} was rated higher than {labels[other]} by {abs(difference):.2f} points ({limits}; {tests}; "
            f"rank-biserial {effect:.2f}, {size})."
        )
        return Verdict(row.scale, one, other, SHOWN, sentence)
    between = f"{labels[one]} and {labels[other]} ({abs(difference):.2f} points, {limits}; {tests})"
    if by_ranks or by_model:
        why = "the raters' ranks show it, the model, which allows for other items too, does not"
        if by_model:
            why = (
                "the model shows it, the raters' ranks do not"
                if not by_ranks
                else "the two tests point in opposite directions"
            )
        return Verdict(row.scale, one, other, UNDECIDED, f"{scale}: undecided between {between}: {why}.")
    reach = max(abs(model.low), abs(model.high))
    sentence = (
        f"{scale}: no difference was shown between {between}. "
        f"That is not evidence of equality: up to {reach:.2f} points either way fit these data."
    )
    return Verdict(row.scale, one, other, NOT_SHOWN, sentence)


def robustness(kept: Sequence[Verdict], everybody: Sequence[Verdict], num_left_out: int) -> str:
    """Whether screening matters."""
    if not num_left_out:
        return "No rater was left out by the screening."
    raters = "1 rater was" if num_left_out == 1 else f"{num_left_out} raters were"
    before = {(v.scale, frozenset((v.one, v.other))): (v.kind, v.one) for v in everybody}
    changed = [
        f"{v.scale} {v.one}/{v.other} ({before[v.scale, frozenset((v.one, v.other))][0]} with everybody, {v.kind} without)"
        for v in kept
        if (v.scale, frozenset((v.one, v.other))) in before
        and before[v.scale, frozenset((v.one, v.other))][0] != v.kind
    ]
    if not changed:
        return f"{raters} left out by the screening; no verdict depends on that."
    return f"{raters} left out by the screening, and that decides {len(changed)} verdicts: {'; '.join(changed)}."


def friedman_words(row: pd.Series) -> str:
    """Whether systems differ at all on a scale."""
    scale = f"{SCALES[row.scale].capitalize()} ({row.scale})"
    if math.isnan(row.p):
        return f"{scale}: too few raters saw every system for Friedman's test."
    verb = "differ" if row.p < ALPHA else "are not shown to differ"
    return f"{scale}: the systems {verb} (Friedman, {row.raters} raters, {p_words(row.p)}, Kendall's W {row.kendall_w:.2f})."


def order_words(order: pd.DataFrame) -> list[str]:
    """What the place in the session did, over all scales; each effect's p adjusted by Bonferroni over the rows."""
    names = {
        "drift": "scores drift by {value:+.2f} points from the first clip to the last",
        "contrast": "a clip gets {value:+.2f} points for each point that the one before got more",
        "time": "an answer takes {value:+.1f} s more at the end than at the start",
    }
    found = [row for row in order.itertuples() if row.p * len(order) < ALPHA]
    if not found:
        return ["No effect of the place in the session was shown (drift, contrast with the clip before, time)."]
    return [
        f"{row.scale + ': ' if row.scale else ''}{names[row.effect].format(value=row.value)} ({p_words(row.p)})."
        for row in found
    ]


def metric_words(correlations: pd.DataFrame) -> list[str]:
    """Which metrics follow opinion, from the most demanding level there is."""
    sentences = []
    for (scale, metric), part in correlations.groupby(["scale", "metric"], sort=False):
        levels = {row.level: row for row in part.itertuples()}
        row = levels.get("within item", levels.get("system"))
        if row is None or not math.isfinite(row.spearman):
            sentences.append(
                f"{scale}, {metric}: nothing can be said from {row.points if row is not None else 0} points."
            )
        elif row.level == "system" or not math.isfinite(row.low):
            sentences.append(
                f"{scale}, {metric}: rank correlation {row.spearman:+.2f} over {row.points} {row.level} means; too few to say more."
            )
        else:
            verb = "follows opinion" if row.low > 0 or row.high < 0 else "is not shown to follow opinion"
            sentences.append(
                f"{scale}: {metric} {verb} within items (Spearman {row.spearman:+.2f}, 95 % CI {row.low:+.2f} to {row.high:+.2f}, "
                f"{row.points} clips)."
            )
    return sentences


def p_words(p: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    if math.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
