"""The samples of an epoch by their place in it, made ahead by worker processes."""

from __future__ import annotations

import os

import numpy as np
from torch.utils.data import DataLoader, Dataset, default_collate

from avatar.train.task import Sample, Task, rng_of

_MAX_WORKERS, _AHEAD = 8, 4


class Draws(Dataset[Sample]):
    """Samples whose chance comes from (seed, epoch, place) alone, or from another number than the place.

    Args:
        task: makes them.
        order: clips of the epoch.
        epoch, seed: as named.
        training: see `Task.sample`.
        chances: (draws,) int, draws with the same number have the same crop, noise and noise level; None for the place.
    """

    def __init__(
        self,
        task: Task,
        order: np.ndarray,
        epoch: int,
        seed: int,
        *,
        training: bool,
        chances: np.ndarray | None = None,
    ) -> None:
        self._task, self._order, self._epoch, self._seed, self._training = task, order, epoch, seed, training
        self._chances = chances

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> Sample:
        chance = place if self._chances is None else int(self._chances[place])
        rng = rng_of(self._seed, self._epoch, chance)
        return self._task.sample(int(self._order[place]), rng, training=self._training)

    def batches(self, places: list[list[int]], workers: int, *, pinned: bool) -> DataLoader[Sample]:
        """Batches of the given places.

        Args:
            places: of each batch.
            workers: processes that make them; 0 for none, -1 chooses.
            pinned: whether they are to be copied to a GPU.
        """
        if workers < 0:
            workers = min(_MAX_WORKERS, max(1, (os.cpu_count() or 1) - 1))
        return DataLoader(
            self,
            batch_sampler=places,
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            collate_fn=default_collate,
            pin_memory=pinned,
        )
