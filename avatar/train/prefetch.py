"""Batches made ahead of the step that needs them, by worker processes, in the order of the steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")
_AHEAD = 4


class _Steps(Dataset[Batch]):
    """The batch of a step as a data set that is indexed by the step."""

    def __init__(self, batch: Callable[[int], Batch]) -> None:
        self._batch = batch

    def __getitem__(self, step: int) -> Batch:
        return self._batch(step)


def batches(batch: Callable[[int], Batch], first: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Steps `first` to `last` - 1 with their batches.

    Args:
        batch: makes the batch of a step; the same step must always give the same batch, whatever was made before it.
        first: step to begin with.
        last: step to end before.

    Yields:
        (step, batch), in order.
    """
    workers = min(8, max(1, (os.cpu_count() or 1) - 1))
    loader = DataLoader(
        _Steps(batch), batch_size=None, sampler=range(first, last), num_workers=workers, prefetch_factor=_AHEAD
    )
    yield from enumerate(loader, first)
