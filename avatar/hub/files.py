"""Which files a published system needs, and where they lie: in Hugging Face's cache or in a folder of one's own.

A folder of one's own has a folder for each repository, `OWNER/NAME`, as `avatar fetch PRESET --to FOLDER` makes it and as
`hf download OWNER/NAME --local-dir FOLDER/OWNER/NAME` does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from avatar.dit.published import PUBLISHED_PRESETS
from avatar.dit.published.preset import Download, PublishedPreset
from avatar.errors import OptionError
from avatar.presets import PRESETS
from avatar.wan.trained_base import base_of, is_trained

DEBUG = "debug"  # `debug:NAME`: tiny random models on the same path
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Place:
    """A published system, and where its files are looked for.

    Attributes:
        preset: the system.
        folder: a folder with repositories; None for Hugging Face's cache.
        debug: whether tiny random models stand in for the files.
    """

    preset: PublishedPreset
    folder: Path | None = None
    debug: bool = False

    @property
    def name(self) -> str:
        """What `--preset` takes for it."""
        if self.debug:
            return f"{DEBUG}:{self.preset.name}"
        return self.preset.name if self.folder is None else f"{self.folder}:{self.preset.name}"

    def folder_of(self, download: Download) -> Path | None:
        """The folder of a repository of which all needed files are there; None if there is none."""
        found = _cached(download) if self.folder is None else self.folder / download.repository
        return found if found is not None and is_complete(found, download) else None

    def missing(self) -> list[str]:
        """Repositories of which something is not there."""
        return list(dict.fromkeys(d.repository for _, d in needs(self.preset) if self.folder_of(d) is None))


def needs(preset: PublishedPreset) -> list[tuple[str, Download]]:
    """What a system is made of: a word for each part, and where it is published."""
    parts = [("base", preset.base.download)]
    if preset.base.components is not None:
        parts.append(("text, picture, VAE", preset.base.components))
    return [*parts, ("adapter", preset.adapter), ("speech encoder", preset.encoder)]


def system_named(name: str) -> PublishedPreset:
    """A published system by its name.

    Raises:
        OptionError: there is none.
    """
    if name not in PUBLISHED_PRESETS:
        raise OptionError(
            f"{name!r} is neither a preset nor a folder with a saved pipeline (model_index.json) or with the files of a "
            f"published preset; presets: {', '.join([*PRESETS, *PUBLISHED_PRESETS])}"
        )
    return PUBLISHED_PRESETS[name]


def place_of(name: str | Path) -> Place:
    """Which system is meant by `NAME`, `FOLDER`, `FOLDER:NAME` or `debug:NAME`, or was trained into a folder.

    Raises:
        OptionError: no such system, or a folder with none, or with several and none named.
    """
    if is_trained(name):
        return place_of(base_of(name)["base"])
    text = str(name)
    folder, colon, system = text.rpartition(":")
    if colon and system in PUBLISHED_PRESETS:
        if folder == DEBUG:
            return Place(PUBLISHED_PRESETS[system], debug=True)
        if not Path(folder).is_dir():
            raise OptionError(f"{text!r}: there is no folder {folder}")
        return Place(PUBLISHED_PRESETS[system], Path(folder))
    if colon and folder == DEBUG:
        raise OptionError(f"{text!r} names no published preset; accepted after debug: {', '.join(PUBLISHED_PRESETS)}")
    if text in PUBLISHED_PRESETS or not Path(name).is_dir():
        return Place(system_named(text))
    found = [p for preset in PUBLISHED_PRESETS.values() if (p := Place(preset, Path(name))).folder_of(preset.adapter)]
    if len(found) > 1:
        raise OptionError(f"{text!r} holds several presets; name one: {', '.join(place.name for place in found)}")
    return found[0] if found else Place(system_named(text))


def is_complete(folder: Path, download: Download) -> bool:
    """Whether all files that match a download's patterns are there, as far as the files themselves tell.

    Every pattern must match something; beside a model's settings there must be weights; an index of shards names them all.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.relative_to(folder).parts]
    names = {path.relative_to(folder).as_posix() for path in files}
    if "**" in download.files and not _all_components(folder, names):
        return False
    for pattern in download.files:
        matching = {name for name in names if fnmatch(name, pattern)}
        if not matching or not all(_is_whole(folder, name, names) for name in matching):
            return False
    return True


def _is_whole(folder: Path, name: str, names: set[str]) -> bool:
    """Of an index: whether its shards are there; of a model's settings: whether weights are beside them."""
    parent = name.rpartition("/")[0]
    beside = {each.rpartition("/")[2] for each in names if each.rpartition("/")[0] == parent}
    if name.endswith(".index.json"):
        return _shards(folder / name) <= beside
    return not name.endswith("/config.json") or any(each.endswith(_WEIGHTS) for each in beside)


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError):
        return {index.name + " is damaged"}


def _all_components(folder: Path, names: set[str]) -> bool:
    """Whether every part that a diffusers repository names has a folder."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    parts = [part for part, entry in index.items() if isinstance(entry, list) and None not in entry]
    return all(any(name.startswith(f"{part}/") for name in names) for part in parts)


def _cached(download: Download) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(download.repository, allow_patterns=list(download.files), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
