"""Puts videos and pictures on one sheet to look at: a row for each video, its frames from left to right.

Pictures fill rows of their own. With `--face` every row shows the square around the first frame's largest face.

    python scripts/contact_sheet.py A.mp4 B.mp4 C.png -o SHEET.png [--frames 8] [--height 192] [--face] [--labels]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar.errors import AvatarError
from avatar.media import probe_video, read_picture, read_video, write_picture

LOG = logging.getLogger("contact_sheet")
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_LABEL_PX = 14
_FACE_MARGIN = 1.5  # of the square around a face, in sides of its box

Crop = Callable[[np.ndarray], np.ndarray]


def sample_video(path: Path, num_frames: int) -> list[np.ndarray]:
    """`num_frames` pictures (H, W, 3) of a video, evenly spaced, the first and the last among them."""
    total = max(1, round(probe_video(path).duration_s * 25))
    wanted = set(np.linspace(0, total - 1, num_frames).round().astype(int).tolist())
    chosen = [frame for index, frame in enumerate(read_video(path)) if index in wanted]
    return chosen[:num_frames]


def face_crop(picture: np.ndarray) -> Crop:
    """A cut to the square around the largest face of `picture`; the whole picture when it has none."""
    from avatar.identity.mediapipe_faces import MediaPipeFaces

    faces = MediaPipeFaces().detect(picture)
    if not faces:
        return lambda other: other
    (x, y), side = faces[0].bbox.centre, _FACE_MARGIN * max(faces[0].bbox.width, faces[0].bbox.height)
    low = np.maximum(np.array([x, y]) - side / 2, 0).astype(int)
    high = np.minimum(np.array([x, y]) + side / 2, picture.shape[1::-1]).astype(int)
    return lambda other: other[low[1] : high[1], low[0] : high[0]]


def scaled_to_height(picture: np.ndarray, height_px: int) -> np.ndarray:
    width_px = max(1, round(picture.shape[1] * height_px / picture.shape[0]))
    shrinks = height_px < picture.shape[0]
    return cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def labelled(row: np.ndarray, text: str) -> np.ndarray:
    """The row with its name on a strip above it."""
    strip = np.full((_LABEL_PX, row.shape[1], 3), 32, np.uint8)
    cv2.putText(strip, text, (3, _LABEL_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, row])


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of different widths one below the other, (H, W, 3)."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def contact_sheet(
    paths: Sequence[Path], *, num_frames: int = 8, height_px: int = 192, face: bool = False, labels: bool = False
) -> np.ndarray:
    """The sheet, (H, W, 3) uint8.

    Args:
        paths: videos and pictures; neighbouring pictures share a row.
        num_frames: pictures in a row.
        height_px: height of a row.
        face: show only the face.
        labels: write each row's file name above it.
    """
    rows: list[tuple[str, list[np.ndarray]]] = []
    pictures_go_on = False
    for path in paths:
        is_picture = path.suffix.lower() in PICTURES
        frames = [read_picture(path)] if is_picture else sample_video(path, num_frames)
        crop = face_crop(frames[0]) if face else (lambda other: other)
        frames = [scaled_to_height(crop(frame), height_px) for frame in frames]
        if is_picture and pictures_go_on and len(rows[-1][1]) < num_frames:
            rows[-1] = (f"{rows[-1][0]}  {path.name}", rows[-1][1] + frames)
        else:
            rows.append((path.name, frames))
        pictures_go_on = is_picture
    joined = [(name, np.concatenate(frames, axis=1)) for name, frames in rows]
    return stacked([labelled(row, name) if labels else row for name, row in joined])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, help="videos and pictures")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the sheet, .png")
    parser.add_argument("--frames", type=int, default=8, help="pictures in a row (default: %(default)s)")
    parser.add_argument("--height", type=int, default=192, help="height of a row, px (default: %(default)s)")
    parser.add_argument("--face", action="store_true", help="show only the largest face")
    parser.add_argument("--labels", action="store_true", help="write file names above the rows")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        sheet = contact_sheet(
            args.paths, num_frames=args.frames, height_px=args.height, face=args.face, labels=args.labels
        )
        write_picture(args.output, sheet)
    except AvatarError as err:
        LOG.error("error: %s", err)
        return err.exit_code
    LOG.info("%s: %d x %d px", args.output, sheet.shape[1], sheet.shape[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
