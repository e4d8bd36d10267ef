"""How surely a sound belongs to the lips: our model's confidence, from how alike the two are and how the loudness goes with them.

How far the best offset stands out from the others (`lag_curve.judge`, SyncNet's confidence) says how sure the offset is. Whether it
is the right sound at all is told better by the likeness itself: a steady face, or a short clip, is alike at every offset.
"""

from __future__ import annotations

import numpy as np

from avatar.data.sync.envelope import correlation_at
from avatar.data.sync.lag_curve import SyncResult

# Both from swapped and own sounds of the synthetic corpus (scripts/fit_sync_confidence.py): the weight is that of a linear
# discriminant that takes the two as independent; the level is what swapped sounds have.
LOUDNESS_WEIGHT = 0.1
_STRANGE_LEVEL = 0.31


def agreement(result: SyncResult, opening: np.ndarray, found: np.ndarray, loudness: np.ndarray) -> float:
    """About 0 for somebody else's sound, 0.2 to 0.3 for the speaker's own.

    Args:
        result: what the model found; only its own offset is looked at.
        opening: (T,) lip opening, any unit.
        found: (T,) bool: frames that count.
        loudness: (S,) per video frame.
    """
    correlation, _ = correlation_at(result.offset_frames, opening, found, loudness)
    return 1.0 - result.distance + LOUDNESS_WEIGHT * correlation - _STRANGE_LEVEL
