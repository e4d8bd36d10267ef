"""Measures the face geometry on real clips: how closely the rig and the latent follow tracked lips.

For each talking clip of a folder with a manifest.csv (columns path, kind): lip errors are mean distances in the picture
plane over the 40 points of the lips' outer and inner edge, as a percentage of the distance of the outer eye corners.

    python scripts/measure_geometry.py CLIPS_DIR [--cache DIR] [--seconds 20]
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.rig import Rig, default_rig
from avatar.codec.mesh.track import ClipGeometry, clip_geometry, lip_gap
from avatar.errors import AvatarError
from avatar.face_mesh import LIPS_INNER, LIPS_OUTER, OUTER_EYE_CORNERS, STABLE
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.media import read_video
from avatar.types import DEFAULT_FPS

LOG = logging.getLogger("measure_geometry")
LIP_EDGES = list(LIPS_OUTER + LIPS_INNER)
COLUMNS = ("still", "rig", "rig named", "rig gap r", "latent", "latent p95", "latent gap", "borders", "jitter lips",
           "jitter rest")  # fmt: skip
MEANINGS = (
    "still: lip error of a face that never moves; rig / rig named: bounded fit with all shapes / without lip details;",
    "rig gap r: correlation of the lip opening; latent: encode then decode, p95 its 95th percentile over frames,",
    "gap its error of the opening; borders: the same with the border filter on; jitter: mean second difference.",
)


def main() -> int:
    """Prints one line per clip and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS_DIR")
    parser.add_argument("--cache", type=Path, help="folder where tracks are kept between runs")
    parser.add_argument("--seconds", type=float, default=20.0, help="how much of each clip is used")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rig = default_rig()
    named = Rig(dict(zip(rig.names[: rig.num_named], rig.shapes, strict=False)))
    rows = {}
    for path in _talking_clips(arguments.clips):
        try:
            landmarks, found = _tracked(path, arguments.cache, round(arguments.seconds * DEFAULT_FPS))
            rows[path.stem] = _measure(clip_geometry(landmarks, found), rig, named)
        except AvatarError as err:
            LOG.warning("%s: %s", path.name, err)
    if not rows:
        LOG.error("no clip could be measured")
        return 1
    sys.stdout.write(_table(rows))
    return 0


def _talking_clips(folder: Path) -> Iterator[Path]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "talking":
                yield folder / row["path"]


def _tracked(path: Path, cache: Path | None, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (T, 478, 3) px and found (T,), from the cache where it has them."""
    stored = None if cache is None else cache / f"{path.stem}.npz"
    if stored is not None and stored.exists():
        with np.load(stored) as track:
            return track["landmarks"][:num_frames], track["found"][:num_frames]
    landmarks, found = MediaPipeFaces().track(islice(read_video(path, fps=DEFAULT_FPS), num_frames))
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(stored, landmarks=landmarks, found=found, fps=DEFAULT_FPS)
    return landmarks, found


def _measure(clip: ClipGeometry, rig: Rig, named: Rig) -> list[float]:
    """The numbers of COLUMNS; lengths in percent of the outer eye distance."""
    truth, neutral = clip.motion.expression, clip.neutral
    percent = 100.0 / float(np.linalg.norm(neutral[OUTER_EYE_CORNERS[0]] - neutral[OUTER_EYE_CORNERS[1]]))
    gap = lip_gap(truth).mean(axis=1)

    def lips(other: np.ndarray) -> np.ndarray:
        return np.linalg.norm((other - truth)[:, LIP_EDGES, :2], axis=-1).mean(axis=1) * percent

    fitted = rig.displacement(rig.fit(truth))
    fitted_named = named.displacement(named.fit(truth))
    decoded = {}
    for smooth_borders in (False, True):
        latent = GeometryLatent(smooth_borders=smooth_borders)
        decoded[smooth_borders] = latent.decode(latent.encode(clip.motion)).expression[: len(truth)]
    bend = np.linalg.norm(np.diff(truth, n=2, axis=0)[..., :2], axis=-1).mean(axis=0) * percent
    return [
        float(value)
        for value in (
            lips(np.zeros_like(truth)).mean(), lips(fitted).mean(), lips(fitted_named).mean(),
            np.corrcoef(gap, lip_gap(fitted).mean(axis=1))[0, 1],
            lips(decoded[False]).mean(), np.percentile(lips(decoded[False]), 95),
            np.abs(lip_gap(decoded[False]).mean(axis=1) - gap).mean() * percent,
            lips(decoded[True]).mean(), bend[LIP_EDGES].mean(), bend[list(STABLE)].mean(),
        )
    ]  # fmt: skip


def _table(rows: dict[str, list[float]]) -> str:
    width = max(map(len, rows)) + 2
    lines = [" " * width + "".join(f"{name:>12}" for name in COLUMNS)]
    lines += [f"{name:<{width}}" + "".join(f"{value:12.3f}" for value in row) for name, row in rows.items()]
    values = np.array(list(rows.values()))
    for name, row in (("mean", values.mean(axis=0)), ("largest", values.max(axis=0))):
        lines.append(f"{name:<{width}}" + "".join(f"{value:12.3f}" for value in row))
    return "\n".join([*lines, "", *MEANINGS, ""])


if __name__ == "__main__":
    sys.exit(main())
