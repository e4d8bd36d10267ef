"""One clip's way through a curation, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder, read_sidecars
from avatar.data.curation.scoring import Stage, stages_of
from avatar.data.manifest import read_manifest
from avatar.errors import OptionError

_LONG = 60  # characters of a value that are shown
_LISTED = 8  # clips of one name


def explain(out: str | Path, clip: str) -> str:
    """What each stage found of one clip, which limits it met, and what came of it.

    Args:
        out: the output folder of `curate`.
        clip: a clip_id, the beginning of one, or a source_id with one clip.

    Raises:
        OptionError: there is no such clip, or several.
        MediaError: there is no manifest.
    """
    folder = CurationFolder(out)
    settings = CurationConfig.load(folder.read_settings())
    row = _find(folder, clip)
    lines = [f"clip {row['clip_id']} of {row['source_id']}"]
    if row["source_error"]:
        return "\n".join([*lines, f"  not readable: {row['source_error']}", _verdict(row)])
    lines.append(
        f"  source   {row['width_px']}x{row['height_px']} px, {row['source_fps']:.3g} fps"
        f"{' (varying)' if row['is_vfr'] else ''}, {row['n_channels']} sound channels"
    )
    lines.append(f"  segment  {row['start_s']:.2f} to {row['end_s']:.2f} s ({row['duration_s']:.2f} s)")
    stages = stages_of([*settings["scorers"], *settings["late_scorers"]], settings, folder)
    for stage in stages:
        lines += _stage_lines(stage, str(row["clip_id"]))
    lines.append("  limits")
    for limit in settings.limits:
        words = limit.words(row)
        verdict = "FAILS" if limit.rejects(row) else "  -  " if "not measured" in words else "ok   "
        if verdict == "FAILS" and set(limit.unless) & set(row["reject_reasons"]):
            verdict = "moot "
        lines.append(f"    {verdict} {limit.reason}: {words}")
    if row["dup_group"]:
        best = "the best of it" if row["dup_is_best"] else f"likeness to the best {row['dup_sim']:.2f}"
        lines.append(f"  copies   group {row['dup_group']}, {best}")
    lines.append(f"  split    {row['split']}")
    return "\n".join([*lines, _verdict(row)])


def _find(folder: CurationFolder, clip: str) -> Mapping[str, Any]:
    table = read_manifest(folder.root)
    ids, sources = table.column("clip_id").to_pylist(), table.column("source_id").to_pylist()
    found = [
        k for k, (name, source) in enumerate(zip(ids, sources, strict=True)) if name.startswith(clip) or source == clip
    ]
    if len(found) != 1:
        several = ", ".join(ids[k] for k in found[:_LISTED]) + (", …" if len(found) > _LISTED else "")
        near = get_close_matches(clip, sources, 3) or [name for name in sources if name.endswith(f"/{clip}")][:3]
        what = f"{len(found)} clips are called {clip!r}: {several}" if found else f"there is no clip {clip!r}"
        what += f" (did you mean {', '.join(dict.fromkeys(near))}?)" if near and not found else ""
        raise OptionError(f"{what}; name a clip_id or a source_id of {folder.manifest}, or the beginning of a clip_id")
    return dict(table.slice(found[0], 1).to_pylist()[0])


def _stage_lines(stage: Stage, clip_id: str) -> Iterator[str]:
    rows = read_sidecars(stage.folder, "clip_id", stage.columns, only=clip_id).to_pylist()
    if not rows:
        yield f"  {stage.name}: not looked at, it was rejected before"
        return
    row = rows[0]
    yield f"  {stage.name} ({row['cpu_s'] or 0:.2f} s of processor time)"
    if row["error"]:
        yield f"    failed: {row['error']}"
    for name in stage.columns.names:
        if row[name] is not None:
            yield f"    {name} = {_shown(row[name])}"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _verdict(row: Mapping[str, Any]) -> str:
    return "  kept" if row["keep"] else f"  rejected: {', '.join(row['reject_reasons'])}"
