"""All presets as text: size, memory, licence, and what of it is here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from avatar.dit.published import PUBLISHED_PRESETS
from avatar.dit.published.preset import Download, PublishedPreset
from avatar.hub.files import Place, needs, system_named
from avatar.hub.sizes import SystemSize, size_of
from avatar.presets import PRESETS, Preset
from avatar.wan.ways import MEMORY

_NOTE = (
    "Download: the most it can be; `avatar fetch` shows the exact sizes first. Memory: weights on the device with "
    "--memory low / balanced / fast;\nactivations come on top. `avatar presets NAME` shows one in detail."
)


def all_presets(folder: Path | None = None) -> str:
    """One row for each preset.

    Args:
        folder: where the files of published ones are looked for; None for Hugging Face's cache.
    """
    rows: list[Sequence[str]] = [("preset", "parameters", "download", "memory", "licence of the weights", "installed")]
    rows += [(p.name, p.parameters, "none", p.memory, p.licence, "yes") for p in PRESETS.values()]
    rows += [_row(preset, folder) for preset in PUBLISHED_PRESETS.values()]
    return f"{_aligned(rows)}\n\n{_NOTE}"


def one_preset(name: str, folder: Path | None = None) -> str:
    """Everything there is to say of one preset.

    Raises:
        OptionError: there is none of this name.
    """
    return _own_details(PRESETS[name]) if name in PRESETS else _details(system_named(name), folder)


def _row(preset: PublishedPreset, folder: Path | None) -> Sequence[str]:
    size, place = size_of(preset), Place(preset, folder)
    missing = place.missing()
    installed = "yes" if not missing else f"no: {_count(missing)} missing"
    memory = " / ".join(f"{gigabytes:.0f}" for gigabytes in size.device_gb.values()) + " GB"
    return preset.name, f"{size.parameters:.1f} B", f"{size.download_gb:.0f} GB", memory, _licences(preset), installed


def _count(missing: list[str]) -> str:
    return f"{len(missing)} repositor{'y' if len(missing) == 1 else 'ies'}"


def _licences(preset: PublishedPreset) -> str:
    """Every licence once; what is not stated is said of whom."""
    known = dict.fromkeys(d.licence for _, d in needs(preset) if d.licence != "not stated")
    unknown = [f"{role} not stated" for role, d in needs(preset) if d.licence == "not stated"]
    return ", ".join([*known, *unknown])


def _own_details(preset: Preset) -> str:
    return _aligned(
        [
            ("preset", preset.name),
            ("backbone", preset.backbone),
            ("parameters", preset.parameters),
            ("weights", preset.weights),
            ("memory", preset.memory),
            ("licence", preset.licence),
            ("runs on", preset.runs_on),
        ]
    )


def _details(preset: PublishedPreset, folder: Path | None) -> str:
    size, place = size_of(preset), Place(preset, folder)
    schedule, guidance = preset.schedule, preset.guidance
    scales = f"sound {guidance.audio_scale:g}"
    if guidance.order != "audio_only":
        scales = f"text {guidance.text_scale:g}, {scales}"
    facts = [
        ("preset", preset.name),
        ("system", f"{preset.title}, as in {preset.source}"),
        (
            "parameters",
            f"{size.parameters:.1f} B, {size.transformer:.1f} B of them in the transformer with its adapter",
        ),
        ("video", f"{preset.front_end.fps:g} frames a second, longer side {preset.max_side_px} px; {_pieces(preset)}"),
        ("speakers", f"{preset.max_speakers} by its own means; more by face masks, which it was not trained for"),
        ("steps", f"{schedule.num_inference_steps}, shift {schedule.shift:g}; guidance: {scales}"),
        *((f"--memory {way}", f"{gigabytes:.1f} GB: {MEMORY[way]}") for way, gigabytes in size.device_gb.items()),
        ("to load it", f"{size.host_gb:.0f} GB of the computer's own memory"),
    ]
    heads = ("part", "repository", "download", "licence", "installed")
    parts: list[Sequence[str]] = [heads]
    for (role, download), gigabytes in zip(needs(preset), _downloads(size), strict=True):
        found = place.folder_of(download)
        where = "no" if found is None else str(found)
        parts.append((role, download.repository, f"{gigabytes:.1f} GB", download.licence, where))
    files = [(role, _files(download)) for role, download in needs(preset)]
    return "\n".join(
        [_aligned(facts), "", _aligned(parts), "", "files of each part:", _aligned(files), "", _advice(place)]
    )


def _downloads(size: SystemSize) -> list[float]:
    return [gb for gb in (size.base_gb, size.components_gb, size.adapter_gb, size.encoder_gb) if gb > 0]


def _files(download: Download) -> str:
    return "all" if download.files == ("**",) else ", ".join(download.files)


def _pieces(preset: PublishedPreset) -> str:
    pieces = f"chunks of {preset.chunk_frames} frames that share {max(1, preset.overlap_frames)}"
    if preset.long_video == "single":
        return f"made for {preset.chunk_frames} frames; longer speech in {pieces}, at your own risk"
    if preset.long_video == "windows":
        return f"long speech in windows of {preset.chunk_frames} frames that share {preset.overlap_frames}, blended in every step"
    return f"long speech in {pieces}"


def _advice(place: Place) -> str:
    if place.missing():
        to = "" if place.folder is None else f" --to {place.folder}"
        return f"get it:  avatar fetch {place.preset.name}{to}\ntry it:  --preset debug:{place.preset.name}"
    return f"use it:  --preset {place.name}"


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
