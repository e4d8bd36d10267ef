"""Clips per hour and core of `avatar curate` by stage, at 360p and 1080p, and what that makes of 1,250 h of footage.

    python scripts/benchmark_curation.py VIDEO [--clips 6] [--workers 2] [--scorers picture,sound,faces]

VIDEO is somebody talking for some seconds; it is brought to both sizes and repeated with small differences. Stages are measured
in processor seconds inside the workers, so that a busy machine does not change them; scaling is wall-clock time and does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pyarrow.dataset as ds

from avatar.data import curate
from avatar.data.clip_media import ClipMedia
from avatar.data.curation.folder import CurationFolder
from avatar.data.engines.local import LocalEngine
from avatar.data.manifest import read_table
from avatar.media import read_video, read_waveform, write_video

SIZES = {"360p": (640, 360), "1080p": (1920, 1080)}
FOOTAGE_H, CLIP_S, CORES, EFFICIENCY = 1250, 9.0, (64, 512), 0.9  # a clip of HunyuanVideo-Avatar's set is 9 s long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--clips", type=int, default=6, help="of each size")
    parser.add_argument("--workers", type=int, default=2, help="to compare with one")
    parser.add_argument("--scorers", help="comma-separated; default: those of the defaults")
    args = parser.parse_args()
    config: dict[str, object] = {"lazy": False, "limits": {"too_short": {"min": 1.0}}}
    if args.scorers is not None:
        config["scorers"] = [name for name in args.scorers.split(",") if name]
    hours: dict[str, float] = {}
    for label, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            seconds = make_videos(args.video, root / "videos", args.clips, size)
            walls = {n: run(root / "videos", root / f"out{n}", config, n) for n in (1, args.workers)}
            hours[label] = report(label, root / "out1", seconds, walls)
    print("\n| footage | core hours per hour | " + " | ".join(f"{c} cores" for c in CORES) + " |")
    print("|---|---|" + "---|" * len(CORES))
    for label, per_hour in hours.items():
        days = [FOOTAGE_H * per_hour / cores / EFFICIENCY for cores in CORES]
        print(f"| {FOOTAGE_H} h, {label} | {per_hour:.2f} | " + " | ".join(f"{h:.1f} h" for h in days) + " |")


def make_videos(video: Path, folder: Path, count: int, size: tuple[int, int]) -> float:
    """Writes `count` videos of this size; seconds of all of them."""
    folder.mkdir(parents=True)
    frames, sound = list(read_video(video)), read_waveform(video)
    for k in range(count):
        shown = (letterboxed(np.roll(frame, 2 * k, axis=1), size) for frame in frames)
        blocks = (frame[None] for frame in shown)
        write_video(folder / f"{k}.mp4", blocks, fps=25, speech=sound, crf=23)
    return count * len(frames) / 25


def letterboxed(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame as large as it fits, between blurred copies of itself."""
    width, height = size
    fitted = cv2.resize(frame, (round(frame.shape[1] * height / frame.shape[0]), height), interpolation=cv2.INTER_CUBIC)
    if fitted.shape[1] >= width:
        left = (fitted.shape[1] - width) // 2
        return fitted[:, left : left + width]
    picture = cv2.blur(cv2.resize(frame, size), (31, 31))
    left = (width - fitted.shape[1]) // 2
    picture[:, left : left + fitted.shape[1]] = fitted
    return picture


def run(videos: Path, out: Path, config: dict[str, object], workers: int) -> float:
    """Wall-clock seconds of a whole run, the workers' start included."""
    started = time.monotonic()
    with closing(LocalEngine(workers)) as engine:
        curate(videos, out, config, engine)
    return time.monotonic() - started


def report(label: str, out: Path, seconds: float, walls: dict[int, float]) -> float:
    """Prints the table of one size; core hours per hour of footage."""
    clips = read_table(CurationFolder(out).clips)
    costs = {"decode (in the first scorer)": decode_cpu_s(clips.to_pylist())}
    for stage in sorted((out / "sidecars").iterdir()):
        table = ds.dataset(sorted(stage.glob("*.parquet"))).to_table(columns=["cpu_s", "error"])
        costs[stage.name] = float(np.sum(table.column("cpu_s").to_numpy()))
    print(f"\n{label}: {len(clips)} clips, {seconds:.0f} s of video\n")
    print("| stage | core s per clip of 9 s | clips per hour and core |\n|---|---|---|")
    per_second = {name: cost / seconds for name, cost in costs.items()}
    total = sum(cost for name, cost in per_second.items() if "first scorer" not in name)
    for name, cost in [*per_second.items(), ("all", total)]:
        print(f"| {name} | {cost * CLIP_S:.2f} | {3600 / (cost * CLIP_S):,.0f} |" if cost else f"| {name} | 0 | |")
    (one, alone), (many, together) = min(walls.items()), max(walls.items())
    print(
        f"\nwall-clock: {alone:.0f} s with {one} worker, {together:.0f} s with {many}: {alone / together:.2f} times",
        flush=True,
    )
    return total


def decode_cpu_s(rows: list[dict[str, object]]) -> float:
    cv2.setNumThreads(1)
    before = time.process_time()
    for row in rows:
        ClipMedia(row).frames()
    return time.process_time() - before


if __name__ == "__main__":
    sys.exit(main())
