"""Clips per hour and core of `avatar curate` by stage, at 360p and 1080p, and what that makes of 1,250 h of footage.

    python scripts/benchmark_curation.py VIDEO [--clips 6] [--workers 2] [--scorers picture,sound,faces]

VIDEO is somebody talking for some seconds; it is brought to both sizes, given a camera's noise (without it H.264 has nothing to
do) and repeated with small differences. Everything is measured in processor seconds, since other programs share the machine: of
the stages inside the workers, and of the driver, which hands out the work and writes the tables while they wait. What more
workers gain follows from these where each has a processor of its own; the wall-clock time beside it is what this machine gave.
Processors that are threads of one core slow each other: their processor seconds grow together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.dataset as ds

from avatar.data import curate
from avatar.data.clip_media import ClipMedia
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.export import ExportWork
from avatar.data.curation.folder import CurationFolder
from avatar.data.engines.local import LocalEngine
from avatar.data.engines.work import Piece
from avatar.data.manifest import read_table
from avatar.media import read_video, read_waveform, write_video

SIZES = {"360p": (640, 360), "1080p": (1920, 1080)}
NOISE = 2.0  # grey levels: about 2.5 Mbit/s at 1080p and crf 23, as videos from the web have
FOOTAGE_H, CLIP_S, CORES, EFFICIENCY = 1250, 9.0, (64, 512), 0.9  # a clip of HunyuanVideo-Avatar's set is 9 s long


@dataclass(frozen=True)
class Times:
    """Seconds of a run.

    Attributes:
        wall: from its start to its end, by workers that have started and loaded their models.
        stages: processor seconds of the workers.
        driver: processor seconds of the process that hands out the work and writes the tables.
    """

    wall: float
    stages: float
    driver: float

    def alone(self, workers: int) -> float:
        """Seconds where every worker has a processor of its own and as many clips as the others."""
        return self.stages / workers + self.driver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--clips", type=int, default=6, help="of each size")
    parser.add_argument("--workers", type=int, default=2, help="to compare with one")
    parser.add_argument("--scorers", help="comma-separated; default: those of the defaults")
    args = parser.parse_args()
    config: dict[str, object] = {"lazy": False, "export": {"media": "none"}, "limits": {"too_short": {"min": 1.0}}}
    if args.scorers is not None:
        config["scorers"] = [name for name in args.scorers.split(",") if name]
    hours: dict[str, float] = {}
    for label, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            seconds = make_videos(args.video, root / "videos", args.clips, size)
            runs = {n: run(root / "videos", root / f"out{n}", config, n) for n in sorted({1, args.workers})}
            hours[label] = report(label, root, seconds, runs)
    print("\n| footage | core hours per hour | " + " | ".join(f"{c} cores" for c in CORES) + " |")
    print("|---|---|" + "---|" * len(CORES))
    for label, per_hour in hours.items():
        days = [FOOTAGE_H * per_hour / cores / EFFICIENCY for cores in CORES]
        print(f"| {FOOTAGE_H} h, {label} | {per_hour:.2f} | " + " | ".join(f"{h:.1f} h" for h in days) + " |")


def make_videos(video: Path, folder: Path, count: int, size: tuple[int, int]) -> float:
    """Writes `count` videos of this size; seconds of all of them."""
    folder.mkdir(parents=True)
    frames, sound = list(read_video(video)), read_waveform(video)
    rng = np.random.default_rng(0)
    for k in range(count):
        shown = (noisy(letterboxed(np.roll(frame, 2 * k, axis=1), size), rng) for frame in frames)
        blocks = (frame[None] for frame in shown)
        path = write_video(folder / f"{k}.mp4", blocks, fps=25, speech=sound, crf=23)
    print(f"{size}: {8e-6 * path.stat().st_size * 25 / len(frames):.1f} Mbit/s", file=sys.stderr)
    return count * len(frames) / 25


def noisy(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The frame with grain of NOISE grey levels, a little coarser in larger pictures."""
    grain = rng.standard_normal(frame.shape[:2], np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.3 + frame.shape[0] / 1000)
    return (frame + NOISE / grain.std() * grain[..., None]).clip(0, 255).astype(np.uint8)


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


def run(videos: Path, out: Path, config: Mapping[str, object], workers: int) -> Times:
    """A run by workers that have been through two clips each, each with models loaded."""
    with closing(LocalEngine(workers)) as engine:
        warming = [path for path in sorted(videos.iterdir()) if int(path.stem) < 2 * workers]
        first = out.with_name(f"{out.name}-first")
        first.mkdir()
        for path in warming:
            (first / path.name).symlink_to(path)
        curate(first, out.with_name(f"{out.name}-warm"), config, engine)
        wall, driver = time.monotonic(), time.process_time()
        curate(videos, out, config, engine)
        wall, driver = time.monotonic() - wall, time.process_time() - driver
        return Times(wall, sum(stage_costs(out).values()), driver)


def stage_costs(out: Path) -> dict[str, float]:
    """Processor seconds by stage, in the order in which stages run."""
    costs = {}
    for stage in sorted((out / "sidecars").iterdir(), key=lambda folder: folder.stat().st_mtime_ns):
        table = ds.dataset(sorted(stage.glob("*.parquet"))).to_table(columns=["cpu_s"])
        costs[stage.name.partition("-")[0]] = float(np.sum(table.column("cpu_s").to_numpy()))
    return costs


def report(label: str, root: Path, seconds: float, runs: Mapping[int, Times]) -> float:
    """Prints the table of one size; core hours per hour of footage."""
    one = min(runs)
    clips = read_table(CurationFolder(root / f"out{one}").clips)
    costs = {"decode (in the first scorer)": decode_cpu_s(clips.to_pylist()), **stage_costs(root / f"out{one}")}
    costs["export"] = export_cpu_s(clips.to_pylist(), root)
    print(f"\n{label}: {len(clips)} clips, {seconds:.0f} s of video\n")
    print("| stage | core s per clip of 9 s | clips per hour and core |\n|---|---|---|")
    per_second = {name: cost / seconds for name, cost in costs.items()}
    total = sum(cost for name, cost in per_second.items() if "first scorer" not in name)
    for name, cost in [*per_second.items(), ("all", total)]:
        print(f"| {name} | {cost * CLIP_S:.2f} | {3600 / (cost * CLIP_S):,.0f} |" if cost else f"| {name} | 0 | |")
    print("\n| workers | stages | driver | gain | wall-clock here |\n|---|---|---|---|---|")
    for n, times in sorted(runs.items()):
        gain = runs[one].alone(one) / times.alone(n)
        print(f"| {n} | {times.stages:.1f} s | {times.driver:.1f} s | {gain:.2f} | {times.wall:.0f} s |", flush=True)
    return total


def export_cpu_s(rows: list[dict[str, object]], root: Path) -> float:
    """Processor seconds of writing the clips' mp4, wav and json."""
    settings = CurationConfig.load()["export"]
    work = ExportWork(root, root / "parts", settings["media"], settings["crf"], None)
    before = time.process_time()
    for row in rows:
        [_, piece] = work.run(row)
        assert isinstance(piece, Piece) and piece.error is None, piece
    return time.process_time() - before


def decode_cpu_s(rows: list[dict[str, object]]) -> float:
    """Processor seconds of decoding the clips once, as scorers see them."""
    cv2.setNumThreads(1)
    before = time.process_time()
    for row in rows:
        ClipMedia(row).frames()
    return time.process_time() - before


if __name__ == "__main__":
    sys.exit(main())
