"""Laws of balanced sampling."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from avatar.data.sampling.cells import UNKNOWN, Cells, Labels, turns
from avatar.data.sampling.dynamic import DynamicBalance
from avatar.data.sampling.report import (
    append_report,
    cell_reports,
    mean_by_cell,
    plot_reports,
    plotted_cells,
    read_reports,
    table,
)
from avatar.data.sampling.sampler import Balance, BalancedSampler
from avatar.data.sampling.weights import (
    beta_for,
    capped,
    class_weights,
    effective_number,
    loss_weights,
    smoothed_sizes,
)
from avatar.errors import OptionError
from avatar.media import read_picture

EMOTIONS = ("neutral", "happy", "sad", "angry")
GROUPS = ("a", "b", "c")


def long_tail(num_clips: int = 20_000, seed: int = 0) -> Cells:
    """Emotion x group, the rarest combination about 1 in 100 of the commonest."""
    rng = np.random.default_rng(seed)
    emotion = rng.choice(len(EMOTIONS), num_clips, p=[0.7, 0.2, 0.07, 0.03])
    group = rng.choice(len(GROUPS), num_clips, p=[0.6, 0.3, 0.1])
    labels = {
        "emotion": Labels(EMOTIONS, codes=emotion.astype(np.int32)),
        "group": Labels(GROUPS, codes=group.astype(np.int32)),
    }
    return Cells.of(labels)


def counts_of(cells: Cells, drawn: np.ndarray) -> np.ndarray:
    return cells.per_cell(np.bincount(drawn, minlength=cells.num_clips).astype(float))


def drawn(sampler: BalancedSampler, draws: int) -> np.ndarray:
    got: list[np.ndarray] = []
    while sum(map(len, got)) < draws:
        got.append(sampler.order()[sampler.cursor :])
        sampler.advance(len(got[-1]))
    return np.concatenate(got)[:draws]


def test_cells_are_the_combinations_that_occur() -> None:
    cells = Cells.of({"emotion": Labels.certain(["happy", "sad", "happy", None]), "group": Labels.certain("aabb")})
    assert dict(zip(cells.names, cells.sizes, strict=True)) == {
        "happy / a": 1, "happy / b": 1, "sad / a": 1, f"{UNKNOWN} / b": 1
    }  # fmt: skip


def test_soft_labels_count_by_their_probabilities() -> None:
    emotion = Labels.soft(("happy", "sad"), np.array([[0.75, 0.25], [0, 2], [0, 0], [np.nan, 1]]))
    cells = Cells.of({"emotion": emotion, "group": Labels.certain("aaab")})
    assert dict(zip(cells.names, cells.sizes, strict=True)) == pytest.approx(
        {"happy / a": 0.75, "sad / a": 1.25, f"{UNKNOWN} / a": 1, "sad / b": 1}
    )
    assert cells.names[cells.home[0]] == "happy / a"
    both = Cells.of({"emotion": emotion, "group": Labels.soft(("a", "b"), np.array([[0.5, 0.5]] * 4))})
    assert both.sizes.sum() == pytest.approx(4) and both.per_clip(np.ones(len(both))) == pytest.approx(np.ones(4))


def test_turns_count_what_came_before_of_the_same_cell() -> None:
    assert turns(np.array([2, 0, 2, 2, 0, 1])).tolist() == [0, 0, 1, 2, 1, 0]
    assert turns(np.array([], int)).tolist() == []


def test_what_a_labeller_is_hardly_sure_of_is_dropped() -> None:
    cells = Cells.of({"emotion": Labels.soft(("happy", "sad"), np.array([[0.97, 0.03]]))})
    assert cells.names == ("happy",) and cells.sizes[0] == pytest.approx(1)


def test_beta_zero_is_uniform_over_clips_and_beta_one_is_inverse_frequency() -> None:
    sizes = np.array([1, 7, 400, 20_000])
    assert class_weights(sizes, 0.0, cap=1e9) == pytest.approx(np.ones(4))
    inverse = class_weights(sizes, 1.0, cap=1e9)
    assert inverse * sizes == pytest.approx(np.full(4, sizes.sum() / 4))
    assert class_weights(sizes, 1 - 1e-12, cap=1e9) == pytest.approx(inverse, rel=1e-3)


def test_effective_numbers_are_the_papers() -> None:
    """Weights for 100k, 20k, 3k, 400 and 50 clips, normalised to the number of classes (Cui et al. 2019, section 4.2)."""
    sizes = np.array([100_000, 20_000, 3_000, 400, 50])
    for beta, expected in ((0.99, [0.76, 0.76, 0.76, 0.78, 1.93]), (0.9999, [0.02, 0.02, 0.08, 0.55, 4.32])):
        weights = 1 / effective_number(sizes, beta)
        assert weights / weights.sum() * 5 == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1.0])
def test_weights_are_finite_for_no_clip_and_one(beta: float) -> None:
    weights = class_weights(np.array([0, 1, 0.3, 5_000]), beta)
    assert np.isfinite(weights).all() and (weights > 0).all()


def test_the_cap_holds_and_what_is_cut_off_goes_to_the_others() -> None:
    counts = np.array([2.0, 50, 10_000, 90_000])
    weights = class_weights(counts, 1.0, cap=10, counts=counts)
    assert weights.max() == pytest.approx(10) and (weights * counts).sum() == pytest.approx(counts.sum())
    assert (np.diff(weights) <= 0).all()
    assert capped(np.ones(3), np.array([1.0, 2, 3]), 1.0) == pytest.approx(np.ones(3))


def test_beta_follows_the_median_size() -> None:
    assert beta_for(np.array([10, 100, 100_000])) == pytest.approx(0.99)
    assert beta_for(np.array([1])) == 0.5


def test_a_thin_cell_borrows_from_its_margins_and_a_full_one_does_not() -> None:
    cells = Cells.of({
        "emotion": Labels.certain(["happy"] * 500 + ["sad"] * 501),
        "group": Labels.certain(["a"] * 500 + ["b"] * 500 + ["a"]),
    })  # fmt: skip
    sizes = dict(zip(cells.names, smoothed_sizes(cells), strict=True))
    assert sizes["happy / a"] == 500 and sizes["sad / b"] == 500
    assert 200 < sizes["sad / a"] < 260  # one clip, though half of all clips are sad and half are of group a


@pytest.mark.parametrize("beta", [0.0, None, 1.0])
def test_drawn_cells_fit_the_target(beta: float | None) -> None:
    cells = long_tail()
    sampler = BalancedSampler(cells, Balance(beta=beta, cap=100, thin=1), seed=3)
    target = sampler.shares()
    got = drawn(sampler, 100_000)
    assert chisquare(counts_of(cells, got), target * 100_000).pvalue > 0.01
    assert chisquare(counts_of(cells, got[:5_000]), target * 5_000).pvalue > 0.01  # and any stretch of an epoch
    if beta == 1.0:
        assert target == pytest.approx(np.full(len(cells), 1 / len(cells)))
        flat = np.ones(len(cells)) * 100_000 / len(cells)
        natural = counts_of(cells, drawn(BalancedSampler(cells, Balance(beta=0.0), seed=3), 100_000))
        assert chisquare(natural, flat).pvalue < 1e-9  # the test can fail


def test_soft_labels_are_drawn_to_the_target_too() -> None:
    rng = np.random.default_rng(0)
    cells = Cells.of({"emotion": Labels.soft(EMOTIONS, rng.dirichlet([4, 1, 0.3, 0.1], 5_000))})
    sampler = BalancedSampler(cells, Balance(beta=1.0, cap=1e6), seed=0)
    for _ in range(3):
        counts = np.bincount(sampler.order(), minlength=5_000)
        assert np.abs(counts - 5_000 * sampler.probabilities()).max() < 1  # rounded up or down, never further off
        sampler.advance(5_000)


def test_without_balancing_an_epoch_is_a_permutation() -> None:
    cells = long_tail(1_000)
    sampler = BalancedSampler(cells, Balance(beta=0.0), seed=0)
    assert sorted(sampler.order()) == list(range(1_000))
    assert list(sampler.order()) != sorted(sampler.order())


def test_no_clip_is_drawn_more_often_than_the_cap() -> None:
    cells = long_tail(5_000)
    sampler = BalancedSampler(cells, Balance(beta=1.0, cap=3.0), seed=0)
    assert np.bincount(sampler.order()).max() <= 3
    assert sampler.weights().max() <= 3 + 1e-9


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_are_disjoint_and_their_union_is_the_order_of_one(num_ranks: int) -> None:
    cells = long_tail(999)
    whole = BalancedSampler(cells, Balance(beta=0.0), seed=5).order()
    parts = [BalancedSampler(cells, Balance(beta=0.0), seed=5, rank=r, num_ranks=num_ranks) for r in range(num_ranks)]
    clips = [set(part) for part in parts]
    assert not set.intersection(*clips)
    woven = np.empty_like(whole)
    for rank, part in enumerate(parts):
        woven[rank::num_ranks] = part.remaining()
    assert (woven == whole).all()


def test_a_resumed_sampler_goes_on_with_the_same_draws() -> None:
    cells = long_tail(2_000)

    def sampler(**more: int) -> BalancedSampler:
        return BalancedSampler(cells, Balance(anneal=(0, 3)), seed=1, epoch_draws=500, **more)

    one = sampler()
    one.advance(500)
    one.reweight(np.linspace(0.5, 2, len(cells)))
    one.advance(123)  # the new factors wait for the next epoch, also across a restart
    state = one.state_dict()
    rest = drawn(one, 1_200)
    again = sampler()
    again.load_state_dict(state)
    assert (drawn(again, 1_200) == rest).all()
    half = sampler(rank=1, num_ranks=2)
    half.load_state_dict(state)
    assert (half.remaining() == rest[1:377:2]).all()


def test_a_state_of_other_clips_is_refused() -> None:
    state = BalancedSampler(long_tail(100), Balance(), seed=0).state_dict()
    with pytest.raises(OptionError, match="100 draws an epoch over 100 clips .* have changed"):
        BalancedSampler(long_tail(101), Balance(), seed=0).load_state_dict(state)


def test_seeds_and_epochs_draw_differently() -> None:
    cells = long_tail(500)
    first, other = (BalancedSampler(cells, Balance(beta=0.0), seed=seed) for seed in (0, 1))
    start = first.order().copy()
    first.advance(500)
    assert not (start == other.order()).all() and not (start == first.order()).all()


def test_natural_sampling_gives_way_to_balanced_sampling() -> None:
    cells = long_tail()
    sampler = BalancedSampler(cells, Balance(beta=1.0, cap=1e6, thin=1, anneal=(1, 3)), seed=0)
    natural, even = cells.sizes / cells.sizes.sum(), np.full(len(cells), 1 / len(cells))
    for share in (0.0, 0.0, 0.5, 1.0, 1.0):
        assert sampler.shares() == pytest.approx((1 - share) * natural + share * even)
        sampler.advance(sampler.epoch_draws)


def test_natural_sampling_may_give_way_at_once_or_never() -> None:
    at_once, never = Balance(anneal=(3, 3)), Balance(anneal=(20, 20))
    assert [at_once.share(epoch) for epoch in (0, 2, 3, 9)] == [0, 0, 1, 1]
    assert {never.share(epoch) for epoch in range(20)} == {0}


def test_batches_are_of_one_bucket_and_the_target_still_holds() -> None:
    cells = long_tail()
    buckets = np.random.default_rng(2).integers(0, 5, cells.num_clips)
    sampler = BalancedSampler(
        cells, Balance(beta=1.0, cap=100, thin=1), seed=0, buckets=buckets, batch_draws=8, epoch_draws=20_000
    )
    got = drawn(sampler, 100_000)
    assert (np.ptp(buckets[got].reshape(-1, 8), axis=1) == 0).all()
    assert chisquare(counts_of(cells, got), sampler.shares() * 100_000).pvalue > 0.01


def test_a_badly_learned_cell_is_drawn_more_within_floor_and_ceiling() -> None:
    cells = long_tail()
    dynamic = DynamicBalance(len(cells), rate=1.0, ceiling=2.0)
    losses = np.ones(len(cells))
    losses[4], losses[5] = 3.0, np.nan
    sampler = BalancedSampler(cells, Balance(beta=0.0), seed=0)
    before = sampler.shares()
    for _ in range(20):
        dynamic.update(losses)
    assert dynamic.factors[4] == pytest.approx(2) and dynamic.factors[5] == 1
    assert dynamic.factors.min() >= 0.5
    sampler.reweight(dynamic.factors)
    assert sampler.shares()[4] > 1.5 * before[4]
    again = DynamicBalance(len(cells))
    again.load_state_dict(dynamic.state_dict())
    assert (again.factors == dynamic.factors).all()


def test_a_cell_that_has_caught_up_loses_its_weight() -> None:
    dynamic = DynamicBalance(3, rate=0.5, memory=0.0)
    for _ in range(20):
        dynamic.update(np.array([1.0, 1.0, 4.0]))
    assert dynamic.factors[2] == pytest.approx(np.exp(2 * 0.5 * (4 / 2 - 1)), rel=1e-3)
    for _ in range(5):
        dynamic.update(np.ones(3))
    assert np.abs(dynamic.factors - 1).max() < 0.05


def test_equal_losses_change_nothing() -> None:
    dynamic = DynamicBalance(3)
    dynamic.update(np.full(3, 0.7))
    assert (dynamic.factors == 1).all()


def test_loss_weights_have_a_mean_of_one_over_what_is_drawn() -> None:
    cells = long_tail()
    for beta in (0.0, None, 1.0):
        drawn_probability = BalancedSampler(cells, Balance(beta=beta), seed=0).probabilities()
        weights = loss_weights(cells, 0.99, drawn_probability)
        assert float((weights * drawn_probability).sum()) == pytest.approx(1, abs=1e-5)
    rare, common = cells.home == cells.sizes.argmin(), cells.home == cells.sizes.argmax()
    assert weights[rare].mean() > weights[common].mean()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta": 1.5}, "beta must lie between 0 and 1, not 1.5"),
        ({"cap": 0.5}, "cap on weights must be 1 or more, not 0.5"),
        ({"anneal": (3.0, 1.0)}, "anneal is a first and a last epoch"),
    ],
)
def test_numbers_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Balance(**values)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at least one label"):
        Cells.of({})
    with pytest.raises(OptionError, match="different numbers of clips"):
        Cells.of({"a": Labels.certain("xy"), "b": Labels.certain("x")})


def test_reports_say_what_was_drawn_and_draw_it(tmp_path: Path) -> None:
    cells = long_tail(600)
    sampler = BalancedSampler(cells, Balance(beta=1.0), seed=0)
    clips = sampler.order()
    losses = mean_by_cell(cells, clips[:50], np.arange(50.0))
    rows = cell_reports(cells, sampler.shares(), clips, {"held_out_loss": losses})
    assert sum(row.drawn_share for row in rows) == pytest.approx(1)
    assert all(abs(row.drawn_share - row.target_share) < 0.01 for row in rows)
    path = tmp_path / "balance.jsonl"
    for epoch in range(2):
        append_report(path, epoch, 10 * epoch, rows)
    assert read_reports(path)[1]["cells"][0]["cell"] == cells.names[0]
    rarest = cells.names[int(cells.sizes.argmin())]
    assert table(rows).splitlines()[1].startswith(rarest)
    assert plot_reports(read_reports(path), tmp_path / "balance.png").stat().st_size > 5_000


def test_the_plot_shows_the_training_loss_where_nothing_was_held_out(tmp_path: Path) -> None:
    cells = long_tail(300)
    draws = np.arange(300)
    for epoch in range(3):
        losses = mean_by_cell(cells, draws, np.linspace(1, 2, 300) / (epoch + 1))
        rows = cell_reports(cells, cells.sizes / 300, draws, {"loss": losses})
        append_report(tmp_path / "balance.jsonl", epoch, 10 * epoch, rows)
    reports = read_reports(tmp_path / "balance.jsonl")
    drawn_curves = plot_reports(reports, tmp_path / "with.png").stat().st_size
    for report in reports:
        for cell in report["cells"]:
            cell["figures"] = {}
    assert drawn_curves > plot_reports(reports, tmp_path / "without.png").stat().st_size + 5_000


def test_of_many_cells_the_rarest_are_plotted_too() -> None:
    rows = [{"cell": f"c{k}", "clips": k} for k in range(100)]
    assert [row["clips"] for row in plotted_cells(rows)] == [*range(99, 79, -1), *range(19, -1, -1)]
    assert len(plotted_cells(rows[:40])) == 40


def test_sync_has_a_panel_of_its_own_where_it_was_measured(tmp_path: Path) -> None:
    cells = long_tail(300)
    losses = np.linspace(1, 2, len(cells))
    widths = []
    for names in (("held_out_loss",), ("held_out_loss", "held_out_sync")):
        rows = cell_reports(cells, cells.sizes / 300, np.arange(300), {name: losses for name in names})
        path = tmp_path / f"{len(names)}.jsonl"
        append_report(path, 0, 10, rows)
        widths.append(read_picture(plot_reports(read_reports(path), tmp_path / f"{len(names)}.png")).shape[1])
    assert widths[1] > 1.3 * widths[0]


def test_half_a_million_clips_are_no_burden() -> None:
    """Built in under 10 s and 1 GB, more than 100,000 draws a second; in processor time, in a process of its own."""
    script = Path(__file__).resolve().parents[3] / "scripts/measure_sampling.py"
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    print(told)
    figures = json.loads(told)
    assert figures["clips"] == 500_000 and figures["cells"] == 56
    assert figures["built_s"] < 10 and figures["draws_per_s"] > 1e5 and figures["peak_mb"] < 1024
    assert all(test["p"] > 0.01 for test in figures["fit"].values())
