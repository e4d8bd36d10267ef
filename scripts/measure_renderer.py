"""Measures the renderer on real clips: how closely a face, driven by its own tracked motion, is tracked again.

For each talking clip of a folder with a manifest.csv (columns path, kind): the first frame that the program accepts as
a portrait (a clip may fade in from black) is the portrait, the clip's own motion from there on, relative to that frame,
drives it, and the rendered frames are tracked again. A clip without such a frame (too small, a profile) is measured
from its first tracked frame, marked `refused`, and counted in the first mean only. Lip error: mean distance in the
picture plane, head pose taken out, over the 40 points of the lips' edges, percent of the outer-eye distance.
Floor: the same, and the same correlation, between the clip and itself made smaller and blurred a little, which is what
tracking alone costs.

    python scripts/measure_renderer.py CLIPS_DIR [--frames 75] [--only NAME …]
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.track import clip_geometry, lip_gap
from avatar.errors import AvatarError, FaceError
from avatar.face_mesh import LIPS_INNER, LIPS_OUTER, OUTER_EYE_CORNERS, fit_head, to_canonical_axes
from avatar.identity.choose import choose_face
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.media import read_video
from avatar.types import BBox, Face, HeadPose, Portrait

LOG = logging.getLogger("measure_renderer")
LIP_EDGES = list(LIPS_OUTER + LIPS_INNER)
COLUMNS = ("lip error", "p95", "floor", "gap true", "gap again", "gap r", "floor r")
LOOK_EVERY_FRAMES = 10  # for a frame that can be a portrait


def own_motion(motion: MeshMotion, stage: Stage) -> MeshMotion:
    """The clip's motion counted from its first frame, which is the portrait."""
    return replace(
        motion,
        expression=motion.expression - motion.expression[0] + stage.own_expression,
        rotation=motion.rotation - motion.rotation[0],
        translation=motion.translation - motion.translation[0],
        gaze=motion.gaze - motion.gaze[0],
    )


def canonical(landmarks: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """Tracked points (T, 478, 3) px in canonical space, head pose and size taken out."""
    points = landmarks.astype(np.float64)
    return np.stack([fit_head(frame, neutral).invert(to_canonical_axes(frame)) for frame in points])


def softened(frame: np.ndarray) -> np.ndarray:
    """The frame after a small change that should not move any landmark."""
    small = cv2.resize(frame, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def first_portrait(path: Path, num_frames: int, faces: MediaPipeFaces) -> int | None:
    """The first frame that the program would animate, or None."""
    for index, frame in enumerate(islice(read_video(path), num_frames)):
        if index % LOOK_EVERY_FRAMES == 0:
            try:
                choose_face(frame, faces.detect(frame))
            except FaceError:
                continue
            return index
    return None


def measure(path: Path, begin: int, num_frames: int, faces: MediaPipeFaces) -> list[float]:
    """One row of the table, from frame `begin` on."""
    frames = list(islice(read_video(path), begin, begin + num_frames))
    landmarks, found = faces.track(frames)
    start = int(np.flatnonzero(found)[0]) if found.any() else 0
    frames, landmarks, found = frames[start:], landmarks[start:], found[start:]
    geometry = clip_geometry(landmarks, found, 0)
    low, high = landmarks[0, :, :2].min(axis=0), landmarks[0, :, :2].max(axis=0)
    face = Face(BBox(*map(float, (*low, *high))), landmarks[0], HeadPose(0.0, 0.0, 0.0))
    stage = Stage(Portrait(frames[0], face))
    again, found_again = faces.track(stage.render(own_motion(geometry.motion, stage)))
    soft, found_soft = faces.track([softened(frame) for frame in frames])
    good = found & found_again & found_soft
    eyes = float(np.linalg.norm(np.diff(geometry.neutral[list(OUTER_EYE_CORNERS)], axis=0)))
    true, remade, floor = (canonical(points[good], geometry.neutral) for points in (landmarks, again, soft))
    error = 100 / eyes * np.linalg.norm((true - remade)[:, LIP_EDGES, :2], axis=2).mean(axis=1)
    least = 100 / eyes * np.linalg.norm((true - floor)[:, LIP_EDGES, :2], axis=2).mean()
    gaps = [100 / eyes * lip_gap(points)[:, 4] for points in (true, remade, floor)]
    correlation, floor_correlation = (float(np.corrcoef(gaps[0], other)[0, 1]) for other in gaps[1:])
    return [float(error.mean()), float(np.percentile(error, 95)), least, gaps[0].mean(), gaps[1].mean(),
            correlation, floor_correlation]  # fmt: skip


def summary(name: str, rows: list[list[float]]) -> None:
    """Means and medians of a group of clips."""
    for kind, values in (("mean", np.mean(rows, axis=0)), ("median", np.median(rows, axis=0))):
        LOG.info("%-40s %s", f"{kind}, {len(rows)} {name}", " ".join(f"{value:9.3f}" for value in values))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder with manifest.csv")
    parser.add_argument("--frames", type=int, default=75, help="frames of each clip (default: %(default)s)")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the clips to measure")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with (args.clips / "manifest.csv").open(newline="") as file:
        paths = [args.clips / row["path"] for row in csv.DictReader(file) if row["kind"] == "talking"]
    paths = [path for path in paths if not args.only or any(part in path.name for part in args.only)]
    faces, rows, accepted = MediaPipeFaces(), [], []
    LOG.info("%-40s %s", "clip", " ".join(f"{name:>9}" for name in COLUMNS))
    for path in paths:
        try:
            begin = first_portrait(path, args.frames, faces)
            rows.append(measure(path, begin or 0, args.frames, faces))
        except AvatarError as err:
            LOG.info("%-40s %s", path.stem[:40], err)
            continue
        if begin is not None:
            accepted.append(rows[-1])
        mark = "" if begin is not None else " refused"
        LOG.info("%-40s %s%s", path.stem[:40], " ".join(f"{value:9.3f}" for value in rows[-1]), mark)
    if rows:
        summary("clips", rows)
    if accepted:
        summary("clips accepted as portraits", accepted)
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
