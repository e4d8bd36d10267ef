"""Runs the server with uvicorn: quietly, without a log of addresses, until it is interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from avatar.errors import OutputError

_BACKLOG = 512
_MAX_CONNECTIONS = 1000


def run(app: FastAPI, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serves `app` until an interrupt, and then until the requests under way are answered.

    Raises:
        KeyboardInterrupt: at the end.
        OutputError: the port cannot be taken.
    """
    with _listen(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        started(f"http://{name}:{listener.getsockname()[1]}/")
        uvicorn.Server(config_for(app)).run(sockets=[listener])


def config_for(app: FastAPI) -> uvicorn.Config:
    """How the server runs."""
    return uvicorn.Config(
        app,
        access_log=False,  # raters' addresses are nobody's business
        log_level="warning",
        limit_concurrency=_MAX_CONNECTIONS,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as err:
        raise OutputError(
            f"port {port} of {host} cannot be taken: {err.strerror or err}; give a free one with --port, or 0 for any"
        ) from err
