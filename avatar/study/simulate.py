"""Raters made of numbers: how a study of known truth would come out, and what difference a design can find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from avatar.study.design import Design
from avatar.study.formats import HIGHEST_SCORE, LOWEST_SCORE, Key, Study
from avatar.study.results import Answer, Session

DIFFERENCES = tuple(round(0.1 * step, 1) for step in range(1, 11))
WANTED_POWER = 0.8
_NUM_STUDIES = 400
_ALPHA = 0.05


@dataclass(frozen=True)
class Spreads:
    """Standard deviations in points, of the size that video studies report.

    Attributes:
        rater: how mild a rater is; item: how good an item looks in all systems.
        liking: a rater's own liking for a system; luck: how well a system does on one item.
        noise: of a single answer.
    """

    rater: float = 0.5
    item: float = 0.4
    liking: float = 0.25
    luck: float = 0.2
    noise: float = 0.8


@dataclass(frozen=True)
class Truth:
    """What simulated raters think.

    Attributes:
        means: by system, on every scale.
        scales: by scale what is added to a system, `{"LS": {"ours": 0.4}}`.
        drift: points from a session's first clip to its last.
        careless: raters (by slot) who answer at random.
        spreads: of everything random.
    """

    means: Mapping[str, float]
    scales: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    drift: float = 0.0
    careless: Sequence[int] = ()
    spreads: Spreads = Spreads()


def simulate_sessions(study: Study, key: Key, truth: Truth, seed: int) -> list[Session]:
    """One session for each slot of a study.

    Args:
        study, key: of one export.
        truth: what the raters think. Muted and shifted clips get 1 or 2 on LS from those who look; a repeat is rated like the
            first time, with new noise.
        seed: of everything random.
    """
    rng = np.random.default_rng(seed)
    of, spreads = list(key.systems), truth.spreads
    items = {item: rng.normal(0, spreads.item, len(study.scales)) for item in key.items}
    luck = {(system, item): rng.normal(0, spreads.luck, len(study.scales)) for system in of for item in key.items}
    sessions = []
    for slot in range(len(study.slots)):
        mild = rng.normal(0, spreads.rater, len(study.scales))
        liking = {system: rng.normal(0, spreads.liking, len(study.scales)) for system in of}
        answers, trials = [], study.trials_of(slot)
        for place, trial in enumerate(trials):
            what = key.clips[trial.clip]
            values = truth.means[what.system] + mild + items[what.item] + liking[what.system]
            values = values + luck[what.system, what.item] + truth.drift * place / len(trials)
            values = values + [truth.scales.get(scale, {}).get(what.system, 0.0) for scale in study.scales]
            scores = _points(values + rng.normal(0, spreads.noise, len(study.scales)))
            if slot in truth.careless:
                scores = rng.integers(LOWEST_SCORE, HIGHEST_SCORE + 1, len(study.scales))
            given = dict(zip(study.scales, map(int, scores), strict=True))
            if what.trap and slot not in truth.careless and "LS" in given:
                given["LS"] = int(rng.integers(1, 3))
            seconds = float(rng.gamma(4, 2))
            at = f"2026-01-01T{place // 60:02d}:{place % 60:02d}:00Z"
            answers.append(Answer(trial.id, given, int(rng.random() < 0.2), trial.duration_s, round(seconds, 2), at))
        consent = {"given": True, "adult": True, "at": "2026-01-01T00:00:00Z"}
        attributes = {"culture": ("ab"[slot % 2])} if "culture" in study.ask else {}
        sessions.append(
            Session(study.id, study.version, f"r{slot:03d}", slot, "en", consent, attributes, answers=tuple(answers))
        )
    return sessions


def detectable(design: Design, num_scales: int, seed: int, spreads: Spreads | None = None) -> dict[float, float]:
    """How surely a design finds a difference between two systems.

    Args:
        design: who sees what.
        num_scales: of the study; with the pairs of systems they make the tests that Holm's method counts.
        seed: of the simulation.
        spreads: None: the usual ones.

    Returns:
        By true difference in points the share of 400 simulated studies in which Wilcoxon's test of the two systems' rater means
        stays below 0.05 when every test counts (Bonferroni, which Holm's method never falls short of).
    """
    spreads = spreads or Spreads()
    rng = np.random.default_rng(seed)
    trials = [
        (rater, shown.system, shown.item)
        for rater, slot in enumerate(design.slots)
        for shown in slot
        if shown.kind == "rated"
    ]
    systems = sorted({system for _, system, _ in trials})
    raters, of, items = (np.unique(list(column), return_inverse=True)[1] for column in zip(*trials, strict=True))
    num_tests = num_scales * len(systems) * (len(systems) - 1) // 2
    num_raters, num_items = raters.max() + 1, items.max() + 1
    averages = _averages(raters, of, len(systems))
    size = (_NUM_STUDIES, len(trials))
    base = 3.2 + rng.normal(0, spreads.rater, (size[0], num_raters))[:, raters]
    base += rng.normal(0, spreads.item, (size[0], num_items))[:, items]
    base += rng.normal(0, spreads.liking, (size[0], num_raters, len(systems)))[:, raters, of]
    base += rng.normal(0, spreads.luck, (size[0], num_items, len(systems)))[:, items, of]
    base += rng.normal(0, spreads.noise, size)
    power = {}
    for difference in DIFFERENCES:
        means = _points(base + difference * (of == 0)) @ averages
        gaps = np.round(means[:, :num_raters] - means[:, num_raters : 2 * num_raters], 9)
        power[difference] = float(np.mean([_signed_rank(gap) < _ALPHA / num_tests for gap in gaps]))
    return power


def smallest_found(power: Mapping[float, float], wanted: float = WANTED_POWER) -> float | None:
    """The difference that is found with the wanted power, between the simulated ones; None beyond the largest."""
    before, share_before = 0.0, 0.0
    for difference, share in sorted(power.items()):
        if share >= wanted:
            return before + (difference - before) * (wanted - share_before) / max(share - share_before, 1e-9)
        before, share_before = difference, share
    return None


def power_words(design: Design, num_scales: int, seed: int) -> str:
    """The simulation's outcome in a few lines, for the command line and the documentation of a study."""
    power = detectable(design, num_scales, seed)
    found = smallest_found(power)
    num_systems = len({shown.system for slot in design.slots for shown in slot})
    tests = num_scales * num_systems * (num_systems - 1) // 2
    spreads = Spreads()
    assumed = f"raters {spreads.rater}, items {spreads.item}, liking {spreads.liking}, luck {spreads.luck}, answers {spreads.noise}"
    least = f"{found:.2f} points" if found is not None else f"more than {max(power):g} points"
    return "\n".join(
        [
            f"{len(design.slots)} raters x {design.clips_per_rater} clips, {num_systems} systems, {num_scales} scales: "
            f"{tests} tests",
            f"smallest difference found in {WANTED_POWER:.0%} of studies: {least} (of 1 to 5; {_NUM_STUDIES} simulated studies)",
            "  true difference " + "".join(f"{difference:6.1f}" for difference in power),
            "  found in        " + "".join(f"{share:6.0%}" for share in power.values()),
            f"assumed spreads in points: {assumed}",
        ]
    )


def _points(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), LOWEST_SCORE, HIGHEST_SCORE)


def _averages(raters: np.ndarray, systems: np.ndarray, num_systems: int) -> np.ndarray:
    """(trials, systems x raters): a product with it gives each rater's mean of each system, the first system's first."""
    num_raters = raters.max() + 1
    chosen = np.zeros((len(raters), num_systems * num_raters))
    chosen[np.arange(len(raters)), systems * num_raters + raters] = 1
    return chosen / np.maximum(chosen.sum(0), 1)


def _signed_rank(gaps: np.ndarray) -> float:
    gaps = gaps[gaps != 0]
    if len(gaps) < 2:
        return 1.0
    ranks = stats.rankdata(np.abs(gaps))
    spread = np.sqrt((ranks**2).sum() / 4)
    return float(2 * stats.norm.sf(abs((ranks * (gaps > 0)).sum() - ranks.sum() / 2) / spread))
