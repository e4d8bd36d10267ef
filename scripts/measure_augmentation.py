"""What augmentation does to clips: pitch and sync of stretched ones, faces, lips and flicker of styled ones, and how they look.

    python scripts/measure_augmentation.py CLIPS_DIR OUT_DIR [--clips 8] [--seconds 6]

Sync is told by the package's scorer, pitch by its measure of prosody. Flicker is the mean change from frame to frame where the
clip itself changes by less than three levels, in parts of the clip's own. OUT_DIR receives `augmentation.md`, `styles.png`
(one frame of each clip in each style) and `frames.png` (six frames of the first clip that follow each other).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from avatar.data.augmentation.guard import GuardReport
from avatar.data.augmentation.offline import change_clip, elsewhere, face_width_px, track_face
from avatar.data.augmentation.style import FILTERS, ColourStatistics, Restyle, colour_transfer
from avatar.data.clip_sources import find_clips
from avatar.emotion.voice import measure_prosody
from avatar.media import read_waveform
from avatar.media.output import staged
from avatar.media.video import read_video
from avatar.types import DEFAULT_FPS, Waveform

FACTORS = (0.85, 0.93, 1.07, 1.15)
_TILE_PX = 240
_STILL = 3  # levels
_FLICKER_FRAMES = 24
_HIGH_IS_GOOD = ("lips r", "passed", "confidence before", "confidence after")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each clip, at most")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    clips = [_read(clip.path, arguments.seconds) for clip in find_clips([arguments.clips_dir])[: arguments.clips]]
    stretched: dict[float, list[dict[str, float]]] = defaultdict(list)
    styled: dict[str, list[dict[str, float]]] = defaultdict(list)
    rows, frames = [], []
    for k, (pictures, speech) in enumerate(clips):
        tracked = track_face(pictures)
        for factor in FACTORS:
            changed = change_clip(pictures, speech, factor, _as_it_is, tracked=tracked)
            stretched[factor].append(_of_stretched(speech, changed.speech, changed.report))
        width = face_width_px(tracked)
        looks: dict[str, Restyle] = {
            "original": _as_it_is,
            "colours": _colours(pictures, clips[(k + 1) % len(clips)][0]),
            **{name: made(width) for name, made in FILTERS.items()},
        }
        for name, restyle in looks.items():
            report = change_clip(pictures, speech, 1.0, restyle, tracked=tracked).report
            styled[name].append(_of_styled(pictures, restyle, report))
        resound = partial(elsewhere, rng=np.random.default_rng(k))
        report = change_clip(pictures, speech, 1.0, _as_it_is, tracked=tracked, resound=resound).report
        styled["sound elsewhere"].append(_of_styled(pictures, _as_it_is, report))
        middle = len(pictures) // 2
        rows.append([restyle(pictures[middle]) for restyle in looks.values()])
        if not frames:
            frames = [[restyle(pictures[middle + j]) for j in range(6)] for restyle in looks.values()]
        sys.stderr.write(f"{k + 1} of {len(clips)} clips\n")
    _save(arguments.out / "styles.png", rows)
    _save(arguments.out / "frames.png", frames)
    text = "\n\n".join([_table("stretched by", stretched), _table("style", styled), "Means, and the worst clip."])
    (arguments.out / "augmentation.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def _as_it_is(image: np.ndarray) -> np.ndarray:
    return image


def _read(path: Path, seconds: float) -> tuple[np.ndarray, Waveform]:
    speech, count = read_waveform(path), round(seconds * DEFAULT_FPS)
    pictures = np.stack([frame for frame, _ in zip(read_video(path, DEFAULT_FPS), range(count), strict=False)])
    length = round(len(pictures) / DEFAULT_FPS * speech.sample_rate_hz)
    return pictures, Waveform(speech.samples[:length], speech.sample_rate_hz)


def _colours(own: np.ndarray, other: np.ndarray) -> Restyle:
    return colour_transfer(ColourStatistics.of(own[0]), ColourStatistics.of(other[0]))


def _of_stretched(speech: Waveform, slower: Waveform, report: GuardReport) -> dict[str, float]:
    pitch, after = measure_prosody(speech), measure_prosody(slower)
    known = pitch is not None and after is not None
    return {
        "pitch, semitones": 12 * np.log2(after.pitch_hz / pitch.pitch_hz) if known else np.nan,
        **_of_guard(report),
    }


def _of_styled(pictures: np.ndarray, restyle: Restyle, report: GuardReport) -> dict[str, float]:
    part = pictures[:_FLICKER_FRAMES].astype(np.float32)
    still = np.abs(np.diff(part, axis=0)).max(-1) < _STILL
    made = np.stack([restyle(frame) for frame in pictures[:_FLICKER_FRAMES]]).astype(np.float32)
    own, changed = (np.abs(np.diff(x, axis=0)).mean(-1)[still].mean() for x in (part, made))
    return {"flicker": changed / max(own, 1e-6), "flicker, levels": changed, **_of_guard(report)}


def _of_guard(report: GuardReport) -> dict[str, float]:
    before, after = report.sync
    both = before is not None and after is not None
    return {
        "offset before, frames": before.offset_frames if both else np.nan,
        "offset after": after.offset_frames if both else np.nan,
        "confidence before": before.confidence if both else np.nan,
        "confidence after": after.confidence if both else np.nan,
        "lips r": report.lip_r,
        "lips late, ms": 1000 * report.offset_s,
        "face error": report.landmark_error,
        "passed": float(report.passes),
    }


def _table(head: str, results: dict) -> str:
    names = list(next(iter(results.values()))[0])
    lines = ["| " + " | ".join([head, *names]) + " |", "|---|" + "---|" * len(names)]
    for key, each in results.items():
        means = [f"{np.nanmean([figures[name] for figures in each]):.3f}" for name in names]
        worst = [_worst(name, np.array([figures[name] for figures in each])) for name in names]
        cells = [f"{mean} ({most:.3g})" for mean, most in zip(means, worst, strict=True)]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _worst(name: str, values: np.ndarray) -> float:
    return float(np.nanmin(values) if name in _HIGH_IS_GOOD else np.nanmax(np.abs(values)))


def _save(path: Path, rows: list[list[np.ndarray]]) -> None:
    """A sheet of pictures, each within a square."""
    tiles = []
    for row in rows:
        line = []
        for picture in row:
            scale = _TILE_PX / max(picture.shape[:2])
            size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            pads = ((0, _TILE_PX - small.shape[0]), (0, _TILE_PX - small.shape[1]), (0, 0))
            line.append(np.pad(small, pads))
        tiles.append(np.hstack(line))
    with staged(path, overwrite=True) as name:
        Path(name).write_bytes(cv2.imencode(".png", np.vstack(tiles)[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    sys.exit(main())
