"""Near copies are found whatever was done to them, and other clips of the same room are not taken for copies."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import cache

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter1d

from avatar.data.curation.dedup import find_duplicates
from avatar.data.curation.dedup_candidates import MAX_BUCKET, candidate_pairs, pairs_sharing
from avatar.data.scorers.fingerprints import CROPS, audio_print, frame_hashes, motion_print
from avatar.types import Waveform

FPS, RATE_HZ, SECONDS = 25, 16_000, 5
HEIGHT, WIDTH = 144, 192
Clip = tuple[np.ndarray, np.ndarray | None]


@cache
def recording(
    room: int, take: int, seconds: int = SECONDS + 2, words: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A head that sways and talks in front of a wall.

    The room says what it looks like, the take what happens; `words` the take whose mouth movements these are.
    """
    place, act = np.random.default_rng(room), np.random.default_rng(1000 + take)
    wall = cv2.resize(
        place.integers(40, 200, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    count = seconds * FPS
    sway = gaussian_filter1d(act.standard_normal((count, 2)), 6, axis=0)
    sway = 6 * sway / sway.std(axis=0)
    mouth = np.clip(gaussian_filter1d(act.standard_normal(count), 2) * 3, 0, 1)
    if words is not None:
        said = np.random.default_rng(1000 + words).standard_normal((3, count))[2]
        mouth = np.clip(gaussian_filter1d(said, 2) * 3, 0, 1)
    frames = []
    for (dx, dy), opening in zip(sway, mouth, strict=True):
        frame = wall.copy()
        centre = (round(WIDTH * 0.42 + dx), round(HEIGHT * 0.45 + dy * 0.5))
        cv2.ellipse(frame, centre, (34, 46), 0, 0, 360, (205, 160, 140), -1, cv2.LINE_AA)
        mouth_at = (centre[0], centre[1] + 22)
        cv2.ellipse(frame, mouth_at, (13, round(2 + 9 * opening)), 0, 0, 360, (90, 20, 30), -1, cv2.LINE_AA)
        frames.append(frame)
    samples = seconds * RATE_HZ
    carrier = np.cumsum(act.standard_normal(samples)) * 0.02 + act.standard_normal(samples)
    pitch = np.repeat(act.uniform(300, 2500, seconds * 8), RATE_HZ // 8)
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE_HZ)
    sound = (tone + 0.1 * np.diff(carrier, prepend=0)) * np.repeat(mouth + 0.2, RATE_HZ // FPS)
    return np.stack(frames), (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def original(room: int, take: int) -> Clip:
    return cut(recording(room, take))


def cut(clip: tuple[np.ndarray, np.ndarray]) -> Clip:
    """The first seconds."""
    frames, sound = clip
    return frames[: SECONDS * FPS], sound[: SECONDS * RATE_HZ]


def encoded(frames: np.ndarray, crf: int = 28) -> np.ndarray:
    """Through x264 and back."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2] // 2 * 2, frames.shape[1] // 2 * 2, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "ultrafast"}
        for frame in frames[:, : stream.height, : stream.width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    held.seek(0)
    with av.open(held) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def resized(frames: np.ndarray, factor: float) -> np.ndarray:
    return np.stack([cv2.resize(f, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for f in frames])


def cropped(frames: np.ndarray, part: float) -> np.ndarray:
    top, left = round(frames.shape[1] * (1 - part) / 2), round(frames.shape[2] * (1 - part) / 2)
    return frames[:, top : frames.shape[1] - top, left : frames.shape[2] - left]


def shifted(room: int, take: int) -> Clip:
    frames, sound = recording(room, take)
    return frames[2 * FPS :], sound[2 * RATE_HZ :]


COPIES: dict[str, Callable[[], Clip]] = {
    "the same": lambda: original(1, 1),
    "re-encoded": lambda: (encoded(original(1, 1)[0]), original(1, 1)[1]),
    "resized": lambda: (encoded(resized(original(1, 1)[0], 0.5)), original(1, 1)[1]),
    "mirrored": lambda: (encoded(original(1, 1)[0][:, :, ::-1]), original(1, 1)[1]),
    "cropped by a tenth": lambda: (encoded(cropped(original(1, 1)[0], 0.9)), original(1, 1)[1]),
    "cropped by a tenth on each side": lambda: (encoded(cropped(original(1, 1)[0], 0.8)), original(1, 1)[1]),
    "shifted by 2 s": lambda: shifted(1, 1),
    "dubbed": lambda: (encoded(original(1, 1)[0]), original(1, 2)[1]),
    "out of sync": lambda: (encoded(original(1, 1)[0]), np.roll(original(1, 1)[1], round(0.4 * RATE_HZ))),
    "muted": lambda: (encoded(original(1, 1)[0]), None),
    "muted, cropped, mirrored": lambda: (encoded(cropped(original(1, 1)[0], 0.9)[:, :, ::-1]), None),
}
OTHERS: dict[str, Callable[[], Clip]] = {
    "another take in the same room": lambda: original(1, 2),
    "another take in the same room, muted": lambda: (original(1, 3)[0], None),
    "another room": lambda: original(2, 4),
    "the sound of another take": lambda: (original(1, 5)[0], original(1, 2)[1]),
    "the same sound elsewhere": lambda: (original(3, 6)[0], original(1, 1)[1]),
    "the same sound over another take in the same room": lambda: (original(1, 10)[0], original(1, 1)[1]),
    "the same words by somebody else": lambda: cut(recording(4, 7, words=1)),
    "the same words by the same person": lambda: cut(recording(1, 8, words=1)),
    "somebody else to the same sound": lambda: (cut(recording(5, 9, words=1))[0], original(1, 1)[1]),
}


def row(name: str, clip: Clip, **values: object) -> dict[str, object]:
    frames, sound = clip
    chosen = frames[np.linspace(0, len(frames) - 1, 8).round().astype(int)]
    return {
        "clip_id": name,
        "phash8": frame_hashes(chosen).tobytes(),
        "phash_crops": np.stack([frame_hashes(chosen, part) for part in CROPS]).tobytes(),
        "motion_fp": motion_print(frames).tobytes(),
        "audio_fp": None if sound is None else audio_print(Waveform(sound)).tobytes(),
        "height_px": frames.shape[1],
        "width_px": frames.shape[2],
        "media_bytes": 1000,
    } | values


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rows = [row("a original", original(1, 1), media_bytes=2000)]
    rows += [row(f"b {name}", make()) for name, make in COPIES.items()]
    rows += [row(f"c {name}", make()) for name, make in OTHERS.items()]
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def found(table: pa.Table) -> dict[str, dict[str, object]]:
    return {one["clip_id"]: one for one in find_duplicates(table).to_pylist()}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(found: dict[str, dict[str, object]], name: str) -> None:
    assert found[f"b {name}"]["dup_group"] == "a original"


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_copy_stays_alone(found: dict[str, dict[str, object]], name: str) -> None:
    assert found[f"c {name}"] == {"clip_id": f"c {name}", "dup_group": None, "dup_is_best": True, "dup_sim": None}


def test_the_best_of_a_group_is_the_largest_and_least_compressed(found: dict[str, dict[str, object]]) -> None:
    best = [one["clip_id"] for one in found.values() if one["dup_group"] and one["dup_is_best"]]
    assert best == ["a original"]
    assert found["a original"]["dup_sim"] == 1.0
    assert all(0.6 < one["dup_sim"] <= 1 for one in found.values() if one["dup_group"])


def test_the_order_of_the_rows_does_not_matter(table: pa.Table, found: dict[str, dict[str, object]]) -> None:
    turned = table.take(np.random.default_rng(0).permutation(len(table)))
    assert {one["clip_id"]: one for one in find_duplicates(turned).to_pylist()} == found


def test_the_best_clips_alone_have_no_duplicates_left(table: pa.Table) -> None:
    best = table.filter(find_duplicates(table).column("dup_is_best"))
    again = find_duplicates(best)
    assert again.column("dup_group").null_count == len(again)
    assert find_duplicates(table).equals(find_duplicates(table))


def test_rows_without_fingerprints_are_alone_and_an_empty_table_stays_empty(table: pa.Table) -> None:
    nothing = pa.table({"clip_id": ["x", "y"]})
    assert find_duplicates(nothing).column("dup_group").to_pylist() == [None, None]
    assert len(find_duplicates(table.slice(0, 0))) == 0


def test_copies_of_copies_are_one_group() -> None:
    long_frames, long_sound = recording(7, 7, 9)
    parts = {"a": 0, "b": 2, "c": 4}  # a and c share one second only
    rows = [
        row(name, (long_frames[s * FPS : (s + 5) * FPS], long_sound[s * RATE_HZ : (s + 5) * RATE_HZ]))
        for name, s in parts.items()
    ]
    found = find_duplicates(pa.Table.from_pylist(rows))
    assert found.column("dup_group").to_pylist() == ["a", "a", "a"]
    assert found.column("dup_is_best").to_pylist() == [True, False, True]  # what c alone has is not lost


def test_an_embedding_finds_what_hashes_do_not() -> None:
    rng = np.random.default_rng(0)
    vector = rng.standard_normal(64).astype(np.float32)
    near = (vector + 0.05 * rng.standard_normal(64)).astype(np.float32)
    far = rng.standard_normal(64).astype(np.float32)
    pairs = candidate_pairs(pa.table({"embedding": [vector.tolist(), far.tolist(), near.tolist(), None]}))
    assert pairs.tolist() == [[0, 2]]


def test_pairs_share_enough_keys_and_crowded_keys_do_not_count() -> None:
    keys = np.array([5, 5, 5, 7, 7, 9, 9, 9], np.uint64)
    rows = np.array([0, 1, 1, 0, 1, 2, 0, 3], np.int64)
    assert pairs_sharing(keys, rows).tolist() == [[0, 1], [0, 2], [0, 3], [2, 3]]
    assert pairs_sharing(keys, rows, 2).tolist() == [[0, 1]]
    crowd = np.arange(MAX_BUCKET + 1)
    assert len(pairs_sharing(np.zeros_like(crowd), crowd)) == 0


def test_candidates_grow_with_the_copies_and_not_with_the_square_of_the_clips() -> None:
    rng = np.random.default_rng(0)
    count, copies = 40_000, 500
    hashes = np.repeat(rng.integers(0, 2**63, (count, 1), dtype=np.uint64), 8, axis=1)
    hashes[-copies:] = hashes[:copies] ^ np.uint64(1 << 40)  # one bit changed
    table = pa.table({"phash8": pa.array([one.tobytes() for one in hashes], pa.binary(64))})
    start = time.process_time()
    pairs = candidate_pairs(table)
    assert time.process_time() - start < 10
    assert {(i, count - copies + i) for i in range(copies)} <= set(map(tuple, pairs.tolist()))
    assert len(pairs) < 2 * copies
