"""Does a mouth close at every /p b m/ that is spoken, where the phones and their times are known?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from avatar.data.synthetic.phones import PHONE_INDEX
from avatar.data.synthetic.synthesise import Utterance
from avatar.evaluate.face_track import CLOSED_BELOW

BILABIALS = tuple(PHONE_INDEX[name] for name in ("p", "b", "m"))
TOLERANCE_S = 0.060


def bilabials_closed(opening: np.ndarray, utterance: Utterance, fps: float) -> np.ndarray:
    """For each /p b m/ of an utterance, whether the lips close (`CLOSED_BELOW`) during it or within 60 ms of it.

    Args:
        opening: (T,) parts of the outer-eye distance, of the mouth that says it.
        utterance: with its phone times.
        fps: of the opening; a frame stands for its middle.

    Returns:
        (K,) bool.
    """
    middle_s = (np.arange(len(opening)) + 0.5) / fps
    closed = opening < CLOSED_BELOW
    return np.array(
        [
            bool(closed[(middle_s >= start - TOLERANCE_S) & (middle_s <= end + TOLERANCE_S)].any())
            for start, end in _bilabial_times(utterance)
        ],
        dtype=bool,
    )


def _bilabial_times(utterance: Utterance) -> Iterable[tuple[float, float]]:
    starts = np.concatenate([[0.0], utterance.ends_s[:-1]])
    for phone, start, end in zip(utterance.phones, starts, utterance.ends_s, strict=True):
        if phone in BILABIALS and end > start:
            yield float(start), float(end)
