"""Prints how well near copies are told from other clips: on real videos, and how the search grows with made-up clips.

    python scripts/measure_duplicates.py VIDEOS [--clips 10000 100000 1000000]

Of each video the first 5 s are copied in every way that the tests name (re-encoded at crf 28, halved, mirrored, cropped,
shifted by 2 s, muted), and compared with the original; then with every other 5 s of the same video, which show the same
person in the same room.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa

from avatar.data.curation.dedup import find_duplicates
from avatar.data.curation.dedup_candidates import candidate_pairs
from avatar.data.curation.dedup_compare import Likeness, Prints, compare
from avatar.data.scorers.fingerprints import CROPS, audio_print, frame_hashes, motion_print
from avatar.errors import AvatarError
from avatar.media import read_video, read_waveform
from avatar.types import Waveform

FPS, RATE_HZ, LENGTH_S, SHIFT_S, SIDE_PX = 25, 16_000, 5, 2, 320


def reencoded(frames: np.ndarray) -> np.ndarray:
    """Through x264 at crf 28 and back."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2] // 2 * 2, frames.shape[1] // 2 * 2, "yuv420p"
        stream.options = {"crf": "28", "preset": "veryfast"}
        for frame in frames[:, : stream.height, : stream.width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    held.seek(0)
    with av.open(held) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def cropped(frames: np.ndarray, part: float, centred: bool = True) -> np.ndarray:
    """The middle, or the top left corner."""
    height, width = round(frames.shape[1] * part), round(frames.shape[2] * part)
    top, left = ((frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2) if centred else (0, 0)
    return frames[:, top : top + height, left : left + width]


def prints(frames: np.ndarray, sound: np.ndarray | None) -> Prints:
    """What the fingerprints scorer would keep."""
    chosen = frames[np.linspace(0, len(frames) - 1, 8).round().astype(int)]
    crops = np.stack([frame_hashes(chosen, part) for part in CROPS])
    audio = None if sound is None or not len(sound) else audio_print(Waveform(sound))
    return Prints(frame_hashes(chosen), crops, motion_print(frames).astype(np.float32), audio, None)


def copies(frames: np.ndarray, sound: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """(how, frames, sound) of the copies of a video's first seconds."""
    first, heard = frames[: LENGTH_S * FPS], sound[: LENGTH_S * RATE_HZ]
    half = np.stack([cv2.resize(f, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for f in first])
    yield "re-encoded", reencoded(first), heard
    yield "half size", reencoded(half), heard
    yield "mirrored", reencoded(first[:, :, ::-1]), heard
    yield "cropped to 0.9", reencoded(cropped(first, 0.9)), heard
    yield "cropped to 0.8", reencoded(cropped(first, 0.8)), heard
    yield "cropped to 0.9, corner", reencoded(cropped(first, 0.9, centred=False)), heard
    yield "cropped to 0.9, corner, muted", reencoded(cropped(first, 0.9, centred=False)), None
    yield "muted", reencoded(first), None
    later = slice(SHIFT_S * FPS, (SHIFT_S + LENGTH_S) * FPS)
    if len(frames) >= later.stop:
        yield "shifted by 2 s", reencoded(frames[later]), sound[SHIFT_S * RATE_HZ : (SHIFT_S + LENGTH_S) * RATE_HZ]


def measure(folder: Path) -> dict[str, list[Likeness]]:
    """Likenesses by kind of pair."""
    found: dict[str, list[Likeness]] = {}
    for path in sorted(folder.iterdir()):
        try:
            frames = np.stack([_fitted(frame) for frame, _ in zip(read_video(path), range(20 * FPS), strict=False)])
            sound = read_waveform(path).samples
        except AvatarError:
            continue
        if len(frames) < LENGTH_S * FPS:
            continue
        own = prints(frames[: LENGTH_S * FPS], sound[: LENGTH_S * RATE_HZ])
        for how, copy, heard in copies(frames, sound):
            found.setdefault(how, []).append(compare(own, prints(copy, heard)))
        for start in range(LENGTH_S, len(frames) // FPS - LENGTH_S + 1, LENGTH_S):
            part = prints(
                frames[start * FPS : (start + LENGTH_S) * FPS], sound[start * RATE_HZ : (start + LENGTH_S) * RATE_HZ]
            )
            found.setdefault("another 5 s of the same video", []).append(compare(own, part))
    return found


def made_up(count: int, copied: int, rng: np.random.Generator) -> pa.Table:
    """Clips of random hashes and sound codes, the last `copied` of them copies of the first with one bit in 20 changed."""
    hashes = rng.integers(0, 2**63, (count, 1), dtype=np.uint64) ^ (
        np.uint64(1) << rng.integers(0, 63, (count, 8), dtype=np.uint64)
    )
    codes = rng.integers(1, 2**32, (count, 150), dtype=np.uint32)
    hashes[-copied:], codes[-copied:] = hashes[:copied], codes[:copied]
    flips = rng.random((copied, 150)) < 0.6
    codes[-copied:][flips] ^= np.uint32(1) << rng.integers(0, 32, flips.sum(), dtype=np.uint32)
    return pa.table(
        {
            "clip_id": pa.array([f"{i:016x}" for i in range(count)]),
            "phash8": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(64), count, [None, pa.py_buffer(hashes.tobytes())]
            ),
            "audio_fp": pa.array([row.tobytes() for row in codes], pa.binary()),
        }
    )


def _fitted(frame: np.ndarray) -> np.ndarray:
    factor = SIDE_PX / max(frame.shape[:2])
    return cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="?", help="a folder of videos")
    parser.add_argument(
        "--clips", type=int, nargs="*", default=[], metavar="N", help="sizes of made-up tables to search"
    )
    args = parser.parse_args()
    if args.videos is not None:
        print(f"{'pair':32} {'n':>4} {'copies':>7} {'motion, least to most':>24} {'sound':>14} {'picture bits':>14}")
        for how, likenesses in measure(args.videos).items():
            motion = [one.motion for one in likenesses if one.motion is not None]
            sound = [one.sound for one in likenesses if one.sound is not None]
            bits = [one.picture_bits for one in likenesses if one.picture_bits is not None]
            share = sum(one.is_copy for one in likenesses) / len(likenesses)
            ranges = [f"{min(v):.2f} to {max(v):.2f}" if v else "-" for v in (motion, sound, bits)]
            print(f"{how:32} {len(likenesses):4} {share:7.3f} {ranges[0]:>24} {ranges[1]:>14} {ranges[2]:>14}")
    for count in args.clips:
        table = made_up(count, count // 100, np.random.default_rng(0))
        before = time.process_time()
        pairs = candidate_pairs(table)
        searched_s = time.process_time() - before
        before = time.process_time()
        found = find_duplicates(table).column("dup_group")
        grouped, all_s = len(found) - found.null_count, time.process_time() - before
        print(f"{count:9} clips: {len(pairs)} candidates in {searched_s:.1f} s; {grouped} grouped in {all_s:.1f} s")


if __name__ == "__main__":
    main()
