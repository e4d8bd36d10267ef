"""Times the renderer alone on a portrait that speaks, blinks and turns, and prints a Markdown table.

Processor time, not wall time, so that another load on the machine changes little; OpenCV runs on one thread. The first
import compiles the inner loops (cached on disk); give `--compile` to time that too, in a process with an empty cache.

    python scripts/benchmark_renderer.py [--portrait P] [--sizes 256 512 own] [--frames 100] [--compile]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.rig import default_rig
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.media import read_picture
from avatar.types import Portrait

DEFAULT_PORTRAIT = Path(__file__).resolve().parent.parent / "examples" / "astronaut.png"
IMPORT = "import time; t = time.process_time(); import avatar.codec.mesh.raster; print(time.process_time() - t)"


def lively_motion(stage: Stage, num_frames: int) -> MeshMotion:
    """Everything at once: speech, blinks, gaze and head motion."""
    t = np.arange(num_frames) / 25
    rig, blink = default_rig(), np.clip(3 * np.sin(3 * t) - 2, 0, 1)
    weights = rig.weights(num_frames, jaw_open=0.25 + 0.25 * np.sin(9 * t), mouth_pucker=0.3 + 0.3 * np.sin(4 * t),
                          eye_blink_l=blink, eye_blink_r=blink)  # fmt: skip
    return replace(
        MeshMotion.zeros(num_frames),
        expression=rig.displacement(weights),
        rotation=np.stack([0.08 * np.sin(2 * t), 0.1 * np.sin(1.3 * t), 0.05 * np.sin(t)], axis=1),
        gaze=np.stack([0.2 * np.sin(2 * t), 0.1 * np.cos(t)], axis=1),
    )


def measure(portrait: Portrait, size_px: int | None, num_frames: int) -> str:
    """One row of the table."""
    started = time.process_time()
    stage = Stage(portrait, size_px)
    setup_s = time.process_time() - started
    motion = lively_motion(stage, num_frames)
    canvas = stage.still.copy()
    best_s = np.inf
    for _ in range(3):
        started = time.process_time()
        for index in range(num_frames):
            np.copyto(canvas, stage.still)
            stage.draw(canvas, motion, index)
        best_s = min(best_s, (time.process_time() - started) / num_frames)
    tracemalloc.start()
    stage.draw(canvas, motion, num_frames // 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    height, width = stage.size
    left, top, right, bottom = stage._box
    return (
        f"| {width} x {height} | {right - left} x {bottom - top} | {setup_s:.2f} | {best_s * 1e3:.2f} | "
        f"{1 / best_s:.0f} | {peak / canvas.nbytes:.2f} |"
    )


def compile_time_s() -> float:
    """Processor time of the first import ever, seconds."""
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty}
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True
        )
        return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--portrait", type=Path, default=DEFAULT_PORTRAIT)
    parser.add_argument("--sizes", nargs="+", default=["256", "512", "own"], help="longer sides in px, or own")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--compile", action="store_true", help="also time the first import with an empty cache")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = read_picture(args.portrait)
    portrait = Portrait(image, MediaPipeFaces().detect(image)[0])
    Stage(portrait, 64)  # warms the segmentation network up
    lines = ["| frame | animated part | set-up s | ms a frame | frames/s on one core | new memory a frame, in frames |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    lines += [measure(portrait, None if size == "own" else int(size), args.frames) for size in args.sizes]
    if args.compile:
        lines.append(f"\nFirst import with an empty cache: {compile_time_s():.1f} s of processor time.")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
