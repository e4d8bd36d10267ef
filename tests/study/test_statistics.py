"""The statistics agree with a second library, and keep the laws they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

pd = pytest.importorskip("pandas")

from avatar.study.analysis.agreement import icc2, krippendorff_alpha  # noqa: E402
from avatar.study.analysis.compare import friedman_test, holm, least_p, rank_biserial, wilcoxon_p  # noqa: E402
from avatar.study.analysis.describe import bootstrap_means, interval  # noqa: E402
from avatar.study.analysis.mixed import fit_mixed  # noqa: E402


def ratings(raters: int = 12, clips: int = 30, seed: int = 0, missing: float = 0.0) -> np.ndarray:
    """(raters, clips) of 1 to 5."""
    rng = np.random.default_rng(seed)
    true = 3 + rng.normal(0, 0.8, clips)[None] + rng.normal(0, 0.5, raters)[:, None]
    scores = np.clip(np.round(true + rng.normal(0, 0.8, (raters, clips))), 1, 5)
    scores[rng.random(scores.shape) < missing] = np.nan
    return scores


def test_holm_is_statsmodels_holm() -> None:
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    p = np.random.default_rng(1).random(20) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    with_gap = holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(with_gap, [0.02, np.nan, 0.04])


@pytest.mark.parametrize("seed", range(3))
def test_friedman_is_scipy_s(seed: int) -> None:
    means = np.round(np.random.default_rng(seed).normal(3, 1, (15, 4)), 1)  # with ties
    statistic, p = friedman_test(means)
    assert (statistic, p) == pytest.approx(stats.friedmanchisquare(*means.T))


def test_friedman_of_clear_differences_is_clear() -> None:
    means = np.tile([1.0, 2.0, 3.0], (10, 1))
    statistic, p = friedman_test(means)
    assert statistic == pytest.approx(20) and p < 1e-4
    assert np.isnan(friedman_test(np.ones((10, 3)))[1])


def test_the_smallest_p_is_that_of_full_agreement() -> None:
    for raters in (5, 8, 12):
        assert wilcoxon_p(np.arange(1.0, raters + 1)) == pytest.approx(least_p(raters))
    assert np.isnan(wilcoxon_p(np.zeros(8)))


def test_wilcoxon_and_rank_biserial_are_pingouin_s() -> None:
    pingouin = pytest.importorskip("pingouin")
    rng = np.random.default_rng(3)
    one, other = rng.normal(3.3, 0.5, 20), rng.normal(3, 0.5, 20)
    theirs = pingouin.wilcoxon(one, other)
    p_name = next(name for name in theirs.columns if name.lower().startswith("p"))
    assert wilcoxon_p(one - other) == pytest.approx(float(theirs[p_name].iloc[0]))
    assert rank_biserial(one - other) == pytest.approx(float(theirs["RBC"].iloc[0]))


def test_rank_biserial_is_one_when_all_agree() -> None:
    assert rank_biserial(np.array([0.1, 2.0, 0.5])) == 1
    assert rank_biserial(-np.array([0.1, 2.0, 0.5])) == -1
    assert rank_biserial(np.array([1.0, -1.0])) == 0


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_alpha_is_the_krippendorff_package_s(missing: float) -> None:
    krippendorff = pytest.importorskip("krippendorff")
    scores = ratings(missing=missing)
    theirs = krippendorff.alpha(reliability_data=scores, level_of_measurement="ordinal")
    assert krippendorff_alpha(scores) == pytest.approx(theirs, abs=1e-9)


def test_alpha_of_krippendorff_s_own_example() -> None:
    # Krippendorff (2011), section C: 4 observers, 12 units, values 1 to 5; ordinal alpha 0.815
    nan = np.nan
    scores = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    assert krippendorff_alpha(scores) == pytest.approx(0.815, abs=5e-4)


def test_icc_is_pingouin_s_where_everybody_saw_everything() -> None:
    pingouin = pytest.importorskip("pingouin")
    scores = ratings()
    raters, clips = np.indices(scores.shape).reshape(2, -1)
    long = pd.DataFrame({"rater": raters, "clip": clips, "score": scores.ravel()})
    table = pingouin.intraclass_corr(long, targets="clip", raters="rater", ratings="score")
    theirs = dict(zip(table["Type"].str.replace(r"[(),]", "", regex=True), table["ICC"], strict=True))
    mine = icc2(scores)
    assert mine.single == pytest.approx(theirs.get("ICC2", theirs.get("ICCA1")), abs=1e-6)
    assert mine.mean == pytest.approx(theirs.get("ICC2k", theirs.get("ICCAk")), abs=1e-6)
    assert mine.k == pytest.approx(12)


def test_icc_of_shrout_and_fleiss_own_example() -> None:
    # Shrout & Fleiss (1979), table 2: ICC(2,1) = 0.29, ICC(2,4) = 0.62
    scores = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float).T
    mine = icc2(scores)
    assert (round(mine.single, 2), round(mine.mean, 2)) == (0.29, 0.62)


def test_icc_with_gaps_is_near_that_without() -> None:
    full, gappy = icc2(ratings(30, 60)), icc2(ratings(30, 60, missing=0.5))
    assert gappy.single == pytest.approx(full.single, abs=0.08)
    assert gappy.k < full.k


def test_the_bootstrap_s_middle_is_the_mean_and_draws_are_shared() -> None:
    scores = ratings(20, 20)
    raters, items = np.indices(scores.shape).reshape(2, -1)
    frame = pd.DataFrame({"rater": raters, "item": items, "system": "a", "score": scores.ravel()})
    both = pd.concat([frame, frame.assign(system="b")])
    means = bootstrap_means(both, seed=0, num_bootstrap=500)
    np.testing.assert_allclose(means["a"], means["b"])
    low, high = interval(means["a"])
    assert low < scores.mean() < high
    assert np.median(means["a"]) == pytest.approx(scores.mean(), abs=0.03)


def test_the_model_is_the_analysis_of_variance_where_nothing_is_missing() -> None:
    rng = np.random.default_rng(5)
    raters, items, systems = np.indices((10, 8, 2)).reshape(3, -1)
    luck, liking = rng.normal(0, 0.5, (8, 2)), rng.normal(0, 0.5, (10, 2))
    score = 3 + 0.6 * systems + luck[items, systems] + liking[raters, systems] + rng.normal(0, 0.7, len(raters))
    frame = pd.DataFrame({"rater": raters, "item": items, "system": np.array(["a", "b"])[systems], "score": score})
    fit = fit_mixed(frame, ["a", "b"])
    assert fit is not None
    gap = frame.pivot_table("score", ["rater", "item"], "system")
    gap = (gap["b"] - gap["a"]).unstack().to_numpy()
    # the variance of the mean of a two-way table of gaps: MS(raters) + MS(items) - MS(residual), over its cells
    by_rater, by_item = gap.mean(1) - gap.mean(), gap.mean(0) - gap.mean()
    residual = gap - gap.mean() - by_rater[:, None] - by_item[None]
    squares = (8 * (by_rater**2).sum() / 9, 10 * (by_item**2).sum() / 7, (residual**2).sum() / 63)
    error = np.sqrt((squares[0] + squares[1] - squares[2]) / gap.size)
    contrast = np.array([-1.0, 1.0])
    assert fit.means["b"] - fit.means["a"] == pytest.approx(gap.mean(), abs=1e-3)
    assert np.sqrt(contrast @ fit.covariance @ contrast) == pytest.approx(error, rel=0.02)


def test_the_model_is_statsmodels_mixedlm() -> None:
    formulas = pytest.importorskip("statsmodels.formula.api")
    rng = np.random.default_rng(2)
    raters, items, of = np.indices((10, 8, 3)).reshape(3, -1)
    seen = rng.random(len(raters)) > 0.2
    raters, items, of = raters[seen], items[seen], of[seen]
    score = 3 + 0.4 * of + rng.normal(0, 0.6, 10)[raters] + rng.normal(0, 0.5, 8)[items] + rng.normal(0, 0.6, len(of))
    score += rng.normal(0, 0.5, (10, 3))[raters, of] + rng.normal(0, 0.5, (8, 3))[items, of]
    frame = pd.DataFrame({"rater": raters, "item": items, "system": np.array(["a", "b", "c"])[of], "score": score})
    frame["rs"], frame["si"] = raters * 10 + of, items * 10 + of
    terms = {name: f"0 + C({name})" for name in ("rater", "item", "rs", "si")}
    theirs = formulas.mixedlm("score ~ 0 + C(system)", frame, groups=np.ones(len(frame)), vc_formula=terms).fit(
        reml=True
    )
    mine = fit_mixed(frame, ["a", "b", "c"])
    assert mine is not None
    np.testing.assert_allclose(list(mine.means.values()), theirs.fe_params, atol=2e-3)
    for contrast in ([1, -1, 0], [0, 1, -1], [1, 0, -1]):
        covariance = np.asarray(theirs.cov_params())[:3, :3]
        error = np.sqrt(contrast @ covariance @ np.array(contrast))
        assert np.sqrt(contrast @ mine.covariance @ np.array(contrast)) == pytest.approx(error, rel=0.02)
    assert mine.spreads["residual"] == pytest.approx(np.sqrt(theirs.scale), rel=0.02)
