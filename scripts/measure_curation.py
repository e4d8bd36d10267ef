"""Precision and recall of `avatar curate` per planted defect, on videos of the synthetic corpus or on real ones.

    python scripts/measure_curation.py CORPUS OUT [--clips 40] [--seed 0] [--portraits FILE ...] [--size 384] [--workers 2]
    python scripts/measure_curation.py CURATED OUT --from-curated [--clips 40]

CORPUS is the synthetic speech (scripts/make_embedded_corpus.py). Portraits that talk are rendered; a part of them stays as it is,
of the others each gets one defect, so that every defect has the others and the sound ones as its negatives. What a defect
needs of another clip (its sound, its face, what follows the cut) comes from a clip
that is nowhere else. CURATED is an output folder of
`avatar curate`: the clips that it kept are taken in place of rendered ones. Everything is measured of every clip
(`lazy = false`), and a defect counts as found by the reasons named in DEFECTS.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avatar.data import curate
from avatar.data.clip_media import ClipMedia
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder, read_sidecars
from avatar.data.curation.shots import COLUMNS as SHOTS
from avatar.data.engines.local import LocalEngine
from avatar.data.manifest import read_manifest, read_table
from avatar.data.synthetic.render import render_clips
from avatar.media import read_picture, read_video, read_waveform, write_picture, write_video
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

FPS = 25
SOUND = "sound"
LEAST_S, MOST_S, SIDE_PX = 3.5, 8.0, 640  # of clips of CURATED
LEAST_SHIFT, MOST_SHIFT = 7, 12  # frames; LatentSync rejects above 6
DISSOLVE_FRAMES = 20


@dataclass(frozen=True)
class Talk:
    """A rendered clip: (T, H, W, 3) uint8 at 25 fps, and its sound."""

    frames: np.ndarray
    sound: np.ndarray

    def write(self, path: Path, crf: int = 20) -> None:
        write_video(path, iter([self.frames]), fps=FPS, speech=Waveform(self.sound), crf=crf)


Make = Callable[[Talk, Talk, np.random.Generator], Talk]


def dark(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    return Talk((talk.frames * rng.uniform(0.08, 0.2)).astype(np.uint8), talk.sound)


def blurred(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    sigma = rng.uniform(3, 6) * talk.frames.shape[1] / 384
    return Talk(np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in talk.frames]), talk.sound)


def shifted(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    frames = int(rng.integers(LEAST_SHIFT, MOST_SHIFT + 1) * rng.choice([-1, 1]))
    return Talk(talk.frames, moved(talk.sound, frames / FPS))


def swapped(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    return Talk(talk.frames, np.resize(other.sound, len(talk.sound)))


def two_faces(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    beside = other.frames[np.arange(len(talk.frames)) % len(other.frames)][:, :, ::-1]
    beside = np.stack([cv2.resize(frame, talk.frames.shape[2:0:-1]) for frame in beside])
    return Talk(np.concatenate([talk.frames, beside], axis=2), talk.sound)


def no_face(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    """A landscape of coloured patches in which as much moves."""
    height, width = talk.frames.shape[1:3]
    patches = cv2.resize(
        rng.integers(20, 235, (9, 12, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    patches = np.clip(patches + rng.normal(0, 12, patches.shape), 0, 255).astype(np.uint8)
    return Talk(np.stack([np.roll(patches, k // 3, axis=1) for k in range(len(talk.frames))]), talk.sound)


def hard_cut(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    return joined(talk, other, 0)


def dissolve(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    return joined(talk, other, DISSOLVE_FRAMES)


def copied(talk: Talk, other: Talk, rng: np.random.Generator) -> Talk:
    """A copy as they turn up: smaller, mirrored or cropped; written with another quality."""
    kind = rng.integers(3)
    height, width = talk.frames.shape[1:3]
    if kind == 0:
        size = round(width * 0.375) * 2, round(height * 0.375) * 2
        return Talk(
            np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in talk.frames]), talk.sound
        )
    if kind == 1:
        return Talk(np.ascontiguousarray(talk.frames[:, :, ::-1]), talk.sound)
    y, x = round(height * 0.025) * 2, round(width * 0.025) * 2
    return Talk(np.ascontiguousarray(talk.frames[:, y:-y, x:-x]), talk.sound)


DEFECTS: dict[str, tuple[Make, frozenset[str]]] = {  # how it is made, reasons for it
    "dark": (dark, frozenset({"dark", "dark_face", "underexposed"})),
    "blurred": (blurred, frozenset({"blurred", "blurred_picture"})),
    "shifted": (shifted, frozenset({"sync_offset"})),
    "swapped": (swapped, frozenset({"sync_weak"})),
    "two_faces": (two_faces, frozenset({"several_faces"})),
    "no_face": (no_face, frozenset({"no_face"})),
    "duplicate": (copied, frozenset({"duplicate"})),
    "hard_cut": (hard_cut, frozenset({"cut"})),  # of the source: how many, and where
    "dissolve": (dissolve, frozenset({"dissolve"})),
}
KINDS = (SOUND, *DEFECTS)
NEED_ANOTHER = ("swapped", "two_faces", "hard_cut", "dissolve")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="CORPUS")
    parser.add_argument("out", type=Path)
    parser.add_argument("--from-curated", action="store_true", help="CORPUS is an output folder of `avatar curate`")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--portraits", type=Path, nargs="*", help="pictures; default: the shipped one in four variants")
    parser.add_argument("--size", type=int, default=384, help="longer side of rendered clips, px")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--config", type=Path, help="TOML over the defaults")
    args = parser.parse_args()
    videos, truth = args.out / "videos", args.out / "truth.json"
    if not truth.exists():
        clips = kept_clips(args.source, args.seed) if args.from_curated else rendered_clips(args)
        truth.write_text(json.dumps(plant(clips, args.clips, videos, args.seed), indent=1))
    with closing(LocalEngine(args.workers)) as engine:
        config = {"lazy": False, "export": {"media": "none"}, "limits": {"too_short": {"min": 1.5}}}
        curate(videos, args.out / "curated", CurationConfig.load(args.config, config).values, engine, progress=told)
    show(json.loads(truth.read_text()), found_in(args.out / "curated"))


def rendered_clips(args: argparse.Namespace) -> Iterator[Talk]:
    """As many clips as it takes, and their others."""
    portraits = args.portraits or variants(args.out / "portraits")
    folder = args.out / "rendered"
    needed = args.clips + sum(kind in NEED_ANOTHER for kind in islice(cycle(KINDS), args.clips))
    render_clips(args.source, folder, needed, portraits, seed=args.seed, size_px=args.size)
    for path in sorted((folder / "clips").glob("*.mp4")):
        yield Talk(np.stack(list(read_video(path))), read_waveform(path).samples)


def kept_clips(curated: Path, seed: int) -> Iterator[Talk]:
    """The kept clips of an output folder in random order, the first of each source."""
    rows = {row["source_id"]: row for row in reversed(read_manifest(curated).to_pylist()) if row["keep"]}
    chosen = [row for _, row in sorted(rows.items()) if row["duration_s"] >= LEAST_S]
    for index in np.random.default_rng(seed).permutation(len(chosen)):
        clip = ClipMedia(chosen[index] | {"end_s": min(chosen[index]["end_s"], chosen[index]["start_s"] + MOST_S)})
        frames, waveform = clip.frames(SIDE_PX), clip.waveform()
        if waveform is not None:
            height, width = (side // 2 * 2 for side in frames.shape[1:3])
            yield Talk(frames[:, :height, :width], waveform.samples[: len(frames) * MODEL_SAMPLE_RATE_HZ // FPS])


def variants(folder: Path) -> list[Path]:
    """The shipped portrait, mirrored, in other light and nearer: pictures that differ and have one face each."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = read_picture(Path(__file__).resolve().parent.parent / "examples" / "astronaut.png")[:, :, :3]
    warm = np.clip(picture * np.array([1.1, 0.95, 0.75]), 0, 255).astype(np.uint8)
    cool = np.clip(picture[:, ::-1] * np.array([0.75, 0.95, 1.1]) + 12, 0, 255).astype(np.uint8)
    made = {
        "plain": picture[:320, 60:380],
        "mirrored": picture[:280, 360:80:-1],
        "warm": warm[:260, 90:350],
        "cool": cool[:300, 140:440],
    }
    for name, pixels in made.items():
        write_picture(folder / f"{name}.png", np.ascontiguousarray(pixels), overwrite=True)
    return sorted(folder.glob("*.png"))


def plant(clips: Iterator[Talk], count: int, videos: Path, seed: int) -> dict[str, dict[str, Any]]:
    """Writes clips with a defect each, in turns; file name to what was planted in it."""
    videos.mkdir(parents=True, exist_ok=True)
    planted: dict[str, dict[str, Any]] = {}
    for index in range(count):
        kind = KINDS[index % len(KINDS)]
        name = f"{index:04d}-{kind}.mp4"
        taken = list(islice(clips, 2 if kind in NEED_ANOTHER else 1))
        if len(taken) < (2 if kind in NEED_ANOTHER else 1):
            print(f"the clips are used up: {index} of {count} are planted", file=sys.stderr)
            break
        talk, other = taken[0], taken[-1]
        rng = np.random.default_rng((seed, index))
        planted[name] = {"kind": kind, "cut": None}
        if kind in (SOUND, "duplicate"):
            talk.write(videos / name)
        if kind == "duplicate":  # the clip itself is sound; of the two one is rejected
            copied(talk, other, rng).write(videos / f"{index:04d}-copy.mp4", crf=27)
            planted[f"{index:04d}-copy.mp4"] = {"kind": kind, "cut": None}
        elif kind != SOUND:
            if kind in ("hard_cut", "dissolve"):
                planted[name]["cut"] = len(talk.frames)
            DEFECTS[kind][0](talk, other, rng).write(videos / name)
    return planted


def moved(sound: np.ndarray, delay_s: float) -> np.ndarray:
    count = round(abs(delay_s) * MODEL_SAMPLE_RATE_HZ)
    silence = np.zeros(count, np.float32)
    return np.concatenate([silence, sound[:-count]] if delay_s > 0 else [sound[count:], silence])


def joined(one: Talk, two: Talk, overlap: int) -> Talk:
    """One after the other, in the same size, with a dissolve of `overlap` frames or none."""
    size = one.frames.shape[2:0:-1]
    second = np.stack([cv2.resize(frame, size)[:, ::-1] for frame in two.frames])
    second = np.clip(second * 0.7 + np.array([20, 50, 70]), 0, 255).astype(np.uint8)  # another place
    if not overlap:
        return Talk(np.concatenate([one.frames, second]), np.concatenate([one.sound, two.sound]))
    weight = np.linspace(0, 1, overlap + 2)[1:-1, None, None, None]
    between = ((1 - weight) * one.frames[-overlap:] + weight * second[:overlap]).astype(np.uint8)
    samples = overlap * MODEL_SAMPLE_RATE_HZ // FPS
    sound = np.concatenate(
        [one.sound[:-samples], one.sound[-samples:] * 0.5 + two.sound[:samples] * 0.5, two.sound[samples:]]
    )
    return Talk(np.concatenate([one.frames[:-overlap], between, second[overlap:]]), sound)


def found_in(out: Path) -> dict[str, set[str]]:
    """Source to what was found of any of its clips, with `cut` and `dissolve` of the source itself."""
    found: dict[str, set[str]] = {}
    groups: dict[str, list[str]] = {}
    for row in read_manifest(out).to_pylist():
        found.setdefault(row["source_id"], set()).update(row["reject_reasons"])
        if row["dup_group"]:
            groups.setdefault(row["dup_group"], []).append(row["source_id"])
    for members in groups.values():
        for source in members:
            found[source].add("duplicate")  # either of the two may be the one that goes
    folder = CurationFolder(out)
    settings = folder.read_settings()
    names = dict(read_table(folder.sources).select(["source_key", "source_id"]).to_pandas().to_numpy().tolist())
    for row in read_sidecars(folder.sidecars("shots", "1", settings["shots"]), "source_key", SHOTS).to_pylist():
        kinds = {"cut": row["cut_frames"], "dissolve": row["dissolve_first_frames"]}
        found[names[row["source_key"]]].update(kind for kind, frames in kinds.items() if frames)
    return found


def show(planted: Mapping[str, Mapping[str, Any]], found: Mapping[str, set[str]]) -> None:
    """A row per defect: precision and recall, and what was taken for it or missed."""
    print(
        "| defect | planted | found | precision | recall | wrongly found in | missed |\n|---|---|---|---|---|---|---|"
    )
    for defect, (_, reasons) in DEFECTS.items():
        has = {name for name, what in planted.items() if what["kind"] == defect}
        flagged = {name for name, what in found.items() if what & reasons}
        right = len(has & flagged)
        precision, recall = right / max(len(flagged), 1), right / max(len(has), 1)
        wrong, missed = ", ".join(sorted(flagged - has)[:4]), ", ".join(sorted(has - flagged)[:4])
        print(f"| {defect} | {len(has)} | {len(flagged)} | {precision:.2f} | {recall:.2f} | {wrong} | {missed} |")
    clean = {name for name, what in planted.items() if what["kind"] == SOUND}
    kept = {name for name in clean if not found.get(name)}
    print(f"\n{len(kept)} of {len(clean)} clips without a defect are kept")
    for name in sorted(clean - kept):
        print(f"  {name}: {', '.join(sorted(found[name]))}")


def told(stage: str, done: int, total: int) -> None:
    print(f"{stage}: {done} of {total}", file=sys.stderr)


if __name__ == "__main__":
    main()
