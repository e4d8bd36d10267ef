"""Scores whether the lips follow speech as well on everybody: the same sentences on every portrait, by group.

Sentences of held-out synthetic voices drive each portrait of a folder; every finished mp4 is tracked again, and the lip
opening is compared with the articulation rules' (best lag within ±3 frames). A groups file with a column `path` and any other
columns, such as sex, age and skin, gives the groups; a portrait that cannot be animated is named with the reason.

    python scripts/score_portraits.py PORTRAITS_DIR CORPUS_DIR OUT_DIR --groups groups.csv [--sentences 3]
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from pathlib import Path

import numpy as np

from avatar.codec.mesh.rig import default_rig
from avatar.data.synthetic.corpus import load_speech
from avatar.data.synthetic.motion import Performance, perform
from avatar.errors import AvatarError, FaceError, InputError
from avatar.evaluate.correlation import lag_correlation
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.figures import Figure, figures_table
from avatar.evaluate.tables import markdown_table, number, write_csv
from avatar.evaluate.trial_sounds import Sentence, sentences
from avatar.identity.choose import load_portrait
from avatar.identity.mediapipe_faces import MediaPipeFaces
from avatar.media import read_video, write_video
from avatar.pipeline import AvatarPipeline
from avatar.types import DEFAULT_FPS, Portrait

LOG = logging.getLogger("score_portraits")
WORST_SHARE = 0.95  # of the mean over all groups


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("portraits", type=Path, help="folder of pictures")
    parser.add_argument("corpus", type=Path, help="made by scripts/make_embedded_corpus.py")
    parser.add_argument("out", type=Path, help="folder for the videos and scores.csv")
    parser.add_argument(
        "--groups", type=Path, required=True, help="CSV: path (in the folder) and one column a grouping"
    )
    parser.add_argument("--sentences", type=int, default=3, help="of different voices (default: %(default)s)")
    parser.add_argument("--preset", default="embedded")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        groups = read_groups(args.groups)
        rows = score_all(args, groups)
    except AvatarError as err:
        LOG.error("%s", err)
        return err.exit_code
    if not rows:
        LOG.error("no portrait could be animated")
        return 1
    report(rows, [column for column in groups[0] if column != "path"])
    return 0


def read_groups(path: Path) -> list[dict[str, str]]:
    """Rows of the groups file.

    Raises:
        InputError: there is none, or it has no column `path` beside another.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; a CSV with a column path and one column a grouping is needed")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "path" not in rows[0] or len(rows[0]) < 2:
        raise InputError(f"{path} needs rows, a column path and at least one other, such as sex")
    return rows


def score_all(args: argparse.Namespace, groups: list[dict[str, str]]) -> list[dict[str, str | float]]:
    """Each portrait's row with its mean correlation `r`; also written to scores.csv."""
    pipe, faces = AvatarPipeline.from_pretrained(args.preset), MediaPipeFaces()
    said = sentences(load_speech(args.corpus, "held-out"), 1)[: args.sentences]
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str | float]] = []
    for row in groups:
        picture = args.portraits / row["path"]
        try:
            portrait = load_portrait(picture)
        except FaceError as err:
            LOG.info("%s: left out: %s", row["path"], err)
            continue
        scores = [score(pipe, faces, portrait, one, args.out / f"{picture.stem}-{one.voice}.mp4") for one in said]
        rows.append({**row, "r": float(np.mean(scores))})
        LOG.info("%-32s %.3f", row["path"], rows[-1]["r"])
    if rows:
        write_csv(args.out / "scores.csv", rows)
    return rows


def score(pipe: AvatarPipeline, faces: MediaPipeFaces, portrait: Portrait, sentence: Sentence, out: Path) -> float:
    """Correlation of the lips of a finished video with the articulation rules."""
    stream = pipe.stream(portrait=portrait, speech=sentence.waveform, seed=0, size_px=512)
    write_video(out, iter(stream), fps=stream.shape.fps, speech=stream.speech, overwrite=True)
    shown = FaceTrack.from_landmarks(*faces.track(read_video(out, DEFAULT_FPS)), DEFAULT_FPS).opening
    rig = default_rig()
    rules = perform(sentence.utterance, rig, Performance(), np.random.default_rng(0))
    wanted = FaceTrack.from_motion(rules.mesh(rig)).opening
    length = min(len(shown), len(wanted))
    return lag_correlation(shown[:length], wanted[:length]).best


def report(rows: list[dict[str, str | float]], columns: list[str]) -> None:
    """Prints each group's mean beside the mean of all, and the worst group as a figure with its law."""
    mean = float(np.mean([float(row["r"]) for row in rows]))
    lines, figures = [], []
    for column in columns:
        values = {str(row[column]) for row in rows if row[column]}
        by_value = {v: [float(row["r"]) for row in rows if row[column] == v] for v in sorted(values)}
        lines += [[column, v, str(len(some)), number(float(np.mean(some)))] for v, some in by_value.items()]
        worst = min(float(np.mean(some)) for some in by_value.values())
        figures.append(Figure(f"worst group by {column}, share of the mean", worst / mean, at_least=WORST_SHARE))
    lines.append(["all", "", str(len(rows)), number(mean)])
    print(markdown_table(["grouping", "group", "portraits", "opening r"], lines))
    print()
    print(figures_table(figures))


if __name__ == "__main__":
    sys.exit(main())
