"""Fetches what a published system needs through huggingface_hub: sizes first, resumable, every file checked."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from avatar.dit.published import PUBLISHED_PRESETS
from avatar.dit.published.preset import Download, PublishedPreset
from avatar.errors import MissingDependencyError, OptionError, OutputError
from avatar.hub.files import needs, system_named
from avatar.presets import PRESETS

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Notify = Callable[[str], None]
_CHUNK_BYTES = 1 << 20
_GB = 1e9


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: its path in the repository.
        size_bytes: how large it is.
        sha256: its checksum, where the hub keeps one (large files).
        git_id: else git's own: SHA-1 of a header and the content.
    """

    name: str
    size_bytes: int
    sha256: str | None
    git_id: str | None

    def is_intact(self, path: Path) -> bool:
        """Whether a file here is that file."""
        if not path.is_file() or path.stat().st_size != self.size_bytes:
            return False
        if self.sha256 is not None:
            return _digest(hashlib.sha256(), path) == self.sha256
        header = hashlib.sha1(f"blob {self.size_bytes}\0".encode(), usedforsecurity=False)
        return self.git_id is None or _digest(header, path) == self.git_id


@dataclass(frozen=True)
class Listing:
    """What of one repository is needed, as the hub has it now.

    Attributes:
        download: repository and patterns.
        commit: the version that is fetched.
        files: those that match.
    """

    download: Download
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def fetch(name: str, to: Path | None = None, notify: Notify | None = None) -> Path:
    """Downloads what a preset needs; what is there already is not downloaded again.

    Args:
        name: one of the published presets.
        to: a folder that gets a folder for each repository; None for Hugging Face's cache.
        notify: told in sentences what is to come, and what was checked.

    Returns:
        The folder: `to`, or that of the cache.

    Raises:
        OptionError: no such preset.
        MissingDependencyError: the hub cannot be reached, or does not have a repository or file, or a file came damaged.
        OutputError: there is not enough room.
    """
    from huggingface_hub import constants

    if name in PRESETS:
        raise OptionError(f"{name!r} needs no files from elsewhere; published presets: {', '.join(PUBLISHED_PRESETS)}")
    preset = system_named(name)
    tell = notify or (lambda words: None)
    root = Path(constants.HF_HUB_CACHE) if to is None else to
    listings = [_listing(preset, download) for _, download in needs(preset)]
    for (role, download), listing in zip(needs(preset), listings, strict=True):
        tell(f"{role}: {download.repository}, {listing.size_bytes / _GB:.2f} GB, licence: {download.licence}")
    tell(f"together {sum(each.size_bytes for each in listings) / _GB:.2f} GB, into {root}")
    _check_room(root, sum(_missing_bytes(listing, to) for listing in listings))
    for listing in listings:
        folder = _download(preset, listing, to)
        tell(f"checking {listing.download.repository}: {len(listing.files)} files")
        _check(listing, folder)
    return root


def _listing(preset: PublishedPreset, download: Download) -> Listing:
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(download.repository, files_metadata=True)
    except _network_errors() as err:
        raise _unreachable(preset, download, err) from err
    files = [_remote(each) for each in info.siblings or () if _wanted(each.rfilename, download)]
    for pattern in download.files:
        if not any(fnmatch(file.name, pattern) for file in files):
            raise MissingDependencyError(f"the repository {download.repository} has no file {pattern} (any more)")
    return Listing(download, info.sha or "main", tuple(files))


def _remote(sibling: RepoSibling) -> RemoteFile:
    sha256 = None if sibling.lfs is None else sibling.lfs.sha256
    return RemoteFile(sibling.rfilename, sibling.size or 0, sha256, sibling.blob_id)


def _wanted(name: str, download: Download) -> bool:
    return any(fnmatch(name, pattern) for pattern in download.files)


def _download(preset: PublishedPreset, listing: Listing, to: Path | None) -> Path:
    from huggingface_hub import snapshot_download

    repository = listing.download.repository
    try:
        return Path(
            snapshot_download(
                repository,
                revision=listing.commit
                if to is not None
                else None,  # by its commit alone the cache would not find it again
                allow_patterns=list(listing.download.files),
                local_dir=None if to is None else to / repository,
            )
        )
    except _network_errors() as err:
        raise _unreachable(preset, listing.download, err) from err


def _check(listing: Listing, folder: Path) -> None:
    """Deletes what is damaged, so that the next run fetches it anew."""
    damaged = [file.name for file in listing.files if not file.is_intact(folder / file.name)]
    for name in damaged:
        path = folder / name
        path.resolve().unlink(missing_ok=True)  # in the cache the name is a link
        path.unlink(missing_ok=True)
    if damaged:
        raise MissingDependencyError(
            f"{listing.download.repository}: {', '.join(damaged)} came damaged (the checksum differs) and was deleted; "
            "run the same command again to fetch it anew"
        )


def _missing_bytes(listing: Listing, to: Path | None) -> int:
    from huggingface_hub import try_to_load_from_cache

    repository = listing.download.repository
    sizes = 0
    for file in listing.files:
        found = try_to_load_from_cache(repository, file.name) if to is None else to / repository / file.name
        there = (
            isinstance(found, str | Path) and Path(found).is_file() and Path(found).stat().st_size == file.size_bytes
        )
        sizes += 0 if there else file.size_bytes
    return sizes


def _check_room(root: Path, needed_bytes: int) -> None:
    nearest = root.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file; name a folder")
    free = shutil.disk_usage(nearest).free
    if free < needed_bytes:
        raise OutputError(
            f"{needed_bytes / _GB:.1f} GB are to be fetched, and the disk of {root} has {free / _GB:.1f} GB free; "
            "name a folder on another one with --to"
        )


def _network_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises when something is not to be had, whichever HTTP client its version uses."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    errors: list[type[Exception]] = [HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError]
    clients = (("httpx2", "HTTPError"), ("httpx", "HTTPError"), ("requests", "RequestException"))
    errors += [getattr(sys.modules[client], name) for client, name in clients if client in sys.modules]
    return tuple(errors)


def _unreachable(preset: PublishedPreset, download: Download, err: Exception) -> MissingDependencyError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(err, GatedRepoError):
        return MissingDependencyError(
            f"{download.repository} asks for a login: agree to its terms on huggingface.co and run `hf auth login`"
        )
    if isinstance(err, RepositoryNotFoundError):
        return MissingDependencyError(f"huggingface.co has no repository {download.repository} that is open to you")
    reason = (str(err).strip() or type(err).__name__).splitlines()[0]
    return MissingDependencyError(f"huggingface.co cannot be reached ({reason}); {_by_hand(preset)}")


def _by_hand(preset: PublishedPreset) -> str:
    """What to do without a network here."""
    repositories = dict.fromkeys(download.repository for _, download in needs(preset))
    return (
        f"{preset.name} needs {', '.join(repositories)}: run `avatar fetch {preset.name} --to FOLDER` where there is a network "
        f"(or `hf download OWNER/NAME --local-dir FOLDER/OWNER/NAME` for each), bring FOLDER here and give "
        f"--preset FOLDER:{preset.name}"
    )


def _digest(checksum: hashlib._Hash, path: Path) -> str:
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            checksum.update(block)
    return checksum.hexdigest()
