"""Limits of a served study: how large a request may be and how many may come, kept in memory and forgotten on a restart."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

# ASGI's own loose types
Message = dict[str, Any]
Scope = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What one rater and one address may do. A whole class may sit behind one address.

    Attributes:
        max_body_bytes: of a request; an answer takes about 200.
        body_timeout_s: within which a request's body must have come.
        requests_per_s: from one address, clips included, after a burst of ten seconds' worth.
        answers_per_s: of one rater, after a burst of 200, which is what waited while there was no connection.
        joins_per_min: new raters from one address.
        wrong_codes_per_min: unknown invitation codes from one address.
    """

    max_body_bytes: int = 16_384
    body_timeout_s: float = 15.0
    requests_per_s: float = 100.0
    answers_per_s: float = 4.0
    joins_per_min: float = 60.0
    wrong_codes_per_min: float = 6.0


class Buckets:
    """A bucket of permissions for each name (an address, a rater), filled steadily up to a burst."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._levels: dict[str, tuple[float, float]] = {}  # name -> (level, when)

    def wait_s(self, name: str, take: float = 1.0) -> float:
        """Takes a permission and returns 0; or takes none and returns the seconds until there is one."""
        now = self._clock()
        level, since = self._levels.get(name, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_s)
        if level < take:
            return (take - level) / self._per_s
        self._levels[name] = (level - take, now)
        if len(self._levels) > 10_000:
            self._drop_full(now)
        return 0.0

    def _drop_full(self, now: float) -> None:
        self._levels = {
            name: (level, since)
            for name, (level, since) in self._levels.items()
            if level + (now - since) * self._per_s < self._burst
        }


@dataclass
class Guard:
    """ASGI middleware before everything else: refuses what is too large, too slow or too often, and sets the security headers.

    Attributes:
        app: what is guarded.
        limits: what is accepted.
        headers: (name, value) to set on each response, unless the response has that header itself.
    """

    app: Any
    limits: Limits
    headers: Iterable[tuple[str, str]]
    buckets: Buckets = field(init=False)

    def __post_init__(self) -> None:
        self.buckets = Buckets(self.limits.requests_per_s, 10 * self.limits.requests_per_s)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in self.headers if name.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        wait_s = self.buckets.wait_s(scope["client"][0] if scope.get("client") else "")
        if wait_s:
            await _refuse(send_with_headers, 429, "too many requests; wait and try again", wait_s)
            return
        try:
            body = await asyncio.wait_for(self._read_body(scope, receive), self.limits.body_timeout_s)
        except (asyncio.TimeoutError, TimeoutError):  # one and the same from Python 3.11 on
            await _refuse(send_with_headers, 408, "the request took too long to come")
            return
        if body is None:
            await _refuse(send_with_headers, 413, f"a request may have {self.limits.max_body_bytes} bytes")
            return
        await self.app(scope, _replay(body, receive), send_with_headers)

    async def _read_body(self, scope: Scope, receive: Any) -> bytes | None:
        """The whole body; None if it is too large."""
        if scope["method"] in ("GET", "HEAD"):
            return b""
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self.limits.max_body_bytes:
            return None
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.limits.max_body_bytes:
                return None
            if not message.get("more_body"):
                return body


def _replay(body: bytes, receive: Any) -> Callable[[], Any]:
    """A `receive` that gives the body once, and then whatever else comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            message: Message = await receive()
            return message
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Any, status: int, words: str, wait_s: float = 0.0) -> None:
    body = json.dumps({"error": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if wait_s:
        headers.append((b"retry-after", str(math.ceil(wait_s)).encode()))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not waited for
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
