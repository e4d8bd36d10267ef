"""A path to a result file that appears whole or not at all: checked first, written beside, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avatar.errors import OptionError, OutputError

_MIN_FREE_BYTES = 1 << 20


def check_output(path: str | Path, overwrite: bool = False, *, suffixes: tuple[str, ...] = (".mp4",)) -> Path:
    """Checks that a result can be written, before any time is spent on making it.

    Args:
        path: where the result should go.
        overwrite: whether an existing file may be replaced.
        suffixes: accepted endings, lower case.

    Returns:
        The path.

    Raises:
        OptionError: another ending.
        OutputError: it exists, is a folder, its folder is missing or may not be written, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it, such as {path / ('talking' + suffixes[0])}")
    if path.suffix.lower() not in suffixes:
        raise OptionError(f"the output must end in {' or '.join(suffixes)}, not {path.suffix or 'nothing'!r} ({path})")
    parent = path.parent
    if not parent.is_dir():
        what = "is not a folder" if parent.exists() else "does not exist"
        raise OutputError(f"{path} cannot be written: the folder {parent} {what}; make it first")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; name another file, or allow overwriting (--overwrite, overwrite=True)")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is not a regular file; name another output")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
        free = shutil.disk_usage(parent).free
    except OSError as err:
        raise OutputError(
            f"{path} cannot be written: {err.strerror or err} (folder {parent.absolute()}); choose another folder"
        ) from err
    if free < _MIN_FREE_BYTES:
        raise OutputError(
            f"{path} cannot be written: the disk is full ({free:,} bytes free); "
            "free some space or choose another folder"
        )
    return path


@contextmanager
def staged(path: Path, overwrite: bool) -> Iterator[str]:
    """Gives a name to write to; on a clean exit it becomes `path`, on any exception it is gone.

    On Linux the file has no name until it is whole, so that even a killed process leaves nothing behind. Elsewhere,
    and on file systems without nameless files, it is a hidden file in the same folder.

    Raises:
        OutputError: the file cannot be made or renamed.
    """
    target = path.resolve()  # a link keeps pointing at the file it names
    beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    nameless = _open_nameless(target.parent)
    try:
        yield str(beside) if nameless is None else f"/proc/self/fd/{nameless}"
        try:
            if nameless is not None:
                _name(nameless, beside)
            if not overwrite and target.exists():
                raise OutputError(f"{path} was made by something else meanwhile; name another file, or overwrite it")
            os.replace(beside, target)
        except OSError as err:
            raise OutputError(f"{path} cannot be written: {err.strerror or err}; choose another folder") from err
    finally:
        if nameless is not None:
            os.close(nameless)
        with suppress(OSError):
            beside.unlink()


def _open_nameless(folder: Path) -> int | None:
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError:  # a file system that cannot; the named way reports what is really wrong
        return None


def _name(descriptor: int, beside: Path) -> None:
    os.fsync(descriptor)  # a disk that fills up late says so here
    # With src_dir_fd Python calls linkat(2) with AT_SYMLINK_FOLLOW, the way to name an O_TMPFILE; see open(2).
    folder = os.open(beside.parent, os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", beside, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
