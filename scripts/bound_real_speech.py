"""How well can the opening of the lips be read from the speech features at best? A bound for scripts/score_real_speech.py.

Instead of a model that never saw footage, the clips themselves: for each clip a ridge regression from the speech features
and the loudness around each frame to the person's own opening, fitted on all the other clips (moved into step with their
sound). What it reads is compared with the clip's own opening like a generated mouth's, undrawn. Several clips show
one person, so the bound is rather high than low. It is a yardstick: nothing of it goes into anything that is shipped.

    python scripts/score_real_speech.py CLIPS_DIR OUT_DIR --tracks CEILING_DIR      # first: tracks and offsets
    python scripts/bound_real_speech.py CLIPS_DIR CEILING_DIR OUT_DIR/scores.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2Model

from avatar.data.sync.sound import shipped_encoder, speech_per_frame
from avatar.errors import InputError
from avatar.evaluate.correlation import delayed
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.lip_sync import score_lip_sync
from avatar.evaluate.sound import sound_envelope
from avatar.evaluate.tables import markdown_table, mean_lines, mean_of, number
from avatar.media import read_waveform
from avatar.types import DEFAULT_FPS, Waveform

SHOWN = (
    ("opening", "opening.best"),
    ("best envelope", "best_envelope"),
    ("above", "above_envelope"),
    ("in step", "opening_in_step.best"),
    ("envelope in step", "envelope_in_step"),
    ("above in step", "above_in_step"),
)
MOST_FRAMES = 400  # of one clip in the fit, so that a long one does not decide it


@dataclass(frozen=True)
class Clip:
    """A clip that was scored.

    Attributes:
        name, language: as in its row.
        speech: its sound.
        track: the person's own face.
        own_offset_frames: how many frames its sound is early.
        heard: (T, D) what is heard around each frame, each column with mean 0 and spread 1.
    """

    name: str
    language: str
    speech: Waveform
    track: FaceTrack
    own_offset_frames: int
    heard: np.ndarray


def main() -> int:
    args = _parse_arguments()
    if not args.scores.is_file():
        raise InputError(f"{args.scores} is missing; SCORES is the scores.csv of a finished score_real_speech.py")
    sounds, encoder = _sounds(args.clips), shipped_encoder()
    with args.scores.open(newline="", encoding="utf-8") as file:
        clips = [_read_clip(row, sounds, args.tracks, encoder, args.context) for row in csv.DictReader(file)]
    rows: list[dict[str, Any]] = [
        {"clip": clip.name, "language": clip.language, **_score(clip, opening)}
        for clip, opening in zip(clips, _read_by_others(clips, args.ridge), strict=True)
    ]
    heads, keys = zip(*SHOWN, strict=True)
    table = [["**mean**", str(len(rows)), *(number(mean_of(rows, key)) for key in keys)]]
    print(markdown_table(["language", "clips", *heads], table + mean_lines(rows, "language", keys)))
    below = sorted(row["clip"] for row in rows if not row["above_envelope"])
    print(f"\n{len(rows) - len(below)} of {len(rows)} above the envelope; not: {', '.join(below)}")
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with manifest.csv")
    parser.add_argument(
        "tracks", type=Path, help="folder of the real clips' tracks, of a finished score_real_speech.py"
    )
    parser.add_argument("scores", type=Path, help="scores.csv of a finished score_real_speech.py")
    parser.add_argument(
        "--context", type=int, default=3, help="frames before and after that are heard too (default: 3)"
    )
    parser.add_argument("--ridge", type=float, default=20000.0, help="weight of the penalty (default: 20000)")
    return parser.parse_args()


def _sounds(folder: Path) -> dict[str, Path]:
    """The files of the talking clips, by name."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {
            Path(row["path"]).stem: folder / row["path"] for row in csv.DictReader(file) if row["kind"] == "talking"
        }


def _read_clip(
    row: dict[str, str], sounds: dict[str, Path], tracks: Path, encoder: Wav2Vec2Model, context: int
) -> Clip:
    track_file = tracks / f"{row['clip']}.track.npz"
    if not track_file.is_file():
        raise InputError(f"{track_file} is missing; TRACKS is the folder that score_real_speech.py kept its tracks in")
    with np.load(track_file) as stored:
        track = FaceTrack.from_landmarks(stored["landmarks"], stored["found"], DEFAULT_FPS)
    if row["clip"] not in sounds:
        raise InputError(f"manifest.csv lists no talking clip named {row['clip']}; CLIPS and SCORES belong together")
    speech = read_waveform(sounds[row["clip"]])
    features = speech_per_frame(speech, encoder)
    num_frames = min(len(features), track.num_frames)
    loudness = sound_envelope(speech, num_frames, DEFAULT_FPS)
    heard = np.column_stack([features[:num_frames], loudness, np.log(loudness + 1e-3 * loudness.max())])
    heard = (heard - heard.mean(0)) / (heard.std(0) + 1e-6)
    around = [np.roll(heard, shift, axis=0) for shift in range(-context, context + 1)]
    return Clip(
        row["clip"],
        row["language"],
        speech,
        track[:num_frames],
        int(row["own_offset_frames"]),
        np.concatenate(around, 1),
    )


def _read_by_others(clips: list[Clip], ridge: float) -> list[np.ndarray]:
    """Each clip's opening (T,) as a regression on the other clips reads it."""
    normals, rights = [], []
    for clip in clips:
        opening = delayed(clip.track.opening, -clip.own_offset_frames)  # in step with the sound
        known = np.flatnonzero(np.isfinite(opening))[:MOST_FRAMES]
        target = (opening[known] - opening[known].mean()) / (opening[known].std() + 1e-6)
        heard = torch.from_numpy(clip.heard[known]).double()
        normals.append(heard.T @ heard)
        rights.append(heard.T @ torch.from_numpy(target))
    normal, right = torch.stack(normals).sum(0), torch.stack(rights).sum(0)
    normal += ridge * torch.eye(len(normal), dtype=torch.float64)
    return [
        clip.heard @ torch.linalg.solve(normal - own, right - own_right).numpy()
        for clip, own, own_right in zip(clips, normals, rights, strict=True)
    ]


def _score(clip: Clip, opening: np.ndarray) -> dict[str, float]:
    """Its figures as if the mouth had opened so."""
    return score_lip_sync(replace(clip.track, opening=opening), clip.track, clip.speech, clip.own_offset_frames).flat()


if __name__ == "__main__":
    sys.exit(main())
