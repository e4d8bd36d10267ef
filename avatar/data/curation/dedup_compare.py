"""Two clips' fingerprints to a verdict: is one a copy of the other?

What counts is what copies share and other clips of the same person in the same room do not: how things move, and what
is heard, at one time shift. Frame hashes only say whether it can be the same picture at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from avatar.data.scorers.fingerprints import AUDIO_HZ, HASHED_FRAMES, MOTION_HZ, MOTION_ROWS, mirrored

# Set between copies (re-encoded, halved, mirrored, cropped by a tenth on each side, shifted by 2 s) and different
# parts of the same recordings; scripts/measure_duplicates.py prints both.
SAME_PICTURE_BITS = 18.0
SAME_STILL_BITS = 4.0
SAME_MOTION = 0.83
LIKELY_MOTION = 0.6
SAME_SOUND = 0.3  # share of bits that differ; 0.5 is chance
SAME_EMBEDDING = 0.95
MIN_OVERLAP_S = 2.0
_SAME_LAG_S = 0.25
_STILL = 3.0  # steps of log2: a motion print that varies less says nothing
_MIN_CODES = 20  # codes that are not quiet in the overlap


@dataclass(frozen=True)
class Prints:
    """One clip's fingerprints as arrays; None where not measured.

    Attributes:
        hashes: (8,) uint64.
        crops: (c, 8) uint64.
        motion: (n, 4) float32.
        audio: (n,) uint32.
        embedding: (d,) float32.
    """

    hashes: np.ndarray | None
    crops: np.ndarray | None
    motion: np.ndarray | None
    audio: np.ndarray | None
    embedding: np.ndarray | None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Prints:
        """From a row of the manifest."""
        hashes, crops, motion, audio = (row.get(n) for n in ("phash8", "phash_crops", "motion_fp", "audio_fp"))
        embedding = row.get("embedding")
        return cls(
            None if hashes is None else np.frombuffer(hashes, np.uint64),
            None if crops is None else np.frombuffer(crops, np.uint64).reshape(-1, HASHED_FRAMES),
            None if motion is None else np.frombuffer(motion, np.int8).reshape(-1, MOTION_ROWS).astype(np.float32),
            None if audio is None else np.frombuffer(audio, np.uint32),
            None if embedding is None else np.array(embedding, np.float32),
        )


@dataclass(frozen=True)
class Likeness:
    """What two clips have in common; None where it cannot be told.

    Attributes:
        picture_bits: bits by which frame hashes differ, mirrored and cropped frames allowed; median over the frames.
        cosine: of the embeddings.
        motion: correlation of the motion prints at the best shift.
        sound: share of bits of the sound's codes that differ at the best shift.
        lags_agree: whether motion and sound see about the same shift; True where one is absent.
    """

    picture_bits: float | None
    cosine: float | None
    motion: float | None
    sound: float | None
    lags_agree: bool

    @property
    def is_copy(self) -> bool:
        """Whether the two are copies of one clip."""
        same_sound = self.sound is not None and self.sound <= SAME_SOUND
        other_sound = self.sound is not None and not same_sound
        if self.motion is None:  # nothing moves: the same still, with the same sound or none
            close = self.picture_bits is not None and self.picture_bits <= SAME_STILL_BITS
            return close and not other_sound
        if self.looks_same and (self.motion >= SAME_MOTION or (same_sound and self.motion >= LIKELY_MOTION)):
            return True
        return same_sound and self.motion >= LIKELY_MOTION and self.lags_agree

    @property
    def looks_same(self) -> bool:
        """Whether it can be the same picture."""
        by_hash = self.picture_bits is not None and self.picture_bits <= SAME_PICTURE_BITS
        return by_hash or (self.cosine is not None and self.cosine >= SAME_EMBEDDING)

    @property
    def similarity(self) -> float:
        """In [0, 1]: the mean of what was measured, each from chance (0) to equality (1)."""
        parts = [] if self.picture_bits is None else [1 - self.picture_bits / 32]
        parts += [] if self.motion is None else [self.motion]
        parts += [] if self.sound is None else [1 - 2 * self.sound]
        return float(np.clip(np.mean(parts), 0.0, 1.0)) if parts else 0.0


def compare(one: Prints, other: Prints) -> Likeness:
    """What two clips have in common; the order does not matter."""
    motion, motion_lag_s = _motion(one.motion, other.motion)
    sound, sound_lag_s = _sound(one.audio, other.audio)
    agree = motion_lag_s is None or sound_lag_s is None or abs(motion_lag_s - sound_lag_s) <= _SAME_LAG_S
    return Likeness(_picture(one, other), _cosine(one.embedding, other.embedding), motion, sound, agree)


def _picture(one: Prints, other: Prints) -> float | None:
    if one.hashes is None or other.hashes is None:
        return None
    views = [(one.hashes, other.hashes), (one.hashes, mirrored(other.hashes))]
    for crops, whole in ((one.crops, other.hashes), (other.crops, one.hashes)):
        if crops is not None:
            views += [(crop, view) for crop in crops for view in (whole, mirrored(whole))]
    return min(_hash_distance(first, second) for first, second in views)


def _hash_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Median over frames of the bits by which the most alike frame of the other clip differs, the worse way round."""
    bits = _popcount((first[:, None] ^ second[None]).view(np.uint16)).reshape(len(first), len(second), 4).sum(axis=2)
    return float(max(np.median(bits.min(axis=1)), np.median(bits.min(axis=0))))


def _cosine(one: np.ndarray | None, other: np.ndarray | None) -> float | None:
    if one is None or other is None or one.shape != other.shape:
        return None
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))


def _motion(one: np.ndarray | None, other: np.ndarray | None) -> tuple[float | None, float | None]:
    """The highest correlation over all shifts with enough overlap, and that shift in seconds."""
    if one is None or other is None or max(one.std(axis=0).max(), other.std(axis=0).max()) < _STILL:
        return None, None
    best, best_lag = -1.0, 0
    for lag in _lags(len(one), len(other), MOTION_HZ):
        a, b = _overlapping(one, other, lag)
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
        value = float((a * b).sum()) / scale if scale > 0 else 0.0
        if value > best:
            best, best_lag = value, lag
    return best, best_lag / MOTION_HZ


def _sound(one: np.ndarray | None, other: np.ndarray | None) -> tuple[float | None, float | None]:
    """The lowest share of differing bits over all shifts with enough overlap, and that shift in seconds."""
    if one is None or other is None or min((one != 0).sum(), (other != 0).sum()) < _MIN_CODES:
        return None, None
    bits = _popcount((one[:, None] ^ other[None]).view(np.uint16)).reshape(len(one), len(other), 2).sum(axis=2)
    heard = (one[:, None] != 0) & (other[None] != 0)
    # where lag = i - j, one[i] lies beside other[j]
    place = np.arange(len(one))[:, None] - np.arange(len(other))[None] + len(other) - 1
    counts = np.bincount(place[heard], minlength=len(one) + len(other) - 1)
    differing = np.bincount(place[heard], weights=bits[heard], minlength=len(counts))
    allowed = np.zeros(len(counts), bool)
    allowed[np.array(list(_lags(len(one), len(other), AUDIO_HZ))) + len(other) - 1] = True
    allowed &= counts >= _MIN_CODES
    if not allowed.any():
        return None, None
    share = np.where(allowed, differing / (32 * np.maximum(counts, 1)), 1.0)
    best = int(share.argmin())
    return float(share[best]), (best - len(other) + 1) / AUDIO_HZ


def _lags(length: int, other_length: int, rate_hz: float) -> range:
    """Shifts that leave an overlap of two seconds, or of the shorter clip where it is shorter."""
    needed = min(round(MIN_OVERLAP_S * rate_hz), length, other_length)
    return range(-(other_length - needed), length - needed + 1)


def _overlapping(one: np.ndarray, other: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts that lie beside each other where one[lag] lies beside other[0]."""
    start, stop = max(0, lag), min(len(one), len(other) + lag)
    return one[start:stop], other[start - lag : stop - lag]


def _popcount(words: np.ndarray) -> np.ndarray:
    return _bits_of_16()[words]


@cache
def _bits_of_16() -> np.ndarray:
    return np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1)
