"""Hands each rater of a study the next slot and keeps every answer, in one SQLite file on the researcher's own machine.

The server never opens the key, and nothing but the page and the clips that study.json names can be fetched from it. FastAPI and
uvicorn come with `pip install "avatar[study]"`; the database (`collected_sessions`, `delete_rater`) is read without them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from avatar.errors import InputError, MissingDependencyError
from avatar.study.formats import read_json, read_study
from avatar.study.server.answers import AnswerStore, collected_sessions, delete_rater
from avatar.study.server.invites import Invites, make_invites, read_invites
from avatar.study.server.limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Limits", "collected_sessions", "create_app", "delete_rater", "make_invites", "read_invites", "serve"]

DEFAULT_PORT = 8060


def create_app(
    folder: str | Path,
    results: str | Path,
    *,
    invites: Invites | None = None,
    stale_after_s: float = 3600.0,
    max_raters: int | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The server as an ASGI application, for a host of your own.

    Args:
        folder: what `avatar study export` wrote.
        results: the SQLite file with the answers; made where there is none. It may not be in `folder`.
        invites: how many raters each code lets in; None: anybody who can reach the server may rate.
        stale_after_s: a rater who has sent nothing for so long and has not finished has dropped out: the slot is handed out again.
            They may still go on where they stopped.
        max_raters: so many sessions, finished or under way, and no more; None: no limit.
        limits: of sizes and rates.

    Raises:
        InputError: the folder is not a study, lacks a clip, or has something in it that raters must not see.
        MissingDependencyError: FastAPI is not installed.
    """
    try:
        from avatar.study.server.app import build_app
    except ModuleNotFoundError as err:
        raise _missing(err) from err
    folder, results = Path(folder), Path(results)
    study = read_study(folder)
    _check_only_the_study(folder, results)
    store = AnswerStore(results, study, stale_after_s=stale_after_s, max_raters=max_raters)
    return build_app(study, folder, store, invites, limits or Limits())


def serve(
    folder: str | Path,
    results: str | Path,
    *,
    key: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    invites: str | Path | None = None,
    stale_after_s: float = 3600.0,
    max_raters: int | None = None,
    limits: Limits | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves a study until it is interrupted.

    Args:
        folder, results, stale_after_s, max_raters, limits: as of `create_app`.
        key: the study's key, if it is to be made sure that it is this study's and not in `folder`; closed again before the
            server begins, which knows nothing of it.
        host: 127.0.0.1 is this machine alone; 0.0.0.0 everybody who can reach it. Put a web server with TLS before it then.
        port: 0 takes a free one.
        invites: a file with a code a line, see `read_invites`.
        started: called with the address once the server answers.

    Raises:
        InputError: as of `create_app`; or the key is another study's, or in `folder`.
        OutputError: the port is taken.
        MissingDependencyError: FastAPI or uvicorn is not installed.
    """
    codes = read_invites(invites) if invites is not None else None
    if key is not None:
        _check_key(Path(key), Path(folder))
    app = create_app(folder, results, invites=codes, stale_after_s=stale_after_s, max_raters=max_raters, limits=limits)
    try:
        from avatar.study.server.run import run
    except ModuleNotFoundError as err:
        raise _missing(err) from err
    run(app, host, port, started)


def _missing(err: ModuleNotFoundError) -> MissingDependencyError:
    return MissingDependencyError(
        f'avatar study serve needs the Python package {err.name!r}; pip install "avatar[study]"'
    )


def _check_key(key: Path, folder: Path) -> None:
    if key.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the key {key} is inside {folder}, which raters can see; move it elsewhere")
    told, study = read_json(key, "key").get("study_id"), read_study(folder)
    if told != study.id:
        raise InputError(
            f"the key {key} is of study {told}, and {folder} is study {study.id}; give the key of this export"
        )


def _check_only_the_study(folder: Path, results: Path) -> None:
    """The folder holds what was exported, and no key, results or link to elsewhere."""
    if results.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the results {results} would be inside {folder}, which raters can see; put them elsewhere")
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InputError(f"{path} is a link; the folder of a study holds files only: export it again")
        if path.suffix == ".json" and path.name != "study.json" and "salt" in read_json(path, "JSON"):
            raise InputError(f"{path} is the key, inside the folder that raters can see; move it elsewhere")
