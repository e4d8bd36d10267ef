"""Simulated studies of known truth: how often a difference is found that is not there, and how often intervals hold the truth.

python scripts/simulate_study.py --studies 1000              # no effect: each share should lie near 5 %
python scripts/simulate_study.py --studies 200 --effect 0.4  # how often it is found, and covered
python scripts/simulate_study.py --studies 100 --careless    # one rater answers at random: is it that one who is left out?
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from avatar.study.analysis.compare import friedman, pairwise
from avatar.study.analysis.mixed import mixed_pairs
from avatar.study.analysis.screening import screen
from avatar.study.analysis.table import rated, ratings_table
from avatar.study.analysis.verdict import SHOWN, verdicts
from avatar.study.design import make_design
from avatar.study.formats import Key, Study
from avatar.study.naming import Namer, blind
from avatar.study.simulate import Spreads, Truth, simulate_sessions
from avatar.study.spec import ItemSpec, StudySpec, SystemSpec

MEAN = 3.2
SECONDS = 4.0


def make_study(raters: int, systems: int, items: int, clips: int, scales: tuple[str, ...]) -> tuple[Study, Key]:
    """A study without media."""
    spec = StudySpec(
        {"en": "Simulated"},
        tuple(SystemSpec(f"s{index}", folder=Path(f"s{index}")) for index in range(systems)),
        tuple(ItemSpec(f"i{index}") for index in range(items)),
        raters=raters,
        clips_per_rater=clips,
        scales=scales,
        max_minutes=120,
    )
    durations_s = {item.id: SECONDS for item in spec.items}
    return blind(spec, make_design(spec, durations_s), durations_s, Namer(b"simulated"))


def screening_of(study: Study, key: Key, truth: Truth, seed: int) -> dict[str, float]:
    """Whether the rater of the first slot, who answers at random, is left out, and which share of the others is."""
    sessions = simulate_sessions(study, key, replace(truth, careless=(0,)), seed)
    screened = screen(ratings_table(sessions, key))
    out = dict(zip(screened["rater"], screened["reasons"] != "", strict=True))
    is_found = out.pop(next(session.rater for session in sessions if session.slot == 0))
    return {"careless rater left out": float(is_found), "attentive raters left out": float(np.mean(list(out.values())))}


def expected_score(mean: float, spreads: Spreads) -> float:
    """What a system of that mean gets on average, after rounding and clipping to 1 to 5."""
    variances = np.square([spreads.rater, spreads.item, spreads.liking, spreads.luck, spreads.noise])
    return 1 + float(stats.norm.sf(np.arange(1.5, 5), mean, np.sqrt(variances.sum())).sum())


def one_study(study: Study, key: Key, truth: Truth, seed: int, has_model: bool) -> dict[str, float]:
    """What one study finds, as 0 and 1 by name; the true difference is that of the first two systems."""
    table = rated(ratings_table(simulate_sessions(study, key, truth, seed), key))
    systems = list(key.systems)
    pairs = pairwise(table, systems, seed)
    first = pairs.iloc[0]
    true = expected_score(truth.means[systems[0]], truth.spreads) - expected_score(
        truth.means[systems[1]], truth.spreads
    )
    found = {
        "Friedman p < 0.05": friedman(table, systems)["p"][0] < 0.05,
        "Wilcoxon p < 0.05, first pair": first["p"] < 0.05,
        "Wilcoxon, any pair after Holm": (pairs["p_holm"] < 0.05).any(),
        "bootstrap interval holds the truth": first["low"] <= true <= first["high"],
    }
    if has_model:
        mixed, _ = mixed_pairs(table, systems)
        if len(mixed):
            row = mixed.iloc[0]
            found |= {
                "mixed model p < 0.05, first pair": row["p"] < 0.05,
                "mixed model, any pair after Holm": (mixed["p_holm"] < 0.05).any(),
                "model's interval holds the truth": row["low"] <= true <= row["high"],
            }
        kinds = [verdict.kind for verdict in verdicts(pairs, mixed, key.systems)]
        found |= {"verdict shown, first pair": kinds[0] == SHOWN, "verdict shown, any pair": SHOWN in kinds}
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("studies", 1000), ("raters", 24), ("systems", 3), ("items", 12), ("clips", 24), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--effect", type=float, default=0.0, help="points that the first system is better; default: 0")
    parser.add_argument("--luck", type=float, default=0.0, help="spread of a system's luck with an item; default: 0")
    parser.add_argument(
        "--liking", type=float, default=0.25, help="spread of a rater's liking for a system; default: 0.25"
    )
    parser.add_argument("--no-model", action="store_true", help="leave the mixed model out: a hundred times faster")
    parser.add_argument("--careless", action="store_true", help="only: is a rater who answers at random left out?")
    parser.add_argument("--scales", nargs="+", default=["LS"], help="default: LS")
    args = parser.parse_args()
    study, key = make_study(args.raters, args.systems, args.items, args.clips, tuple(args.scales))
    means = {system: MEAN + (args.effect if index == 0 else 0.0) for index, system in enumerate(key.systems)}
    truth = Truth(means, spreads=Spreads(luck=args.luck, liking=args.liking))
    started = time.process_time()
    seeds = range(args.seed, args.seed + args.studies)
    if args.careless:
        outcomes = [screening_of(study, key, truth, seed) for seed in seeds]
    else:
        outcomes = [one_study(study, key, truth, seed, not args.no_model) for seed in seeds]
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome))
    print(
        f"{args.studies} studies: {args.raters} raters x {args.clips} clips, {args.systems} systems, {args.items} items, ",
        end="",
    )
    print(
        f"effect {args.effect}, liking {args.liking}, luck {args.luck}; {time.process_time() - started:.0f} s of CPU time"
    )
    for name in names:
        values = [outcome[name] for outcome in outcomes if name in outcome]
        share = float(np.mean(values))
        error = 1.96 * np.sqrt(share * (1 - share) / len(values))
        print(f"{name:38s} {share:6.1%}  ± {error:.1%}  (n = {len(values)})")


if __name__ == "__main__":
    main()
