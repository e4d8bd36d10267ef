"""Scores how well the generated mouth follows real speech: real clips are re-made from one frame and their own sound.

For each talking clip of a folder with a manifest.csv (columns path, kind, language, sync_tier): the frame with the most
closed mouth of the first second becomes the portrait, the clip's sound drives it, the finished mp4 is tracked again,
and the lips are compared with the clip's own. Writes a CSV and a picture, and prints a table per clip, one per language,
and the means. A video that is there is not made again, so a stopped run goes on where it was.

    python scripts/score_real_speech.py CLIPS_DIR CEILING_DIR --ceiling
    python scripts/score_real_speech.py CLIPS_DIR OUT_DIR --tracks CEILING_DIR --beside CEILING_DIR
    python scripts/score_real_speech.py CLIPS_DIR MOTION_DIR --tracks CEILING_DIR --undrawn     # quick: no video

Columns: `opening` is the correlation of lip opening at the best lag within ±3 frames, `above` the share of clips (of one
clip: 1 or 0) on which it beats `best envelope`; `in step`, `envelope in step` and `above in step` the same after the clip's own
sound was moved by `own offset`, which the shipped sync scorer reads from the real clip alone; `rank` the share of shifts of
1 s or more at which it is lower than in place; `closures` the share of the person's lip closures at which the generated mouth
closes or clearly dips, beside the same by chance.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from avatar.codec.mesh.renderer import Stage
from avatar.codec.mesh.track import clip_geometry
from avatar.data.scorers.sync import shipped_sync
from avatar.data.sync.lips import tracked_lips
from avatar.errors import AvatarError, FaceError, InputError, NoFaceError
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.lip_sync import score_lip_sync
from avatar.evaluate.plots import plot_scores
from avatar.evaluate.tables import markdown_table, mean_lines, mean_of, number, write_csv
from avatar.face_mesh import fit_head, head_pose
from avatar.identity.choose import choose_face, load_portrait
from avatar.identity.crop import landmark_box
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.media import read_video, read_waveform, write_picture, write_video
from avatar.pipeline import AvatarPipeline, Options
from avatar.types import DEFAULT_FPS, BBox, Face, Waveform

PORTRAIT_WITHIN_S = 1.0
BLOCK_FRAMES = 25
LOG = logging.getLogger("score_real_speech")

SHOWN = (
    ("opening", "opening.best"),
    ("best envelope", "best_envelope"),
    ("above", "above_envelope"),
    ("own offset", "own_offset_frames"),
    ("in step", "opening_in_step.best"),
    ("envelope in step", "envelope_in_step"),
    ("above in step", "above_in_step"),
    ("lag", "opening.lag_frames"),
    ("opening lag 0", "opening.at_zero"),
    ("sound RMS", "sound_rms.best"),
    ("300–1000 Hz", "sound_band.best"),
    ("rank", "shift_rank"),
    ("closures", "closures_hit"),
    ("by chance", "closures_hit_by_chance"),
    ("width", "width.best"),
    ("range ×", "range_ratio"),
    ("jitter", "jitter"),
    ("true jitter", "truth_jitter"),
    ("pauses", "silence_motion"),
    ("true pauses", "truth_silence_motion"),
    ("head °", "head_spread_deg"),
    ("true head °", "truth_head_spread_deg"),
    ("gaze", "gaze_spread"),
    ("true gaze", "truth_gaze_spread"),
    ("blinks/min", "blinks_per_min"),
    ("true blinks/min", "truth_blinks_per_min"),
)


@dataclass(frozen=True)
class Clip:
    """One row of the manifest; `number` counts the clips that are taken."""

    path: Path
    name: str
    language: str
    number: int


@dataclass(frozen=True)
class TrackedClip:
    """A real clip and the face in it.

    Attributes:
        clip: which.
        landmarks: (T, 478, 3) px at 25 fps.
        found: (T,) bool.
        portrait: the frame chosen as portrait, as a png beside the results.
        portrait_frame: its index.
    """

    clip: Clip
    landmarks: np.ndarray
    found: np.ndarray
    portrait: Path
    portrait_frame: int

    @property
    def face(self) -> BBox:
        """The box of the face in the portrait."""
        return landmark_box(self.landmarks[self.portrait_frame])

    @property
    def track(self) -> FaceTrack:
        """The person's own movement."""
        return FaceTrack.from_landmarks(self.landmarks, self.found, DEFAULT_FPS)


Remake = Callable[[TrackedClip, Path], Path]  # makes the video to be scored
Perform = Callable[[TrackedClip], FaceTrack]  # makes what is scored


def main() -> int:
    args = _parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    faces = MediaPipeFaces()
    perform = _performer(args, faces)
    tracks: dict[str, tuple[FaceTrack, FaceTrack]] = {}
    rows, failed = [], 0
    clips = list(islice(_read_manifest(args.clips, args.tier, args.language), args.limit))
    for index, clip in enumerate(clips):
        LOG.info("%d/%d %s", index + 1, len(clips), clip.name)
        try:
            tracked = _track_clip(clip, faces, args.tracks or args.out)
            tracks[clip.name] = perform(tracked), tracked.track
            speech = read_waveform(clip.path)
            score = score_lip_sync(*tracks[clip.name], speech, _own_offset_frames(tracked, speech)).flat()
        except AvatarError as err:
            LOG.error("  %s: %s", clip.name, err)
            failed += 1
            continue
        rows.append({"clip": clip.name, "language": clip.language, **score})
    if not rows:
        LOG.error("no clip was scored")
        return 1
    write_csv(args.out / "scores.csv", rows)
    LOG.info("%s", args.out / "scores.csv")
    plot_scores(rows, tracks, args.out / "scores.png")
    _print_tables(rows, _beside(args.beside, rows) + SHOWN)
    return 1 if failed else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with manifest.csv")
    parser.add_argument("out", type=Path, help="folder for videos, scores.csv, scores.png")
    parser.add_argument(
        "--tracks", type=Path, help="folder of the real clips' tracks, to share them (default: OUT_DIR)"
    )
    parser.add_argument("--beside", type=Path, help="OUT_DIR of another run, whose opening is shown too")
    parser.add_argument("--tier", default="A", help="sync tiers to take, such as A or AB (default: A)")
    parser.add_argument("--language", help="only this language")
    parser.add_argument("--limit", type=int, help="only the first so many clips")
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--emotion", default="neutral")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip; the others count on from it")
    parser.add_argument("--size", type=int, help="longer side in px (default: the clip's own)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the preset's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the preset's)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--undrawn", action="store_true", help="score the motion itself, without drawing and tracking it")
    how.add_argument(
        "--ceiling",
        action="store_true",
        help="render the tracked truth itself: what the renderer and the tracker allow",
    )
    return parser.parse_args()


def _read_manifest(folder: Path, tiers: str, language: str | None) -> Iterable[Clip]:
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest} is missing; it lists the clips (columns path, kind, language, sync_tier)")
    with manifest.open(newline="", encoding="utf-8") as file:
        taken = (
            row
            for row in csv.DictReader(file)
            if row["kind"] == "talking" and row["sync_tier"] in tuple(tiers) and language in (None, row["language"])
        )
        for number, row in enumerate(taken):
            path = folder / row["path"]
            yield Clip(path, path.stem, row["language"], number)


def _performer(args: argparse.Namespace, faces: MediaPipeFaces) -> Perform:
    """What the command asks to be scored."""
    if args.undrawn:
        return _undrawn(args)
    return _drawn(_rerender if args.ceiling else _generator(args), faces, args.out)


def _generator(args: argparse.Namespace) -> Remake:
    """The pipeline, as something that makes a video from a tracked clip."""
    pipe = _pipeline(args.preset)

    def remake(tracked: TrackedClip, out: Path) -> Path:
        stream = pipe.stream(tracked.portrait, tracked.clip.path, **_options(args, tracked))
        return write_video(out, iter(stream), fps=stream.shape.fps, speech=stream.speech, overwrite=True)

    return remake


def _undrawn(args: argparse.Namespace) -> Perform:
    """The pipeline's motion itself."""
    pipe = _pipeline(args.preset)

    def perform(tracked: TrackedClip) -> FaceTrack:
        return FaceTrack.from_motion(pipe.motion(tracked.portrait, tracked.clip.path, **_options(args, tracked))[0])

    return perform


def _pipeline(preset: str) -> AvatarPipeline:
    pipe = AvatarPipeline.from_pretrained(preset)
    if not isinstance(pipe, AvatarPipeline):
        raise InputError(f"{preset!r} is no model of facial motion; this scores `embedded` and folders of its kind")
    return pipe


def _options(args: argparse.Namespace, tracked: TrackedClip) -> Options:
    return {
        "emotion": args.emotion,
        "seed": args.seed + tracked.clip.number,  # heads and eyes of as many kinds as there are clips
        "size_px": args.size,
        "face": tracked.face,
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
    }


def _rerender(tracked: TrackedClip, out: Path) -> Path:
    """Puts the clip's own tracked motion on its portrait: no model, only the tracker and the renderer."""
    stage = Stage(load_portrait(tracked.portrait, tracked.face))
    motion = clip_geometry(tracked.landmarks, tracked.found, tracked.portrait_frame).motion
    # the portrait's frame shall be the photo; its lips are absolute, all else is relative to it
    anchored = motion.expression - motion.expression[tracked.portrait_frame] + stage.own_expression
    motion = replace(motion, expression=anchored, gaze=motion.gaze - motion.gaze[tracked.portrait_frame])
    blocks = (stage.render(motion[start : start + BLOCK_FRAMES]) for start in range(0, len(motion), BLOCK_FRAMES))
    return write_video(out, blocks, fps=DEFAULT_FPS, speech=tracked.clip.path, overwrite=True)


def _drawn(remake: Remake, faces: MediaPipeFaces, out: Path) -> Perform:
    """Videos, tracked; whatever is there of both is not made again."""

    def perform(tracked: TrackedClip) -> FaceTrack:
        video, stored = out / f"{tracked.clip.name}.mp4", out / f"{tracked.clip.name}.remade.npz"
        if not stored.is_file():
            if not video.is_file():
                remake(tracked, video)
            landmarks, found = faces.track(read_video(video, DEFAULT_FPS))
            np.savez_compressed(stored, **FaceTrack.from_landmarks(landmarks, found, DEFAULT_FPS).curves())
        with np.load(stored) as curves:
            return FaceTrack(**curves, fps=DEFAULT_FPS)

    return perform


def _own_offset_frames(tracked: TrackedClip, speech: Waveform) -> int:
    """By how many frames the real clip's sound is early, as the shipped sync scorer hears it; 0 where it cannot tell."""
    lips = tracked_lips(tracked.landmarks, tracked.found)
    judged = None if lips is None else shipped_sync(speech, lips, tracked.found)
    return 0 if judged is None else judged.offset_frames


def _track_clip(clip: Clip, faces: MediaPipeFaces, out: Path) -> TrackedClip:
    """Tracks the real clip once, and keeps the track and the portrait."""
    out.mkdir(parents=True, exist_ok=True)
    track_file, portrait = out / f"{clip.name}.track.npz", out / f"{clip.name}.portrait.png"
    if track_file.is_file() and portrait.is_file():
        with np.load(track_file) as stored:
            return TrackedClip(clip, stored["landmarks"], stored["found"], portrait, int(stored["portrait_frame"]))
    landmarks, found = faces.track(read_video(clip.path, DEFAULT_FPS))
    frames = list(islice(read_video(clip.path, DEFAULT_FPS), round(PORTRAIT_WITHIN_S * DEFAULT_FPS)))
    portrait_frame = _most_closed_usable(frames, landmarks, found)
    write_picture(portrait, frames[portrait_frame])
    np.savez_compressed(track_file, landmarks=landmarks, found=found, portrait_frame=portrait_frame)
    return TrackedClip(clip, landmarks, found, portrait, portrait_frame)


def _most_closed_usable(frames: list[np.ndarray], landmarks: np.ndarray, found: np.ndarray) -> int:
    """Which of the frames shows the least open mouth on a face that can be animated.

    Raises:
        FaceError: none does; says what is wrong with the most closed one.
    """
    opening = FaceTrack.from_landmarks(landmarks[: len(frames)], found[: len(frames)], DEFAULT_FPS).opening
    refusals: list[FaceError] = [NoFaceError(f"no face in the first {PORTRAIT_WITHIN_S:g} s")]
    for index in np.argsort(opening)[: int(found[: len(frames)].sum())]:
        points = landmarks[index]
        face = Face(landmark_box(points), points, head_pose(fit_head(points).rotation))
        try:
            choose_face(frames[index], [face])
        except FaceError as err:
            refusals.append(err)
        else:
            return int(index)
    raise refusals[:2][-1]


def _beside(folder: Path | None, rows: list[dict]) -> tuple[tuple[str, str], ...]:
    """Takes another run's correlation of the opening into the rows; gives the column it makes."""
    if folder is None:
        return ()
    scores = folder / "scores.csv"
    if not scores.is_file():
        raise InputError(f"{scores} is missing; --beside takes the OUT_DIR of a finished run")
    with scores.open(newline="", encoding="utf-8") as file:
        other = {row["clip"]: float(row["opening.best"]) for row in csv.DictReader(file)}
    for row in rows:
        row["beside"] = other.get(row["clip"], math.nan)
    return ((f"opening, {folder.name}", "beside"),)


def _print_tables(rows: list[dict], shown: Sequence[tuple[str, str]]) -> None:
    """One line a clip with the means below, then the means of each language; Markdown."""
    heads, keys = [head for head, _ in shown], [key for _, key in shown]
    body = [[row["clip"], row["language"]] + [number(row[key]) for key in keys] for row in rows]
    body.append(["**mean**", ""] + [number(mean_of(rows, key)) for key in keys])
    print(markdown_table(["clip", "language", *heads], body))
    print()
    print(markdown_table(["language", "clips", *heads], mean_lines(rows, "language", keys)))


if __name__ == "__main__":
    sys.exit(main())
