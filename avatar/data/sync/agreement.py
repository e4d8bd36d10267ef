"""How surely a sound belongs to the lips: how alike the two are, how the loudness goes with them, and what strange sound reaches.

How far the best offset stands out from the others (`lag_curve.judge`, SyncNet's confidence) says how sure the offset is. Whether it
is the right sound at all is told better by the likeness itself: a steady face, or a short clip, is alike at every offset.
"""

from __future__ import annotations

import math

import numpy as np

from avatar.data.sync.envelope import correlation_at
from avatar.data.sync.lag_curve import SyncResult

# All from swapped and own sounds of the synthetic corpus (scripts/fit_sync_confidence.py): the weight is that of a linear
# discriminant that takes the two as independent; the level is what swapped sounds have, over all lengths and by length.
LOUDNESS_WEIGHT = 0.08
_STRANGE_LEVEL = 0.31
_LONG_LEVEL, _SHORT_EXCESS = 0.22, 0.76


def agreement(result: SyncResult, opening: np.ndarray, found: np.ndarray, loudness: np.ndarray) -> float:
    """About 0 for somebody else's sound, 0.2 to 0.3 for the speaker's own, whatever the length.

    Args:
        result: what the model found; only its own offset is looked at.
        opening: (T,) lip opening, any unit.
        found: (T,) bool: frames that count.
        loudness: (S,) per video frame.
    """
    correlation, _ = correlation_at(result.offset_frames, opening, found, loudness)
    return 1.0 - result.distance + LOUDNESS_WEIGHT * correlation - _STRANGE_LEVEL


def margin(result: SyncResult) -> float:
    """How much more alike lips and sound are than lips and somebody else's sound of that length: what a limit should ask for.

    The best of 31 offsets is the higher by chance the fewer frames each is measured over.
    """
    return 1.0 - result.distance - strange_level(result.num_windows)


def strange_level(num_windows: int) -> float:
    """Mean likeness, at the best offset, of lips and somebody else's sound over so many frames."""
    return _LONG_LEVEL + _SHORT_EXCESS / math.sqrt(num_windows)
