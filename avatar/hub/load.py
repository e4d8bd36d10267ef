"""A published system from its files to a pipeline that is ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from avatar.dit.published import load_adapter
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.preset import Download
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.dit.wan_files import settings_beside
from avatar.errors import InputError, MissingDependencyError
from avatar.hub.files import Place, place_of
from avatar.hub.sizes import size_of
from avatar.wan.memory import use_memory
from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.trained_base import is_trained
from avatar.wan.trained_file import load_trained
from avatar.wan.ways import MEMORY, check_memory

Notify = Callable[[str], None]
DEBUG_MARK = "avatar_debug"  # in the settings of a speech encoder that is as narrow as a test wants it
_NOISE = "tiny random weights stand in for {}: the video is noise"
_GB = 1e9


def load_published(
    name: str | Path,
    *,
    memory: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    reference: str | Path | None = None,
    notify: Notify | None = None,
) -> WanAvatarPipeline:
    """Loads a published system; nothing is fetched.

    Args:
        name: `NAME`, `FOLDER`, `FOLDER:NAME`, `debug:NAME` for tiny random models, or a folder that `avatar train` wrote.
        memory: one of `avatar.wan.ways.MEMORY`; None for `balanced` with an accelerator and `fast` without.
        device: where it computes; None for the accelerator, or the CPU without one.
        dtype: of the networks that are not kept in float32; None for bfloat16, and float32 for tiny random models.
        reference: file of trained identity and emotion adapters (`avatar.wan.reference_file`); None for none.
        notify: told in a sentence what it needs, before anything is loaded.

    Raises:
        OptionError: no such system, or a way to keep weights that this machine does not have.
        MissingDependencyError: files are not there; with what to do.
        InputError, WeightsError: files that do not fit.
    """
    place = place_of(name)
    device = device or _accelerator()
    memory = memory or ("fast" if device == "cpu" else "balanced")
    check_memory(memory, device)
    if reference is not None and not Path(reference).is_file():
        raise InputError(f"there is no file {reference}: give adapters that save_reference wrote")
    tell = notify or (lambda words: None)
    with _files(place) as folder:
        place = Place(place.preset, folder)
        missing = place.missing()
        if missing:
            raise MissingDependencyError(_what_is_missing(place, missing))
        tiny = bool(settings_beside(_folder(place, place.preset.encoder)).get(DEBUG_MARK))
        tell(_NOISE.format(place.preset.title) if tiny else _what_it_needs(place, memory, device))
        pipeline = _load(place, dtype or (torch.float32 if tiny else torch.bfloat16), reference)
        if is_trained(name):
            load_trained(pipeline, name)
    return use_memory(pipeline, memory, device)  # type: ignore[arg-type]


@contextmanager
def _files(place: Place) -> Iterator[Path | None]:
    """The folder with a system's files; tiny ones exist until they are loaded."""
    if not place.debug:
        yield place.folder
        return
    from avatar.debug import write_debug_files

    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield write_debug_files(folder, place.preset.name)


def _load(place: Place, dtype: torch.dtype, reference: str | Path | None) -> WanAvatarPipeline:
    preset = place.preset
    adapter_file = _folder(place, preset.adapter) / preset.adapter.files[0]
    encoder = _folder(place, preset.encoder)

    def with_adapter(transformer: AvatarTransformer3DModel) -> PublishedAdapter:
        adapter = load_adapter(preset.name, transformer, adapter_file)
        settings = settings_beside(encoder)
        if settings.get(DEBUG_MARK):
            front_end = replace(adapter.preset.front_end, hidden_size=settings["hidden_size"])
            adapter = replace(adapter, preset=replace(adapter.preset, front_end=front_end))
        return adapter

    base = _folder(place, preset.base.download)
    components = preset.base.components
    return WanAvatarPipeline.from_folders(
        base if components is None else _folder(place, components),
        with_adapter,
        encoder,
        transformer=base if components is not None else None,
        reference=reference,
        dtype=dtype,
    )


def _folder(place: Place, download: Download) -> Path:
    folder = place.folder_of(download)
    if folder is None:
        raise MissingDependencyError(_what_is_missing(place, [download.repository]))
    return folder


def _accelerator() -> str:
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"  # type: ignore[union-attr]


def _what_it_needs(place: Place, memory: str, device: str) -> str:
    size = size_of(place.preset)
    ways = ", ".join(f"{way} {size.device_gb[way]:.0f}" for way in MEMORY)
    words = (
        f"{place.preset.name} needs {size.device_gb[memory]:.0f} GB for weights with --memory {memory} (GB: {ways}), activations "
        f"on top, and {size.host_gb:.0f} GB of the computer's own memory to load"
    )
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return f"{words}; this GPU has {free / _GB:.0f} GB free"
    return f"{words}; there is no accelerator here: expect hours" if device == "cpu" else words


def _what_is_missing(place: Place, missing: list[str]) -> str:
    name, size = place.preset.name, size_of(place.preset)
    where = "in Hugging Face's cache" if place.folder is None else f"in {place.folder}"
    to = "" if place.folder is None else f" --to {place.folder}"
    return (
        f"{', '.join(missing)}: not (completely) {where}; `avatar fetch {name}{to}` gets what {name} needs (up to "
        f"{size.download_gb:.0f} GB in all), or give --preset FOLDER:{name} with a FOLDER that was fetched elsewhere; "
        f"`--preset debug:{name}` tries the path without"
    )
