"""Which clips are worth comparing: those that share a key. Sorting, not comparing every pair, so a million clips fit.

Keys come from frame hashes (each half of each hash, seen straight and mirrored), from codes of the sound, and from
embeddings (random hyperplanes). A key that very many clips share says little and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from avatar.data.scorers.fingerprints import mirrored

MAX_BUCKET = 40  # clips under one key: beyond, it is the title card of a series, a blank frame, a studio
SHARED_AUDIO_KEYS = 2
_AUDIO_KEPT = 8  # one in so many codes is a key, the same ones in every clip
_PIECE = 50_000  # clips whose codes are held at a time
_HYPERPLANE_BITS, _HYPERPLANE_TABLES = 24, 8
_SPREAD = np.uint32(2_654_435_769)  # 2^32 / golden ratio: scatters neighbouring codes


def candidate_pairs(table: pa.Table) -> np.ndarray:
    """Pairs of rows that may be copies of one another.

    Args:
        table: any of phash8, phash_crops, audio_fp, embedding; null where not measured.

    Returns:
        (P, 2) int64 rows, first < second, no pair twice, sorted.
    """
    pairs = [pairs_sharing(keys, rows, needed) for keys, rows, needed in _keyed(table)]
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *pairs]), axis=0)


def pairs_sharing(keys: np.ndarray, rows: np.ndarray, needed: int = 1) -> np.ndarray:
    """Pairs of rows that have at least `needed` keys in common; keys of more than MAX_BUCKET rows do not count.

    Args:
        keys: (K,) unsigned integers.
        rows: (K,) int64, the row each key belongs to.
        needed: different keys in common.

    Returns:
        (P, 2) int64, first < second, no pair twice.
    """
    order = np.lexsort((rows, keys))
    keys, rows = keys[order], rows[order]
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (keys[1:] != keys[:-1]) | (rows[1:] != rows[:-1])
    keys, rows = keys[fresh], rows[fresh]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(keys)))
    found = [np.zeros((0, 2), np.int64)]
    for size in range(2, min(MAX_BUCKET, int(sizes.max(initial=0))) + 1):
        members = rows[starts[sizes == size][:, None] + np.arange(size)]
        first, second = np.triu_indices(size, 1)
        found.append(np.stack([members[:, first].ravel(), members[:, second].ravel()], axis=1))
    pairs, shared = np.unique(np.concatenate(found), axis=0, return_counts=True)
    return pairs[shared >= needed]


def _keyed(table: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(keys (K,), their rows (K,), how many keys two rows must share); one after the other, to spare memory."""
    names = table.column_names
    if "phash8" in names:
        whole, whole_rows = _codes(table, "phash8", np.uint64)
        crops, crop_rows = (
            _codes(table, "phash_crops", np.uint64) if "phash_crops" in names else (whole[:0], whole_rows[:0])
        )
        hashes = np.concatenate([whole, mirrored(whole), crops])
        rows = np.concatenate([whole_rows, whole_rows, crop_rows])
        for shift in (0, 32):
            yield ((hashes >> np.uint64(shift)) & np.uint64(0xFFFF_FFFF)).astype(np.uint32), rows, 1
    if "audio_fp" in names:
        chosen = [_audio_keys(table.slice(start, _PIECE), start) for start in range(0, len(table), _PIECE)]
        if chosen:
            keys, rows = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
            yield keys, rows, SHARED_AUDIO_KEYS
    if "embedding" in names:
        for bits, rows in _hyperplane_keys(table):
            yield bits, rows, 1


def _audio_keys(table: pa.Table, first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the sound that are keys, and their rows."""
    codes, rows = _codes(table, "audio_fp", np.uint32)
    kept = (codes != 0) & (((codes * _SPREAD) >> np.uint32(16)) % _AUDIO_KEPT == 0)
    return codes[kept], rows[kept] + first_row


def _codes(table: pa.Table, column: str, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """All codes of a binary column in a row, and the row that each belongs to."""
    values = table.column(column).to_pylist()
    rows = np.array([row for row, value in enumerate(values) if value is not None], np.int64)
    present = [value for value in values if value is not None]
    counts = np.array([len(value) for value in present], np.int64) // np.dtype(dtype).itemsize
    return np.frombuffer(b"".join(present), dtype), np.repeat(rows, counts)


def _hyperplane_keys(table: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Signs on random hyperplanes: with a cosine of 0.97 one of the tables agrees in nine cases of ten."""
    values = table.column("embedding").to_pylist()
    rows = np.array([row for row, value in enumerate(values) if value is not None], np.int64)
    if not len(rows):
        return
    vectors = np.array([values[row] for row in rows], np.float32)
    planes = np.random.default_rng(0).standard_normal((vectors.shape[1], _HYPERPLANE_BITS * _HYPERPLANE_TABLES))
    signs = (vectors @ planes.astype(np.float32) > 0).reshape(len(rows), _HYPERPLANE_TABLES, _HYPERPLANE_BITS)
    for signs_of_table in np.moveaxis(signs, 1, 0):
        yield signs_of_table @ (1 << np.arange(_HYPERPLANE_BITS, dtype=np.uint32)).astype(np.uint32), rows
