"""What the balanced sampler costs with many clips, and how well its draws fit their target.

    python scripts/measure_sampling.py [--clips 500000] [--draws 100000]

Prints JSON: seconds of processor time to build the sampler over made-up clips with soft emotions and hard groups, the largest
memory of the whole process, draws a second (all of two epochs, one by one), and the chi-square test of drawn cells against the
target for several betas. Draws are stratified, so that chi-square is far below what dice would give.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from scipy.stats import chisquare

from avatar.data.sampling.cells import Cells, Labels
from avatar.data.sampling.sampler import Balance, BalancedSampler
from avatar.evaluate.memory import peak_memory_mb

_LEVELS = ("neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt")
_GROUP_SHARES = (0.5, 0.2, 0.1, 0.08, 0.06, 0.04, 0.02)
_EMOTION_SHARES = (0.6, 0.2, 0.08, 0.05, 0.03, 0.02, 0.01, 0.01)
_BETAS: dict[str, float | None] = {"0": 0.0, "chosen": None, "1": 1.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=500_000)
    parser.add_argument("--draws", type=int, default=100_000)
    arguments = parser.parse_args()
    print(json.dumps({**cost(arguments.clips), "fit": fit(arguments.draws)}, indent=1))
    return 0


def cost(num_clips: int) -> dict[str, float]:
    """Time and memory of building a sampler, and its throughput."""
    rng = np.random.default_rng(0)
    emotion = rng.dirichlet(np.array(_EMOTION_SHARES) * 5, num_clips).astype(np.float32)
    group = rng.choice(len(_GROUP_SHARES), num_clips, p=_GROUP_SHARES).astype(np.int32)
    started = time.process_time()
    labels = {"emotion": Labels.soft(_LEVELS, emotion), "group": Labels(tuple("abcdefg"), codes=group)}
    sampler = BalancedSampler(Cells.of(labels), Balance(), seed=0)
    sampler.probabilities()
    built_s = time.process_time() - started
    started = time.process_time()
    drawn = 0
    for _ in range(2):
        drawn += sum(1 for _ in sampler)
        sampler.advance(sampler.epoch_draws)
    drawn_s = time.process_time() - started
    return {
        "clips": num_clips,
        "cells": len(sampler.cells),
        "entries": len(sampler.cells.clips),
        "built_s": built_s,
        "peak_mb": peak_memory_mb(),
        "draws_per_s": drawn / drawn_s,
    }


def fit(num_draws: int) -> dict[str, dict[str, float]]:
    """Chi-square of cells drawn by a sampler over 20,000 clips, by beta."""
    rng = np.random.default_rng(0)
    emotion = rng.choice(len(_LEVELS), 20_000, p=_EMOTION_SHARES).astype(np.int32)
    group = rng.choice(len(_GROUP_SHARES), 20_000, p=_GROUP_SHARES).astype(np.int32)
    cells = Cells.of({"emotion": Labels(_LEVELS, codes=emotion), "group": Labels(tuple("abcdefg"), codes=group)})
    found = {}
    for name, beta in _BETAS.items():
        sampler = BalancedSampler(cells, Balance(beta=beta, cap=1000, thin=1), seed=0, epoch_draws=num_draws)
        target = sampler.shares()
        drawn = cells.per_cell(np.bincount(sampler.order(), minlength=cells.num_clips).astype(float))
        test = chisquare(drawn, target * num_draws)
        off = np.abs(drawn / num_draws - target).max()
        found[name] = {"chi_square": test.statistic, "p": test.pvalue, "cells": len(cells), "largest_error": off}
    return found


if __name__ == "__main__":
    sys.exit(main())
