"""Makes further clips of rare cells, as a folder of videos with a manifest that training and curation read.

A made clip keeps its labels, its person and its split, has a `style`, and names what it was made from. It is left out where its
face is no longer the one it was, or out of step with its sound (`guard`).
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar.data.augmentation.guard import GuardLimits, GuardReport, check_changed
from avatar.data.augmentation.stretch import FACTORS, stretch_frames, stretch_series, stretch_sound
from avatar.data.augmentation.style import Restyle, random_style
from avatar.data.clip_dataset import MADE_FROM, ClipEntry, cells_of
from avatar.data.clip_sources import MANIFEST, SourceClip, find_clips
from avatar.data.sync.lag_curve import SyncResult
from avatar.data.synthetic.augment import colour
from avatar.emotion.labels import EMOTIONS
from avatar.errors import FaceError, MediaError, OptionError
from avatar.media import read_waveform, write_video
from avatar.media.output import staged
from avatar.media.video import read_video
from avatar.types import DEFAULT_FPS, Waveform

if TYPE_CHECKING:
    pass

_COLUMNS = ("path", "identity", "split", "style", MADE_FROM, "stretch", "sound", "guard")
_MOST_BYTES = 3 * 2**30  # of a clip's frames, which are there three times over meanwhile: 20 s of full HD
_TRIED_PICTURES = 5
Tracked = tuple[np.ndarray, np.ndarray]  # landmarks (T, 478, 3), px, and (T,) whether the face is found


@dataclass(frozen=True)
class AugmentOptions:
    """What is made, and of which clips.

    Attributes:
        by: labels whose combinations are cells.
        wanted: clips that a cell should have, made ones included.
        per_clip: how many clips are made of one at most; more would be the same thing again.
        seed: of all chance.
        limits: of the guard.
        restyle: a style for all clips instead of a random one, with its name; see `style.image_to_image`.
        sound: share of the made clips whose sound is put into another room, microphone or noise; 0 for none.
    """

    by: tuple[str, ...] = ("emotion", "ethnicity")
    wanted: int = 50
    per_clip: int = 3
    seed: int = 0
    limits: GuardLimits = GuardLimits()
    restyle: tuple[str, Restyle] | None = None
    sound: float = 0.3

    def __post_init__(self) -> None:
        if self.wanted < 1 or self.per_clip < 1:
            raise OptionError(f"wanted and per_clip must be 1 or more, not {self.wanted} and {self.per_clip}")
        if not 0 <= self.sound <= 1:
            raise OptionError(f"sound is a share of the made clips, between 0 and 1, not {self.sound}")


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
    rng = np.random.default_rng((options.seed, zlib.crc32(clip.clip_id.encode()), version))
    factor, is_resounded = float(rng.uniform(*FACTORS)), bool(rng.random() < options.sound)
    try:
        with clip.file() as file:
            speech, frames = read_waveform(file), _frames(file)
        tracked = track_face(frames)
        style, restyle = options.restyle or random_style(rng, frames[0], face_width_px(tracked), pictures.any)
        resound = partial(elsewhere, rng=rng) if is_resounded else None
        changed = change_clip(frames, speech, factor, restyle, limits=options.limits, tracked=tracked, resound=resound)
    except (MediaError, FaceError) as err:  # of the clip itself: it is named, and the others go on
        style, report = "", GuardReport(0.0, float("inf"), 0.0, 0.0, (str(err),))
    else:
        report = changed.report
        if report.passes:
            write_video(path, iter([changed.frames]), fps=DEFAULT_FPS, speech=changed.speech, overwrite=True)
    labels = {key: _written(value) for key, value in clip.labels.items()}
    person = clip.person or clip.clip_id  # so that a clip and what was made from it are never held apart
    row = {**labels, "path": path.name, "identity": person, "split": clip.split or "", "style": style}
    row |= {"stretch": f"{factor:.4f}", "sound": "elsewhere" if is_resounded else "", MADE_FROM: clip.clip_id}
    return {**row, "guard": "; ".join(report.reasons)}, report


@dataclass(frozen=True)
class ChangedClip:
    """A clip in another style and tempo.

    Attributes:
        frames: (T, H, W, 3) uint8 at 25 fps.
        speech: its sound.
        report: what the guard says of it.
    """

    frames: np.ndarray
    speech: Waveform
    report: GuardReport


def change_clip(
    frames: np.ndarray,
    speech: Waveform,
    factor: float,
    restyle: Restyle,
    *,
    limits: GuardLimits | None = None,
    tracked: Tracked | None = None,
    resound: Callable[[Waveform], Waveform] | None = None,
) -> ChangedClip:
    """Stretches and restyles a clip, tracks it again and compares.

    Args:
        frames: (T, H, W, 3) uint8 at 25 fps.
        speech: 16 kHz.
        factor: of the length.
        restyle: of every frame.
        limits: of the guard; None for the usual ones.
        tracked: what `track_face` says of the frames; None to have it done here.
        resound: of the sound, after it is stretched; None leaves it.

    Raises:
        FaceError: the clip shows no face to begin with.
    """
    before, known = tracked or track_face(frames)
    made = stretch_frames(frames, factor)
    for k, frame in enumerate(made):  # in place: a few seconds of full HD are a gigabyte
        made[k] = restyle(frame)
    sound = stretch_sound(speech, factor)
    sound = resound(sound) if resound else sound
    after, found = _tracked(made)
    report = check_changed(
        stretch_series(before, factor),
        after,
        found,
        known=stretch_series(known.astype(np.float32), factor) > 0.999,  # no face between frames of which one has none
        limits=limits,
        sync=(_sync(speech, before, known), _sync(sound, after, found)),
        stretch=factor,
    )
    return ChangedClip(made, sound, report)


def track_face(frames: np.ndarray) -> Tracked:
    """The face of a clip: landmarks (T, 478, 3), px, and (T,) bool whether it is found.

    Raises:
        FaceError: it is found nowhere.
    """
    tracked = _tracked(frames)
    if not tracked[1].any():
        raise FaceError("no face is found in the clip")
    return tracked


def face_width_px(tracked: Tracked) -> float:
    """Between the outermost landmarks, the median over the frames that show a face."""
    landmarks, found = tracked
    return float(np.median(np.ptp(landmarks[found, :, 0], axis=1)))


def elsewhere(speech: Waveform, rng: np.random.Generator) -> Waveform:
    """The same speech as loud, in another room, through another microphone, with noise: see `avatar.data.synthetic.augment`."""
    level = float(np.sqrt((speech.samples**2).mean()))
    changed = colour(speech.samples, rng) * level
    return Waveform((changed / max(1.0, float(np.abs(changed).max()))).astype(np.float32), speech.sample_rate_hz)


def _tracked(frames: np.ndarray) -> Tracked:
    from avatar.identity.mediapipe_faces import thread_faces

    return thread_faces().track(frames)


def _written(label: str | dict[str, float]) -> str:
    """A label as the manifest has it: a mix of emotions stays one, of others the likeliest is told."""
    if isinstance(label, str):
        return label
    if set(label) <= set(EMOTIONS):
        total = sum(label.values())
        parts = {
            name: int(1000 * share / total) / 1000 for name, share in label.items() if name != "neutral"
        }  # sum <= 1
        return ",".join(f"{name}:{part:g}" for name, part in parts.items() if part > 0) or "neutral"
    return max(label, key=lambda name: label[name])


def _sync(speech: Waveform, landmarks: np.ndarray, found: np.ndarray) -> SyncResult | None:
    """The shipped sync scorer's judgement; None where there is too little to judge."""
    from avatar.data.scorers.sync import shipped_sync
    from avatar.data.sync.lips import tracked_lips

    lips = tracked_lips(landmarks, found)
    if lips is None or not np.any(speech.samples):
        return None
    return shipped_sync(speech, lips, found)


def _frames(path: Path) -> np.ndarray:
    """All frames (T, H, W, 3) uint8; a clip that would fill the memory is refused before it does."""
    frames: list[np.ndarray] = []
    for frame in read_video(path, DEFAULT_FPS):
        frames.append(frame)
        if len(frames) * frame.nbytes > _MOST_BYTES:
            seconds = len(frames) / DEFAULT_FPS
            raise MediaError(
                f"the clip is longer than {seconds:.0f} s of {frame.shape[1]} x {frame.shape[0]} px, too much to be changed at "
                "once; let `avatar curate` cut it, or give shorter or smaller ones"
            )
    return np.stack(frames)


class _Pictures:
    """First frames of other clips, whose colours a clip may take."""

    def __init__(self, clips: Sequence[SourceClip]) -> None:
        self._clips = clips

    def any(self, rng: np.random.Generator) -> np.ndarray:
        """Of a clip at random; one that cannot be read is passed over."""
        for index in rng.permutation(len(self._clips))[:_TRIED_PICTURES]:
            try:
                with self._clips[index].file() as path:
                    return next(iter(read_video(path, DEFAULT_FPS)))
            except MediaError as err:
                error = err
        raise error


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
