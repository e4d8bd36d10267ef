"""Two clips' fingerprints to a verdict: is one a copy of the other?

What counts is what copies share and other clips of the same person in the same room do not: how things move, and what
is heard, at one time shift. Frame hashes only say whether it can be the same picture at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from avatar.data.scorers.fingerprints import AUDIO_HZ, HASHED_FRAMES, MOTION_HZ, MOTION_ROWS, mirrored

# Set between copies (re-encoded, halved, mirrored, cropped by a tenth on each side, shifted by 2 s) and different
# parts of the same recordings; scripts/measure_duplicates.py prints both. Talking heads also move alike by chance: of 30,000
# pairs of other clips, the most alike at any shift reached 0.89 over two seconds and 0.83 over three, copies 0.93 and more.
SAME_PICTURE_BITS = 18.0
SAME_STILL_BITS = 4.0
SAME_MOTION = 0.83
DUBBED_MOTION = 0.9  # where both have sound, and not the same
LIKELY_MOTION = 0.6
SAME_SOUND = 0.3  # share of bits that differ; 0.5 is chance
SAME_EMBEDDING = 0.95
MIN_OVERLAP_S = {MOTION_HZ: 3.0, AUDIO_HZ: 2.0}  # by the rate of what is compared
_SAME_LAG_S = 0.6  # between picture and sound: a copy may be out of sync
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
        motion: correlation of the motion prints at the best shift; where the sound is the same, at the sound's shift.
        sound: share of bits of the sound's codes that differ at the best shift.
    """

    picture_bits: float | None
    cosine: float | None
    motion: float | None
    sound: float | None

    @property
    def is_copy(self) -> bool:
        """Whether the two are copies of one clip."""
        other_sound = self.sound is not None and self.sound > SAME_SOUND
        if self.motion is None:  # nothing moves: the same still, with the same sound or none
            close = self.picture_bits is not None and self.picture_bits <= SAME_STILL_BITS
            return close and not other_sound
        if self.sound is None or other_sound:
            return self.looks_same and self.motion >= (DUBBED_MOTION if other_sound else SAME_MOTION)
        return self.motion >= LIKELY_MOTION

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
    return _with_motion(one, other, *_without_motion(one, other))


def are_copies(one: Prints, other: Prints) -> bool:
    """As `compare(one, other).is_copy`; most pairs that only share a key are told apart by what is quick to compare."""
    first, lag_s = _without_motion(one, other)
    if not first.looks_same and lag_s is None:
        return False
    return _with_motion(one, other, first, lag_s).is_copy


def _without_motion(one: Prints, other: Prints) -> tuple[Likeness, float | None]:
    """What is quick to compare, and the sound's shift in seconds where the sound is the same."""
    sound, lag_s = _sound(one.audio, other.audio)
    likeness = Likeness(_picture(one, other), _cosine(one.embedding, other.embedding), None, sound)
    return likeness, lag_s if sound is not None and sound <= SAME_SOUND else None


def _with_motion(one: Prints, other: Prints, likeness: Likeness, lag_s: float | None) -> Likeness:
    return replace(likeness, motion=_motion(one.motion, other.motion, lag_s))


def _picture(one: Prints, other: Prints) -> float | None:
    if one.hashes is None or other.hashes is None:
        return None
    views = [(one.hashes, other.hashes), (one.hashes, mirrored(other.hashes))]
    for crops, whole in ((one.crops, other.hashes), (other.crops, one.hashes)):
        if crops is not None:
            flipped = mirrored(whole)
            views += [(crop, view) for crop in crops for view in (whole, flipped)]
    return float(_hash_distances(np.stack([a for a, _ in views]), np.stack([b for _, b in views])).min())


def _hash_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of (V, n) and (V, m) hashes, (V,): the median over frames of the bits by which the most alike frame of the other
    clip differs, the worse way round."""
    bits = _popcount((first[:, :, None] ^ second[:, None]).view(np.uint16))
    bits = bits.reshape(*first.shape, second.shape[1], 4).sum(axis=3)
    return np.maximum(np.median(bits.min(axis=2), axis=1), np.median(bits.min(axis=1), axis=1))


def _cosine(one: np.ndarray | None, other: np.ndarray | None) -> float | None:
    if one is None or other is None or one.shape != other.shape:
        return None
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))


def _motion(one: np.ndarray | None, other: np.ndarray | None, near_s: float | None) -> float | None:
    """The highest correlation over all shifts with enough overlap, or over those near one; None where nothing moves."""
    if one is None or other is None or max(one.std(axis=0).max(), other.std(axis=0).max()) < _STILL:
        return None
    if near_s is None:
        shifts = np.array(_lags(len(one), len(other), MOTION_HZ))
    else:
        about, within = round(near_s * MOTION_HZ), round(_SAME_LAG_S * MOTION_HZ)
        shifts = np.arange(about - within, about + within + 1)
        shifts = shifts[(shifts >= 2 - len(other)) & (shifts <= len(one) - 2)]
    place = shifts + len(other) - 1  # in a sum by lags, which starts at 1 - len(other)
    ones, theirs = np.ones_like(one), np.ones_like(other)
    # over each overlap: how many, and by rows the sums of one, of the other, of their products and squares
    count = _by_lags(ones[:, 0], theirs[:, 0])[place]
    parts = ((one, theirs), (ones, other), (one, other), (one**2, theirs), (ones, other**2))
    sums = [np.stack([_by_lags(a, b)[place] for a, b in zip(x.T, y.T, strict=True)]) for x, y in parts]
    product = (sums[2] - sums[0] * sums[1] / count).sum(axis=0)
    squares = [(sums[k] - sums[k - 3] ** 2 / count).sum(axis=0) for k in (3, 4)]
    scale = np.sqrt(np.maximum(squares[0], 0) * np.maximum(squares[1], 0))
    values = np.where(scale > 0, product / np.where(scale > 0, scale, 1.0), 0.0)
    return float(values.max(initial=0.0))


def _sound(one: np.ndarray | None, other: np.ndarray | None) -> tuple[float | None, float | None]:
    """The lowest share of differing bits over all shifts with enough overlap, and that shift in seconds."""
    if one is None or other is None or min((one != 0).sum(), (other != 0).sum()) < _MIN_CODES:
        return None, None
    # +1 and -1 for bits, 0 where it is quiet: a product of rows is the bits that agree less those that differ
    signs = [_signs(codes) for codes in (one, other)]
    agreeing = _by_diagonals(signs[0] @ signs[1].T)
    counts = _by_lags((one != 0).astype(np.float64), (other != 0).astype(np.float64)).round()
    allowed = np.zeros(len(counts), bool)
    allowed[np.array(list(_lags(len(one), len(other), AUDIO_HZ))) + len(other) - 1] = True
    allowed &= counts >= _MIN_CODES
    if not allowed.any():
        return None, None
    share = np.where(allowed, 0.5 - agreeing / (64 * np.maximum(counts, 1)), 1.0)
    best = int(share.argmin())
    return float(share[best]), (best - len(other) + 1) / AUDIO_HZ


def _signs(codes: np.ndarray) -> np.ndarray:
    """(n,) uint32 to (n, 32) float32."""
    bits = np.unpackbits(np.ascontiguousarray(codes).view(np.uint8).reshape(-1, 4), axis=1)
    return (2.0 * bits.astype(np.float32) - 1.0) * (codes != 0)[:, None]


def _by_lags(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sums of products where one[lag] lies beside other[0], for lags from 1 - len(other) to len(one) - 1."""
    return np.correlate(one.astype(np.float64), other.astype(np.float64), "full")


def _by_diagonals(values: np.ndarray) -> np.ndarray:
    """Sums of (n, m) values over i - j, from 1 - m to n - 1."""
    rows, columns = values.shape
    skewed = np.pad(values[:, ::-1], ((0, 0), (0, rows))).ravel()[: rows * (rows + columns - 1)]
    return skewed.reshape(rows, rows + columns - 1).sum(axis=0)


def _lags(length: int, other_length: int, rate_hz: float) -> range:
    """Shifts that leave enough overlap, or all of the shorter clip where that is less."""
    needed = min(round(MIN_OVERLAP_S[rate_hz] * rate_hz), length, other_length)
    return range(-(other_length - needed), length - needed + 1)


def _popcount(words: np.ndarray) -> np.ndarray:
    return _bits_of_16()[words]


@cache
def _bits_of_16() -> np.ndarray:
    return np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1)
