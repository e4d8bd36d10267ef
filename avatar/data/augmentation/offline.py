"""Makes further clips of rare cells, as a folder of videos with a manifest that training and curation read.

A made clip keeps its labels and its person, has a `style`, and names what it was made from. It is left out where its face is no
longer the one it was, or out of step with its sound (`guard`).
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar.data.augmentation.guard import GuardLimits, GuardReport, check_changed
from avatar.data.augmentation.stretch import FACTORS, stretch_sound, stretched_indices
from avatar.data.augmentation.style import Restyle, random_style
from avatar.data.clip_dataset import ClipEntry, cells_of
from avatar.data.clip_sources import MANIFEST, SourceClip, find_clips
from avatar.errors import FaceError, OptionError
from avatar.media import read_waveform, write_video
from avatar.media.output import staged
from avatar.media.video import read_video
from avatar.types import DEFAULT_FPS

_COLUMNS = ("path", "identity", "split", "style", "made_from", "stretch", "guard")


@dataclass(frozen=True)
class AugmentOptions:
    """What is made.

    Attributes:
        by: labels whose combinations are cells.
        wanted: clips that a cell should have, made ones included.
        per_clip: how many clips are made of one at most; more would be the same thing again.
        seed: of all chance.
        limits: of the guard.
        restyle: a style for all clips instead of a random one, with its name; see `style.image_to_image`.
    """

    by: tuple[str, ...] = ("emotion", "ethnicity")
    wanted: int = 50
    per_clip: int = 3
    seed: int = 0
    limits: GuardLimits = GuardLimits()
    restyle: tuple[str, Restyle] | None = None

    def __post_init__(self) -> None:
        if self.wanted < 1 or self.per_clip < 1:
            raise OptionError(f"wanted and per_clip must be 1 or more, not {self.wanted} and {self.per_clip}")


def plan_augmentation(clips: Sequence[SourceClip], options: AugmentOptions) -> list[tuple[int, int]]:
    """(clip, which version) of everything to be made: of training clips of cells with too few, in turns."""
    training = [k for k, clip in enumerate(clips) if clip.split in (None, "train")]
    cells = cells_of([ClipEntry(clips[k].clip_id, 0, labels=clips[k].labels) for k in training], options.by)
    plan: list[tuple[int, int]] = []
    for cell in np.argsort(cells.sizes, kind="stable"):
        members = [training[k] for k in np.flatnonzero(cells.home == cell)]
        missing = max(0, options.wanted - len(members))
        versions = [(k, version) for version in range(options.per_clip) for k in members]
        plan += versions[:missing]
    return plan


def augment_rare(
    folders: Sequence[str | Path],
    out: str | Path,
    options: AugmentOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, dict[str, GuardReport]]:
    """Makes clips; what is there already is not made again.

    Args:
        folders: see `find_clips`.
        out: receives videos and `manifest.csv`.
        options: None for the usual ones.
        progress: told how many are done, and of how many.

    Returns:
        The folder, and what the guard said of each clip that was made now; those that did not pass are not in the folder.

    Raises:
        InputError, OptionError: folders or labels that cannot be used.
    """
    options, folder = options or AugmentOptions(), Path(out)
    clips = find_clips(folders)
    plan = plan_augmentation(clips, options)
    folder.mkdir(parents=True, exist_ok=True)
    rows, reports = _rows(folder), {}
    pictures = _Pictures(clips)
    for done, (index, version) in enumerate(plan, start=1):
        name = f"{clips[index].clip_id}-v{version}.mp4"
        if name not in rows:
            row, report = _make(clips[index], version, folder / name, options, pictures)
            reports[name] = report
            rows[name] = row
            _write_rows(folder, rows)
        if progress:
            progress(done, len(plan))
    return folder, reports


def _make(
    clip: SourceClip, version: int, path: Path, options: AugmentOptions, pictures: _Pictures
) -> tuple[dict[str, str], GuardReport]:
    from avatar.identity.mediapipe_faces import thread_faces

    rng = np.random.default_rng((options.seed, zlib.crc32(clip.clip_id.encode()), version))
    with clip.file() as file:
        speech, frames = read_waveform(file), np.stack(list(read_video(file, DEFAULT_FPS)))
    factor = float(rng.uniform(*FACTORS))
    style, restyle = options.restyle or random_style(rng, frames[0], pictures.any)
    shown = stretched_indices(len(frames), max(1, round(len(frames) * factor)), factor)
    made = np.stack([restyle(frame) for frame in frames])[shown]
    before, _ = thread_faces().track(frames)
    try:
        after, found = thread_faces().track(made)
    except FaceError:
        after, found = np.zeros((len(made), *before.shape[1:]), np.float32), np.zeros(len(made), bool)
    report = check_changed(before[shown], after, found, limits=options.limits)
    if report.passes:
        write_video(path, iter([made]), fps=DEFAULT_FPS, speech=stretch_sound(speech, factor), overwrite=True)
    labels = {
        key: value if isinstance(value, str) else max(value, key=lambda k: value[k])
        for key, value in clip.labels.items()
    }
    row = {**labels, "path": path.name, "identity": clip.person, "split": "train", "style": style}
    return {**row, "made_from": clip.clip_id, "stretch": f"{factor:.4f}", "guard": "; ".join(report.reasons)}, report


class _Pictures:
    """First frames of other clips, whose colours a clip may take."""

    def __init__(self, clips: Sequence[SourceClip]) -> None:
        self._clips = clips

    def any(self, rng: np.random.Generator) -> np.ndarray:
        with self._clips[int(rng.integers(len(self._clips)))].file() as path:
            return next(iter(read_video(path, DEFAULT_FPS)))


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    rows = {}
    for name in (MANIFEST, "left_out.csv"):
        path = folder / name
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows.update({row["path"]: row for row in csv.DictReader(file)})
    return rows


def _write_rows(folder: Path, rows: dict[str, dict[str, str]]) -> None:
    """Those that passed to the manifest, the others beside it."""
    columns = [*_COLUMNS, *sorted({key for row in rows.values() for key in row} - set(_COLUMNS))]
    for name, wanted in ((MANIFEST, True), ("left_out.csv", False)):
        with staged(folder / name, overwrite=True) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows[key] for key in sorted(rows) if (not rows[key]["guard"]) == wanted)
