"""The learning rate over a run."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, warmup_steps: int, steps: int, kind: str = "cosine") -> float:
    """Linear warm-up, then a cosine down to 2 %; or `"linear"` to 0, or `"constant"`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return max(0.0, 1.0 - done)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
