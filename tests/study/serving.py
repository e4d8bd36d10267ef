"""A small study behind a real server on a socket, for the tests."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avatar.study.formats import Study, Trial, dump_json
from avatar.study.results import Answer
from avatar.study.server import Limits, create_app

AT = "2026-11-23T09:00:00.000Z"
CONSENT = {"given": True, "adult": True, "at": AT}
CLIP = bytes(range(256)) * 8
OPEN = Limits(requests_per_s=1e6, answers_per_s=1e6, joins_per_min=1e6, wrong_codes_per_min=1e6)


def make_study(num_slots: int = 3, num_trials: int = 4) -> Study:
    def trial(name: str) -> Trial:
        return Trial(f"t{name}", "media/00000000000000aa.mp4", "media/00000000000000bb.jpg", 2.0)

    return Study(
        id="9f0c",
        version="5d21",
        title={"en": "A study </script>"},
        about={"en": ""},
        contact="",
        pay="",
        data_until="",
        languages=("en", "zh"),
        scales=("LS", "IP"),
        ask=("culture",),
        minutes=5,
        practice=(trial("p"),),
        slots=tuple(tuple(trial(f"{slot}x{i}") for i in range(num_trials)) for slot in range(num_slots)),
    )


def write_folder(where: Path, study: Study) -> Path:
    folder = where / "study"
    (folder / "media").mkdir(parents=True)
    (folder / "study.json").write_text(dump_json(study.to_json()), encoding="utf-8")
    (folder / "media" / "00000000000000aa.mp4").write_bytes(CLIP)
    (folder / "media" / "00000000000000bb.jpg").write_bytes(b"\xff\xd8\xff")
    (where / "key.json").write_text('{"format": 1, "study_id": "9f0c", "salt": "SECRET"}')
    return folder


class Client:
    """Sends paths as they are: nothing is tidied up on the way."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        reply.content = reply.read()  # type: ignore[attr-defined]
        connection.close()
        return reply

    def join(self, invite: str = "", **changes: Any) -> dict[str, Any]:
        body = {"study_version": "5d21", "invite": invite, "language": "en", "consent": CONSENT, **changes}
        reply = self.ask("POST", "/api/join", body)
        assert reply.status == 200, reply.content
        return json.loads(reply.content)

    def answer(self, joined: dict[str, Any], trial: str, score: int = 3, at: str = AT) -> int:
        body = {
            "trial": trial,
            "scores": {"LS": score, "IP": score},
            "replays": 0,
            "played_s": 2,
            "rt_s": 1.5,
            "at": at,
        }
        return self.ask("PUT", f"/api/answers/{trial}", body, joined["token"]).status

    def finish(self, joined: dict[str, Any], **changes: Any) -> int:
        body = {
            "format": 1,
            "study_id": "9f0c",
            "study_version": "5d21",
            "rater": joined["rater"],
            "slot": joined["slot"],
            "language": "zh",
            "consent": CONSENT,
            "attributes": {"culture": "粤"},
            "environment": {"screen": [1, 2], "headphones": None},
            "started_at": AT,
            "finished_at": AT,
            **changes,
        }
        return self.ask("PUT", "/api/session", body, joined["token"]).status

    def whole_session(self, **join: Any) -> dict[str, Any]:
        joined = self.join(**join)
        assert all(self.answer(joined, trial["id"]) == 200 for trial in joined["trials"])
        assert self.finish(joined) == 200
        return joined


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[Client]:
    import uvicorn

    from avatar.study.server.run import config_for

    app = create_app(folder, folder.parent / "results.sqlite", **{"limits": OPEN, **options})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config_for(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)


def make_answer(trial: str) -> Answer:
    return Answer(trial, {"LS": 3, "IP": 3}, 0, 2.0, 1.0, AT)
