"""Cells that are learned badly are drawn more often: multiplicative weights from the validation loss.

The precedent is MAGI-1's adjustment of the data distribution from evaluation results (arXiv 2505.13211, section 3.5); the
update is that of Y. Freund and R. Schapire, "A Decision-Theoretic Generalization of On-Line Learning", 1997, with a memory that
fades, or a cell that was hard at first would be drawn often for good, however well it is learned by now.
"""

from __future__ import annotations

import numpy as np

from avatar.errors import OptionError

_KEPT = 0.5  # of the logarithm of a factor, from one update to the next


class DynamicBalance:
    """A factor for each cell, 1 at first, which follows how much worse than the mean a cell is.

    Args:
        num_cells: C.
        rate: how fast: a cell whose loss is twice the mean gains a factor of e^rate per update, and ends at e^(2 rate).
        ceiling: the factor stays within 1 / ceiling and ceiling.
        memory: share of the old figure in the smoothed loss, since a cell's validation clips are few.

    Raises:
        OptionError: a number out of range.
    """

    def __init__(self, num_cells: int, *, rate: float = 0.5, ceiling: float = 4.0, memory: float = 0.5) -> None:
        if rate < 0 or ceiling < 1 or not 0 <= memory < 1:
            raise OptionError(
                f"dynamic balancing needs rate >= 0, ceiling >= 1 and memory in [0, 1), not {rate}, {ceiling}, {memory}"
            )
        self._rate, self._limit, self._memory = rate, float(np.log(ceiling)), memory
        self._log = np.zeros(num_cells)
        self._loss = np.full(num_cells, np.nan)

    @property
    def factors(self) -> np.ndarray:
        """(C,), within 1 / ceiling and ceiling."""
        return np.exp(self._log)

    def update(self, losses: np.ndarray) -> None:
        """Takes the cells' validation losses (C,), NaN where nothing was measured; those cells keep their factor."""
        measured = np.isfinite(losses)
        old = np.where(np.isfinite(self._loss), self._loss, losses)
        self._loss = np.where(measured, self._memory * old + (1 - self._memory) * losses, self._loss)
        if not measured.any():
            return
        mean = float(self._loss[measured].mean())
        step = self._rate * (self._loss[measured] / max(mean, 1e-12) - 1)
        self._log[measured] = np.clip(_KEPT * self._log[measured] + step, -self._limit, self._limit)

    def state_dict(self) -> dict[str, list[float]]:
        return {"log_factors": self._log.tolist(), "losses": self._loss.tolist()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._log, self._loss = np.array(state["log_factors"]), np.array(state["losses"], float)
