"""The order in which clips are drawn: balanced over cells, a function of (seed, epoch), shared out among ranks.

Draws are stratified: over an epoch every clip comes up its expected number of times, rounded up or down, and so does every
cell. Without balancing an epoch is therefore a permutation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from avatar.data.sampling.cells import Cells
from avatar.data.sampling.weights import DEFAULT_CAP, DEFAULT_THIN, beta_for, capped, class_weights, smoothed_sizes
from avatar.errors import OptionError


@dataclass(frozen=True)
class Balance:
    """How much is balanced, and when.

    Attributes:
        beta: of the effective number; 0 draws every clip equally often, 1 every cell; None chooses it from the cells' sizes.
        cap: no clip is drawn more than this many times as often as without balancing.
        thin: cells of fewer clips borrow from their margins.
        anneal: (first, last) epoch between which natural sampling gives way to balanced sampling, linearly, or at once where
            they are the same: representations are learned from all data, the tail is evened out later (K. Cao et al., arXiv
            1906.07413, deferred re-balancing).
    """

    beta: float | None = None
    cap: float = DEFAULT_CAP
    thin: float = DEFAULT_THIN
    anneal: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.beta is not None and not 0 <= self.beta <= 1:
            raise OptionError(f"beta must lie between 0 and 1, not {self.beta}")
        if not self.cap >= 1:
            raise OptionError(f"the cap on weights must be 1 or more, not {self.cap}")
        if len(self.anneal) != 2 or self.anneal[1] < self.anneal[0]:
            raise OptionError(f"anneal is a first and a last epoch, not {self.anneal}")

    def share(self, epoch: int) -> float:
        """How much of the draws is balanced in an epoch, in [0, 1]."""
        first, last = self.anneal
        if epoch >= last:
            return 1.0
        return max(0.0, (epoch - first) / (last - first)) if last > first else 0.0


class BalancedSampler:
    """Draws clips epoch by epoch.

    The place in the epoch moves when `advance` says so, not when draws are looked at, so that batches may be made ahead.

    Args:
        cells: the clips.
        balance: how.
        seed: of all draws.
        rank, num_ranks: this process takes every `num_ranks`-th draw, beginning with the `rank`-th.
        epoch_draws: draws of an epoch, over all ranks; None for as many as there are clips.
        buckets: (N,) int, clips that can be in one batch; None for all.
        batch_draws: draws of a batch, over all ranks; with buckets each run of so many draws is of one bucket.

    Raises:
        OptionError: numbers out of range.
    """

    def __init__(
        self,
        cells: Cells,
        balance: Balance,
        *,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        epoch_draws: int | None = None,
        buckets: np.ndarray | None = None,
        batch_draws: int = 1,
    ) -> None:
        if not 0 <= rank < num_ranks:
            raise OptionError(f"rank must lie between 0 and {num_ranks - 1}, not {rank}")
        if batch_draws < 1 or (epoch_draws is not None and epoch_draws < 1):
            raise OptionError(f"an epoch and a batch need draws, not {epoch_draws} and {batch_draws}")
        self.cells, self.balance = cells, balance
        wanted = cells.num_clips if epoch_draws is None else epoch_draws
        self.epoch_draws = -(-wanted // batch_draws) * batch_draws
        sizes = smoothed_sizes(cells, balance.thin)
        self.beta = beta_for(cells.sizes) if balance.beta is None else balance.beta
        self._balanced = class_weights(sizes, self.beta, cap=balance.cap, counts=cells.sizes)
        self._seed, self._rank, self._num_ranks, self._batch = seed, rank, num_ranks, batch_draws
        self._buckets = None if buckets is None else np.asarray(buckets)
        self._factors = np.ones(len(cells))
        self._next_factors = self._factors
        self._order: tuple[int, np.ndarray] | None = None
        self.epoch, self.cursor = 0, 0

    def weights(self) -> np.ndarray:
        """(C,) how often a clip of each cell comes up in this epoch, in multiples of natural sampling."""
        share = self.balance.share(self.epoch)
        mixed = (1 - share) + share * self._balanced
        return capped(mixed * self._factors, self.cells.sizes, self.balance.cap)

    def shares(self) -> np.ndarray:
        """(C,) of the draws of this epoch that fall into each cell; they sum to 1."""
        mass = self.weights() * self.cells.sizes
        return mass / mass.sum()

    def probabilities(self) -> np.ndarray:
        """(N,) of each clip in this epoch; they sum to 1."""
        each = self.cells.per_clip(self.weights())
        return each / each.sum()

    def order(self) -> np.ndarray:
        """(epoch_draws,) int32: the clips of this epoch, for all ranks together, always the same for (seed, epoch, factors)."""
        if self._order is None or self._order[0] != self.epoch:
            self._order = self.epoch, self._drawn()
        return self._order[1]

    def remaining(self) -> np.ndarray:
        """This rank's clips of this epoch that are still to come."""
        return self.order()[self.cursor + self._rank :: self._num_ranks]

    def __iter__(self) -> Iterator[int]:
        return iter(self.remaining().tolist())

    def __len__(self) -> int:
        return len(self.remaining())

    def advance(self, draws: int) -> None:
        """Says that the next `draws` draws of all ranks together are done; at the epoch's end the next one begins.

        Raises:
            OptionError: more than are left.
        """
        if not 0 <= draws <= self.epoch_draws - self.cursor:
            raise OptionError(f"{draws} draws are not left of this epoch ({self.epoch_draws - self.cursor} are)")
        self.cursor += draws
        if self.cursor == self.epoch_draws:
            self.epoch, self.cursor, self._factors = self.epoch + 1, 0, self._next_factors

    def reweight(self, factors: np.ndarray) -> None:
        """Factors (C,) on the cells from the next epoch on, see `DynamicBalance`."""
        self._next_factors = np.asarray(factors, np.float64).copy()
        if self.cursor == 0:
            self._factors, self._order = self._next_factors, None

    def state_dict(self) -> dict[str, Any]:
        """Where the draws are, for `load_state_dict` of a sampler over the same clips; plain numbers and lists."""
        return {
            "epoch": self.epoch,
            "cursor": self.cursor,
            "epoch_draws": self.epoch_draws,
            "num_clips": self.cells.num_clips,
            "factors": self._factors.tolist(),
            "next_factors": self._next_factors.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another sampler stopped; the number of ranks may differ.

        Raises:
            OptionError: that one drew from other clips, or other cells.
        """
        own = (self.epoch_draws, self.cells.num_clips, len(self.cells))
        other = (state["epoch_draws"], state["num_clips"], len(state["factors"]))
        if own != other:
            raise OptionError(
                f"the sampler's state is of {other[0]} draws an epoch over {other[1]} clips in {other[2]} cells, and there are "
                f"{own[0]} over {own[1]} in {own[2]} now; the clips or their labels have changed: start a new run"
            )
        self.epoch, self.cursor = int(state["epoch"]), int(state["cursor"])
        self._factors, self._next_factors = np.array(state["factors"]), np.array(state["next_factors"])
        self._order = None

    def _drawn(self) -> np.ndarray:
        rng = np.random.default_rng((self._seed, 11, self.epoch))
        probabilities = self.probabilities()
        arranged = self._arranged(rng)
        if self._buckets is None:
            return rng.permutation(_systematic(arranged, probabilities, self.epoch_draws, rng))
        buckets = self._buckets[arranged]
        names, at = np.unique(buckets, return_inverse=True)
        mass = np.bincount(at, probabilities[arranged], len(names))
        batches = _systematic(np.arange(len(names)), mass, self.epoch_draws // self._batch, rng)
        order = np.empty((len(batches), self._batch), np.int32)
        places = rng.permutation(batches)
        for bucket in range(len(names)):
            rows = np.flatnonzero(places == bucket)
            if len(rows):
                drawn = _systematic(arranged[at == bucket], probabilities, len(rows) * self._batch, rng)
                order[rows] = rng.permutation(drawn).reshape(len(rows), self._batch)
        return order.ravel()

    def _arranged(self, rng: np.random.Generator) -> np.ndarray:
        """All clips by cell, cells and the clips of each in random order."""
        shuffled = rng.permutation(self.cells.num_clips).astype(np.int32)
        place = rng.permutation(len(self.cells))
        return shuffled[np.argsort(place[self.cells.home[shuffled]], kind="stable")]


def _systematic(items: np.ndarray, probabilities: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the items, each its expected number of times, rounded up or down; so does every run of neighbours.

    Source: W. Madow and L. Madow, "On the Theory of Systematic Sampling", 1944.
    """
    upper = np.cumsum(probabilities[items])
    points = (rng.random() + np.arange(count)) * (upper[-1] / count)
    return items[np.searchsorted(upper, points, side="right").clip(0, len(items) - 1)].astype(np.int32)
