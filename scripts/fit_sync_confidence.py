"""Prints what the constants of avatar/data/sync/agreement.py and the limit on `sync_margin` come from, on synthetic speech.

RUN_DIR is what scripts/train_embedded.py leaves, CORPUS the synthetic speech it was made of: the cache has no loudness, so that is
measured from the sound again. Utterances that the sync model was not trained on; lips as a tracker would see them; each
with its own sound, with another's, and with another's from the middle on.

    python scripts/fit_sync_confidence.py RUN_DIR CORPUS [--skip 25] [--shards 10]

For likeness, prominence and loudness: mean and spread; the weight of the loudness beside the likeness by Fisher's linear
discriminant, with the two as they vary together and as if they were independent; how often own sound is above the others, on
held-out voices; how alike strange sound is by length, and, of what is more alike than that, what 95 % of strange sounds stay below
and how much of the own sound does.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from avatar.audio.loudness import loudness_per_frame
from avatar.data.scorers.sync import sync_of
from avatar.data.sync.agreement import LOUDNESS_WEIGHT, strange_level
from avatar.data.sync.envelope import correlation_at
from avatar.data.sync.model import SyncModel
from avatar.train.motion_cache import ITEMS_PER_SHARD, ItemMaker, load_items
from avatar.train.sync import as_tracked, sync_items
from avatar.types import DEFAULT_FPS

LEAST_FRAMES, MOST_FRAMES = 45, 250
NAMES = ("likeness", "prominence", "loudness")
KINDS = ("own", "other", "half")
LENGTHS = (0, 75, 100, 150, 1000)  # frames


@dataclass(frozen=True)
class Spoken:
    """An utterance at 25 fps: (T, D) speech features, (T, 12) lips, (T,) loudness."""

    features: np.ndarray
    lips: np.ndarray
    loudness: np.ndarray

    def cut(self, first: int, count: int) -> Spoken:
        window = slice(first, first + count)
        return Spoken(self.features[window], self.lips[window], self.loudness[window])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--skip", type=int, default=25, help="shards of the cache that the model was trained on")
    parser.add_argument("--shards", type=int, default=10)
    arguments = parser.parse_args()
    model = SyncModel.load()
    fitted = measured(
        model, spoken(arguments, "train", arguments.skip, arguments.shards), 700, np.random.default_rng(0)
    )
    held_out = measured(model, spoken(arguments, "held-out", 0, 2), 500, np.random.default_rng(1))
    for kind in KINDS:
        words = [
            f"{name} {mean:.3f} ± {spread:.3f}"
            for name, mean, spread in zip(NAMES, *_spread(fitted[kind][:, :3]), strict=True)
        ]
        print(f"{kind:6} {', '.join(words)}")
    together, apart = discriminant(fitted["own"][:, [0, 2]], fitted["other"][:, [0, 2]])
    print(f"weight of the loudness: {together:.3f} as they vary together, {apart:.3f} as if independent")
    for words, weights in (
        ("prominence", (0, 1, 0)),
        ("likeness", (1, 0, 0)),
        ("likeness and loudness", (1, 0, LOUDNESS_WEIGHT)),
    ):
        own, other, half = (held_out[kind] @ np.array((*weights, 0)) for kind in KINDS)
        print(
            f"held out, {words}: own above another's {auc(own, other):.4f}, above half of another's {auc(own, half):.4f}"
        )
    print_by_length(fitted)
    return 0


def print_by_length(rows: dict[str, np.ndarray]) -> None:
    """The level of strange sound as a + b / sqrt(frames), and margins by length."""
    other = rows["other"]
    terms = np.stack([np.ones(len(other)), 1 / np.sqrt(other[:, 3])], axis=1)
    long, short = np.linalg.lstsq(terms, other[:, 0], rcond=None)[0]
    print(f"strange sound is alike by {long:.3f} + {short:.3f} / sqrt(frames)")
    margins = {kind: row[:, 0] - [strange_level(int(n)) for n in row[:, 3]] for kind, row in rows.items()}
    limit = np.percentile(margins["other"], 95)
    print(
        f"margin that 95 % of strange sounds stay below: {limit:.3f}; own sound below it {share(margins['own'] < limit)}"
    )
    for low, high in pairwise(LENGTHS):
        own, strange = (margins[kind][(rows[kind][:, 3] >= low) & (rows[kind][:, 3] < high)] for kind in KINDS[:2])
        print(f"  {low} to {high} frames: own below {share(own < limit)}, strange above {share(strange >= limit)}")


def share(chosen: np.ndarray) -> str:
    return f"{np.mean(chosen):.3f} ({chosen.sum()} of {len(chosen)})"


def spoken(arguments: argparse.Namespace, split: str, first: int, shards: int) -> list[Spoken]:
    """The utterances of some shards with their loudness."""
    maker = ItemMaker(arguments.corpus, split, seed=0)
    made = []
    for index, item in enumerate(load_items(arguments.run / "cache" / split, first + shards)):
        if index < first * ITEMS_PER_SHARD:
            continue
        for pair in sync_items([item]):
            if len(pair.lips) >= LEAST_FRAMES:
                loudness = loudness_per_frame(maker.heard(index), len(pair.lips), DEFAULT_FPS)
                made.append(Spoken(pair.sound, pair.lips, loudness))
    sys.stderr.write(f"{split}: {len(made)} utterances\n")
    return made


def measured(model: SyncModel, items: list[Spoken], count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Kind of sound to (n, 4): likeness, prominence and loudness at the best offset, and over how many frames."""
    rows: dict[str, list[tuple[float, float, float, int]]] = {kind: [] for kind in KINDS}
    for _ in range(count):
        item, other = (items[rng.integers(len(items))] for _ in range(2))
        frames = int(min(len(item.lips), rng.integers(LEAST_FRAMES, MOST_FRAMES)))
        if len(other.lips) < frames:
            continue
        item = item.cut(int(rng.integers(0, len(item.lips) - frames + 1)), frames)
        other = other.cut(int(rng.integers(0, len(other.lips) - frames + 1)), frames)
        lips, found = as_tracked(item.lips, items[rng.integers(len(items))].lips, rng)
        half = frames // 2
        features = np.concatenate([item.features[:half], other.features[half:]])
        loudness = np.concatenate([item.loudness[:half], other.loudness[half:]])
        for kind, sound in zip(KINDS, (item, other, Spoken(features, lips, loudness)), strict=True):
            result = sync_of(model, sound.features, lips, found > 0)
            if result is not None:
                heard, _ = correlation_at(result.offset_frames, lips[:, 0], found > 0, sound.loudness)
                rows[kind].append((1 - result.distance, result.confidence, heard, result.num_windows))
    return {kind: np.array(values) for kind, values in rows.items()}


def discriminant(own: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Weight of the second of two measures where the first has 1: by Fisher's discriminant, and by its diagonal."""
    within, apart = (np.cov(own.T) + np.cov(other.T)) / 2, own.mean(axis=0) - other.mean(axis=0)
    together, diagonal = np.linalg.solve(within, apart), apart / np.diag(within)
    return float(together[1] / together[0]), float(diagonal[1] / diagonal[0])


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), values.std(axis=0)


def auc(high: np.ndarray, low: np.ndarray) -> float:
    """How often a value of the first is above one of the second."""
    return float(np.mean((high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])))


if __name__ == "__main__":
    sys.exit(main())
