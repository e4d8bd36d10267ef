"""A study file to a folder that may be given to anybody, and a key that may not."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from avatar.errors import OptionError, OutputError
from avatar.media import probe_video, read_waveform
from avatar.media.output import check_output, staged
from avatar.study.blinding import EPOCH_S, tell_tales
from avatar.study.clips import (
    Source,
    Target,
    common_target,
    copy_stuffed,
    find_source,
    frame_sizes,
    pad,
    padded_size,
    write_clip,
    write_portrait,
)
from avatar.study.design import Design, Shown, make_design
from avatar.study.formats import Key, Study, dump_json
from avatar.study.naming import Namer, blind, original_of
from avatar.study.presets import preset_generator
from avatar.study.spec import ItemSpec, StudySpec, SystemSpec

Generate = Callable[[SystemSpec, ItemSpec, Path], None]  # writes the clip of a preset
Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        folder, key: the paths.
        study: what the folder holds; design: who sees what.
        num_bytes: of the folder.
    """

    folder: Path
    key: Path
    study: Study
    design: Design
    num_bytes: int


def export_study(
    spec: StudySpec,
    folder: str | Path,
    key: str | Path,
    *,
    generate: Generate | None = None,
    work: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Writes a blinded study.

    The same spec and the same clips give the same bytes. The names' salt is made of the clips themselves, so that knowing the
    seed is not enough to undo the blinding.

    Args:
        spec: the study file, see `read_spec`.
        folder: to be made; appears whole or not at all.
        key: the JSON file that says what each clip is; outside `folder`.
        generate: makes the clips of systems that are presets; None: as `avatar animate` does.
        work: where those are kept for the next time; None: nowhere.
        overwrite: whether an earlier folder and key may be replaced.
        progress: told of the clips generated and written.

    Raises:
        OptionError: clips are missing, or differ in length, shape or size; the design does not fit a session.
        MediaError: a clip cannot be read.
        OutputError: something cannot be written, or something in the folder would tell systems apart.
    """
    folder, key = _check_places(Path(folder), Path(key), overwrite)
    tell = progress or (lambda what, done, total: None)
    with ExitStack() as stack:
        beside = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder.parent, prefix=".study-")))
        made = Path(work) if work is not None else beside / "generated"
        sources = _sources(spec, made, generate, tell)
        targets = {
            item.id: common_target([sources[system.name, item.id] for system in spec.systems], spec.media)
            for item in spec.items
        }
        durations_s = {item: target.num_frames / spec.media.fps for item, target in targets.items()}
        design = make_design(spec, durations_s)
        namer = Namer(_salt(spec, sources))
        media = _write_media(spec, design, sources, targets, beside / "clips", tell)
        study, secret = blind(spec, design, durations_s, namer)
        out = beside / "study"
        _place(media, secret, namer, out)
        _place_portraits(spec, namer, out)
        _write_page(study, out)
        found = tell_tales(out, secret)
        if found:
            raise OutputError(f"the export would tell systems apart: {'; '.join(found)}; please report this")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(out, folder)
    _write_key(secret, key, overwrite)
    num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Exported(folder, key, study, design, num_bytes)


def planned_design(spec: StudySpec) -> Design:
    """The design that an export would have, from the lengths of the clips that are there or of the speech; makes nothing.

    Raises:
        OptionError: clips are missing, or the design does not fit a session.
        MediaError: a file cannot be read.
    """
    _check_files(spec)
    folder = next((system.folder for system in spec.systems if system.folder is not None), None)
    durations_s = {}
    for item in spec.items:
        if folder is not None:
            durations_s[item.id] = probe_video(folder / f"{item.id}.mp4").duration_s
        elif item.speech is not None:
            durations_s[item.id] = read_waveform(item.speech).duration_s
    return make_design(spec, durations_s)


def _check_places(folder: Path, key: Path, overwrite: bool) -> tuple[Path, Path]:
    check_output(key, overwrite, suffixes=(".json",))
    inside = folder.resolve()
    if inside == key.resolve() or inside in key.resolve().parents:
        raise OptionError(f"the key {key} may not lie in the folder {folder}, which raters get; put it elsewhere")
    if not folder.resolve().parent.is_dir():
        raise OutputError(f"{folder} cannot be made: its folder {folder.parent} does not exist; make it first")
    if folder.exists() and not (overwrite and folder.is_dir()):
        raise OutputError(f"{folder} exists; name another folder, or allow overwriting (--overwrite, overwrite=True)")
    if folder.exists() and any(folder.iterdir()) and not (folder / "study.json").is_file():
        raise OutputError(f"{folder} is not a study's folder and is not replaced; name another")
    return folder, key


def _sources(spec: StudySpec, made: Path, generate: Generate | None, tell: Progress) -> dict[tuple[str, str], Source]:
    """Every system's clip of every item.

    Raises:
        OptionError: clips are missing.
    """
    _check_files(spec)
    paths: dict[tuple[str, str], Path] = {}
    wanted = [(system, item) for system in spec.systems if system.preset is not None for item in spec.items]
    make = generate or preset_generator()
    for done, (system, item) in enumerate(wanted):
        tell("clips made", done, len(wanted))
        path = made / system.name / f"{item.id}.mp4"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            make(system, item, path)
        paths[system.name, item.id] = path
    for system in spec.systems:
        if system.folder is not None:
            paths |= {(system.name, item.id): system.folder / f"{item.id}.mp4" for item in spec.items}
    items = {item.id: item for item in spec.items}
    return {
        (system, item): find_source(system, item, path, items[item].speech, spec.media.sound)
        for (system, item), path in paths.items()
    }


def _check_files(spec: StudySpec) -> None:
    """Names all that is missing at once."""
    missing = []
    for system in spec.systems:
        if system.folder is not None:
            lacking = [item.id for item in spec.items if not (system.folder / f"{item.id}.mp4").is_file()]
            if lacking:
                missing.append(f"system {system.name} has no clip of {', '.join(lacking)} in {system.folder}")
        else:
            bare = [item.id for item in spec.items if item.portrait is None or item.speech is None]
            if bare:
                missing.append(f"system {system.name} needs portrait and speech, which {', '.join(bare)} lack")
    for item in spec.items:
        for kind, path in (("portrait", item.portrait), ("speech", item.speech)):
            if path is not None and not path.is_file():
                missing.append(f"the {kind} of item {item.id} is not there: {path}")
    if missing:
        raise OptionError(f"{'; '.join(missing)}; every system needs every item, as ITEM.mp4")


def _salt(spec: StudySpec, sources: dict[tuple[str, str], Source]) -> bytes:
    digest = hashlib.sha256(f"{spec.seed} {spec.title} {spec.media}".encode())
    for (system, item), source in sorted(sources.items()):
        digest.update(f"{system}/{item}:".encode())
        with source.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.digest()


def _write_media(
    spec: StudySpec,
    design: Design,
    sources: dict[tuple[str, str], Source],
    targets: dict[str, Target],
    folder: Path,
    tell: Progress,
) -> dict[Shown, Path]:
    """The clips that are shown, each once: a repeat or practice is a copy of the rated one."""
    folder.mkdir()
    shown = {original_of(shown) for slot in (design.practice, *design.slots) for shown in slot}
    ordered = sorted(shown, key=lambda one: (one.item, one.system, one.trap or ""))
    files: dict[Shown, Path] = {}
    for done, one in enumerate(ordered):
        tell("clips written", done, len(ordered))
        files[one] = folder / f"{done}.mp4"
        write_clip(sources[one.system, one.item], targets[one.item], spec.media, files[one], one.trap)
    tell("clips written", len(ordered), len(ordered))
    return files


def _place(files: dict[Shown, Path], key: Key, namer: Namer, out: Path) -> None:
    """Copies in the order of their names, so that the order in the directory says nothing; for each item of one size."""
    (out / "media").mkdir(parents=True)
    of_item: dict[str, list[Path]] = {}
    for shown, file in files.items():
        of_item.setdefault(shown.item, []).append(file)
    frames = {item: frame_sizes(paths) for item, paths in of_item.items()}
    copied: dict[str, list[Path]] = {}
    for clip, what in sorted(key.clips.items()):
        original = Shown(what.system, what.item, "trap", what.trap) if what.trap else Shown(what.system, what.item)
        copy_stuffed(files[original], out / clip, frames[what.item], namer.salt + clip.encode())
        copied.setdefault(what.item, []).append(out / clip)
    for paths in copied.values():
        size = padded_size(max(path.stat().st_size for path in paths))
        for path in paths:
            pad(path, size, namer.salt + path.name.encode())
            os.utime(path, (EPOCH_S, EPOCH_S))


def _place_portraits(spec: StudySpec, namer: Namer, out: Path) -> None:
    portraits = {namer("portrait", item.id): item.portrait for item in spec.items if item.portrait is not None}
    for name, portrait in sorted(portraits.items()):
        write_portrait(portrait, out / "media" / f"{name}.jpg")
        os.utime(out / "media" / f"{name}.jpg", (EPOCH_S, EPOCH_S))


def _write_page(study: Study, out: Path) -> None:
    from avatar.study.page import render_page

    _write(out / "index.html", render_page(study).encode())
    _write(out / "study.json", dump_json(study.to_json()).encode())
    for place in (out / "media", out):
        os.utime(place, (EPOCH_S, EPOCH_S))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, (EPOCH_S, EPOCH_S))


def _write_key(key: Key, path: Path, overwrite: bool) -> None:
    with staged(path, overwrite) as name:
        Path(name).write_text(dump_json(key.to_json()), encoding="utf-8")
    path.chmod(0o600)
