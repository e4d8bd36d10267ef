"""Labels of clips to cells: every combination of labels that occurs, with labels that are uncertain or missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from avatar.errors import OptionError

UNKNOWN = "unknown"
SEPARATOR = " / "
MIN_PROBABILITY = 0.05  # less of a soft label is taken for noise of the labeller


@dataclass(frozen=True)
class Labels:
    """One label of every clip, certain or not.

    Attributes:
        levels: the names it can have.
        probabilities: (N, L) float32; a row without anything positive is unknown. None where labels are certain.
        codes: (N,) index into `levels`, -1 for unknown. None where labels are soft.
    """

    levels: tuple[str, ...]
    probabilities: np.ndarray | None = None
    codes: np.ndarray | None = None

    @classmethod
    def certain(cls, names: Sequence[str | None]) -> Labels:
        """Labels from names; None and the empty string are unknown."""
        levels, codes = np.unique(np.array([name or UNKNOWN for name in names], dtype=object), return_inverse=True)
        return cls(tuple(map(str, levels)), codes=codes.astype(np.int32))

    @classmethod
    def soft(cls, levels: Sequence[str], probabilities: np.ndarray) -> Labels:
        """Labels from probabilities (N, L); NaN counts as zero, and rows need not sum to 1.

        Raises:
            OptionError: another number of columns than levels, or negative numbers.
        """
        given = np.nan_to_num(np.asarray(probabilities, np.float32))
        if given.ndim != 2 or given.shape[1] != len(levels):
            raise OptionError(f"probabilities must be (clips, {len(levels)} levels), not {given.shape}")
        if (given < 0).any():
            raise OptionError("probabilities of labels must not be negative")
        return cls(tuple(levels), probabilities=given)

    def __len__(self) -> int:
        values = self.codes if self.codes is not None else self.probabilities
        assert values is not None
        return len(values)

    def entries(self) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
        """(levels with `unknown`, clips (E,), level (E,), share (E,)); the shares of a clip sum to 1."""
        levels = self.levels if UNKNOWN in self.levels else (*self.levels, UNKNOWN)
        unknown = levels.index(UNKNOWN)
        if self.codes is not None:
            codes = np.where(self.codes < 0, unknown, self.codes)
            return levels, np.arange(len(codes)), codes, np.ones(len(codes), np.float32)
        assert self.probabilities is not None
        total = self.probabilities.sum(axis=1, keepdims=True)
        shares = np.divide(self.probabilities, total, out=np.zeros_like(self.probabilities), where=total > 0)
        peak = shares.max(axis=1, keepdims=True)
        shares[shares < np.minimum(MIN_PROBABILITY, peak)] = 0
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
        clips, level = np.nonzero(shares)
        missing = np.flatnonzero(total[:, 0] <= 0)
        return (
            levels,
            np.concatenate([clips, missing]),
            np.concatenate([level, np.full(len(missing), unknown)]),
            np.concatenate([shares[clips, level], np.ones(len(missing), np.float32)]),
        )


@dataclass(frozen=True)
class Cells:
    """Clips sorted into cells. A clip whose labels are soft is in several, with a share in each.

    Attributes:
        keys: names of the labels.
        levels: for each key, the names that label can have.
        members: (C, K) int32: which level of each key a cell stands for; only cells with a clip are there.
        clips: (E,) int32 clip of each entry, rising.
        cells: (E,) int32 cell of each entry.
        shares: (E,) float32; those of one clip sum to 1.
        num_clips: N.
    """

    keys: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    members: np.ndarray
    clips: np.ndarray
    cells: np.ndarray
    shares: np.ndarray
    num_clips: int

    @classmethod
    def of(cls, labels: Mapping[str, Labels]) -> Cells:
        """Every combination of labels that occurs.

        Args:
            labels: by key, all of the same clips.

        Raises:
            OptionError: no labels, no clips, or labels of different numbers of clips.
        """
        sizes = {key: len(value) for key, value in labels.items()}
        if not sizes or not next(iter(sizes.values())):
            raise OptionError("balancing needs clips and at least one label to balance by")
        if len(set(sizes.values())) > 1:
            raise OptionError(f"the labels are of different numbers of clips: {sizes}")
        num_clips = next(iter(sizes.values()))
        clips, code, share = np.arange(num_clips), np.zeros(num_clips, np.int64), np.ones(num_clips, np.float32)
        levels: list[tuple[str, ...]] = []
        for value in labels.values():
            names, at, level, part = value.entries()
            clips, code, share = _crossed((clips, code, share), (at, level, part), len(names), num_clips)
            levels.append(names)
        order = np.argsort(clips, kind="stable")
        occurring, cells = np.unique(code[order], return_inverse=True)
        members = np.stack(np.unravel_index(occurring, [len(names) for names in levels]), axis=1)
        return cls(
            tuple(labels),
            tuple(levels),
            members.astype(np.int32),
            clips[order].astype(np.int32),
            cells.astype(np.int32),
            share[order],
            num_clips,
        )

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """`"happy / asian"` and so on."""
        return tuple(
            SEPARATOR.join(names[level] for names, level in zip(self.levels, member, strict=True))
            for member in self.members
        )

    @cached_property
    def sizes(self) -> np.ndarray:
        """(C,) expected number of clips."""
        return np.bincount(self.cells, self.shares, len(self)).astype(np.float64)

    def per_clip(self, values: np.ndarray) -> np.ndarray:
        """Values of cells (C,) to clips (N,): the mean over a clip's cells by its shares."""
        return np.bincount(self.clips, self.shares * values[self.cells], self.num_clips)

    def per_cell(self, values: np.ndarray, clips: np.ndarray | None = None) -> np.ndarray:
        """The sum over clips' values, by share, (C,).

        Args:
            values: one for each clip, or for each of `clips`.
            clips: which clips, each as often as it was seen; None for all, once.
        """
        if clips is not None:
            values = np.bincount(clips, values, self.num_clips)
        return np.bincount(self.cells, self.shares * values[self.clips], len(self))

    @cached_property
    def home(self) -> np.ndarray:
        """(N,) the cell each clip belongs to most."""
        order = np.lexsort((-self.shares, self.clips))
        first = np.concatenate([[True], np.diff(self.clips[order]) > 0])
        return self.cells[order][first]

    def independent_sizes(self) -> np.ndarray:
        """(C,) how many clips cells would have if the labels were independent of one another."""
        expected = np.full(len(self), float(self.num_clips))
        for column, names in zip(self.members.T, self.levels, strict=True):
            expected *= np.bincount(column, self.sizes, len(names))[column] / self.num_clips
        return expected


def turns(cells: np.ndarray) -> np.ndarray:
    """(n,) of each item how many of its cell came before it; `cells` (n,) says where it belongs."""
    order = np.argsort(cells, kind="stable")
    counts = np.bincount(cells)
    within = np.empty(len(cells), np.int64)
    within[order] = np.arange(len(cells)) - (np.cumsum(counts) - counts)[cells[order]]
    return within


Entries = tuple[np.ndarray, np.ndarray, np.ndarray]


def _crossed(entries: Entries, added: Entries, num_levels: int, num_clips: int) -> Entries:
    """Entries (clip, code, share) with a further label: each once for every level the clip may have."""
    clips, code, share = entries
    at, level, part = added
    order = np.argsort(at, kind="stable")
    counts = np.bincount(at, minlength=num_clips)
    first = np.concatenate([[0], np.cumsum(counts)])[clips]
    repeats = counts[clips]
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    source = order[np.repeat(first, repeats) + within]
    return (
        np.repeat(clips, repeats),
        np.repeat(code, repeats) * num_levels + level[source],
        np.repeat(share, repeats) * part[source],
    )
