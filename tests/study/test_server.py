"""The server of a study: who gets which slot, what is kept, and what nobody gets from it; over real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

from avatar.errors import InputError, OutputError  # noqa: E402
from avatar.study.formats import Study, Trial, dump_json  # noqa: E402
from avatar.study.results import session_from_json  # noqa: E402
from avatar.study.server import Limits, collected_sessions, create_app, delete_rater, serve  # noqa: E402
from avatar.study.server.answers import AnswerStore  # noqa: E402
from avatar.study.server.limits import Buckets  # noqa: E402

AT = "2026-11-23T09:00:00.000Z"
CONSENT = {"given": True, "adult": True, "at": AT}
CLIP = bytes(range(256)) * 8
OPEN = Limits(requests_per_s=1e6, answers_per_s=1e6, joins_per_min=1e6, wrong_codes_per_min=1e6)


def _study(num_slots: int = 3, num_trials: int = 4) -> Study:
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write_folder(tmp_path, _study())


def _write_folder(where: Path, study: Study) -> Path:
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


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with running(folder) as client:
        yield client


def _collected(folder: Path) -> list[Any]:
    return collected_sessions(folder.parent / "results.sqlite")


def test_a_session_comes_back_as_it_was_given(client: Client, folder: Path) -> None:
    joined = client.whole_session()
    (session,) = _collected(folder)
    assert session.rater == joined["rater"] and session.slot == joined["slot"] == 0
    assert session.language == "zh" and session.consent == CONSENT and session.finished_at == AT
    assert session.attributes == {"culture": "粤"}
    assert [trial["id"] for trial in joined["trials"]] == ["tp", "t0x0", "t0x1", "t0x2", "t0x3"] and joined[
        "practice"
    ] == 1
    assert {answer.trial: answer.scores for answer in session.answers} == {
        trial["id"]: {"LS": 3, "IP": 3} for trial in joined["trials"]
    }
    assert session_from_json(json.loads(json.dumps(session.to_json())), _study()) == session


def test_raters_get_the_slots_in_turn_and_all_at_once_as_well(tmp_path: Path) -> None:
    with running(_write_folder(tmp_path, _study(num_slots=5))) as client, ThreadPoolExecutor(10) as pool:
        slots = [joined["slot"] for joined in pool.map(lambda _: client.join(), range(20))]
    assert Counter(slots) == {slot: 4 for slot in range(5)}


def test_a_slot_whose_rater_dropped_out_is_handed_out_again() -> None:
    now = [1000.0]
    store = AnswerStore(Path(":memory:"), _study(), stale_after_s=60, clock=lambda: now[0])
    first, second = (store.join("en", CONSENT).session for _ in range(2))
    now[0] += 50
    store.put_answer(second.rater, _answer("t1x0"))  # a sign of life
    now[0] += 20
    third, fourth = (store.join("en", CONSENT).session for _ in range(2))
    assert (first.slot, second.slot, third.slot, fourth.slot) == (0, 1, 0, 2)
    assert store.counts() == [(0, 1), (0, 1), (0, 1)]
    store.put_answer(first.rater, _answer("t0x0"))  # and yet may go on
    assert len(store.sessions()) == 4


def test_counts_stay_equal_when_many_drop_out() -> None:
    now = [0.0]
    study = _study(num_slots=10)
    store = AnswerStore(Path(":memory:"), study, stale_after_s=60, clock=lambda: now[0])
    for number in range(45):
        now[0] += 10
        session = store.join("en", CONSENT).session
        if number % 3:  # every third only looks in
            _finish(store, study, session)
    assert sum(done for done, _ in store.counts()) == 30
    assert all(2 <= done <= 4 for done, _ in store.counts())
    now[0] += 61  # the last who only looked in have gone stale
    for _ in range(10):
        _finish(store, study, store.join("en", CONSENT).session)
    assert {done for done, _ in store.counts()} == {4}


def test_who_finishes_without_rating_does_not_fill_a_slot() -> None:
    store = AnswerStore(Path(":memory:"), _study(), stale_after_s=0)
    for _ in range(3):
        session = store.join("en", CONSENT).session
        store.put_session(_replaced(session, finished_at=AT))
        assert session.slot == 0 and store.counts()[0] == (0, 0)


def test_the_same_answer_twice_is_one_and_a_later_one_replaces_it(client: Client, folder: Path) -> None:
    joined = client.join()
    for score, at in ((2, AT), (2, AT), (5, "2026-11-23T09:00:05.000Z"), (1, AT)):
        assert client.answer(joined, "t0x0", score, at) == 200
    (session,) = _collected(folder)
    assert [(answer.trial, answer.scores["LS"]) for answer in session.answers] == [("t0x0", 5)]


@pytest.mark.parametrize(
    "change",
    [
        {"scores": {"LS": 3}},
        {"scores": {"LS": 3, "IP": 6}},
        {"scores": {"LS": 3, "IP": 2.5}},
        {"scores": {"LS": 3, "IP": "3"}},
        {"scores": {"LS": 3, "IP": 3, "FBN": 3}},
        {"trial": "t1x0"},
        {"replays": -1},
        {"played_s": 1e9},
        {"at": "yesterday"},
        {"at": AT + "'; DROP TABLE answers; --"},
        {"more": 1},
    ],
)
def test_an_answer_that_the_page_does_not_give_is_refused(client: Client, folder: Path, change: dict[str, Any]) -> None:
    joined = client.join()
    body = {
        "trial": "t0x0",
        "scores": {"LS": 3, "IP": 3},
        "replays": 0,
        "played_s": 2,
        "rt_s": None,
        "at": AT,
        **change,
    }
    reply = client.ask("PUT", f"/api/answers/{body['trial']}", body, joined["token"])
    assert reply.status == 422 and json.loads(reply.content)["error"]
    assert _collected(folder)[0].answers == ()


def test_without_consent_nobody_is_let_in(client: Client, folder: Path) -> None:
    for consent in ({**CONSENT, "adult": False}, {"given": True, "at": AT}, {}):
        body = {"study_version": "5d21", "language": "en", "consent": consent}
        assert client.ask("POST", "/api/join", body).status == 422
    assert _collected(folder) == []


def test_an_answer_needs_the_token_of_its_rater(client: Client, folder: Path) -> None:
    joined = client.join()
    for token in ("", "x", joined["rater"], joined["token"] + "x"):
        assert client.answer({"token": token}, "t0x0") == 401
    database = (folder.parent / "results.sqlite").read_bytes() + (folder.parent / "results.sqlite-wal").read_bytes()
    assert joined["token"].encode() not in database


def test_invitations_let_in_whom_they_are_for(folder: Path) -> None:
    with running(folder, invites={"personal1": 1, "classroom": 2}) as client:
        assert b'"invited":true' in client.ask("GET", "/").content
        one = client.join("personal1")
        assert client.answer(one, "tp") == 200
        again = client.join("personal1")  # from another browser
        assert again["rater"] == one["rater"] and again["token"] != one["token"]
        assert [answer["trial"] for answer in again["session"]["answers"]] == ["tp"]
        assert client.answer(one, "t0x0") == client.answer(again, "t0x1") == 200
        assert client.join("classroom")["rater"] != client.join("classroom")["rater"]
        for code in ("classroom", "unknown", "", "PERSONAL1"):
            body = {"study_version": "5d21", "invite": code, "language": "en", "consent": CONSENT}
            assert client.ask("POST", "/api/join", body).status == 403
    database = (folder.parent / "results.sqlite").read_bytes()
    assert b"personal1" not in database and b"classroom" not in database


def test_a_full_study_lets_nobody_in_until_somebody_withdraws(folder: Path) -> None:
    with running(folder, max_raters=2) as client:
        one, _ = client.join(), client.join()
        body = {"study_version": "5d21", "language": "en", "consent": CONSENT}
        assert client.ask("POST", "/api/join", body).status == 409
        assert client.ask("DELETE", "/api/session", token=one["token"]).status == 200
        assert client.join()["slot"] == one["slot"]


def test_who_withdraws_leaves_nothing_behind(client: Client, folder: Path) -> None:
    joined = client.whole_session()
    client.finish(joined, attributes={"comment": "leave-no-trace-of-this"})
    other = client.join()
    assert client.ask("DELETE", "/api/session", token=joined["token"]).status == 200
    assert client.answer(joined, "t0x0") == 401
    assert [session.rater for session in _collected(folder)] == [other["rater"]]
    for path in folder.parent.glob("results.sqlite*"):
        assert b"leave-no-trace-of-this" not in path.read_bytes()
        assert joined["rater"].encode() not in path.read_bytes()


def test_the_owner_deletes_a_rater_by_pseudonym(client: Client, folder: Path) -> None:
    joined, other = client.whole_session(), client.whole_session()
    delete_rater(folder.parent / "results.sqlite", joined["rater"])
    assert [session.rater for session in _collected(folder)] == [other["rater"]]
    with pytest.raises(InputError, match="knows no rater 'r-nobody'"):
        delete_rater(folder.parent / "results.sqlite", "r-nobody")


@pytest.mark.parametrize(
    "path",
    [
        "/key.json",
        "/../key.json",
        "/media/../../key.json",
        "/media/..%2f..%2fkey.json",
        "/media/%2e%2e/%2e%2e/key.json",
        "/media/..\\..\\key.json",
        "/media/..%5c..%5ckey.json",
        "/media//../key.json",
        "/media/00000000000000aa.mp4/../../../key.json",
        "/media/%00key.json",
        "/media/..%252f..%252fkey.json",
        "//key.json",
        "/study.json",
        "/results.sqlite",
        "/media/",
        "/media",
        "/docs",
        "/openapi.json",
        "/api/export",
        "/media/file:///etc/passwd",
    ],
)
def test_nothing_but_the_page_and_its_clips_can_be_fetched(client: Client, path: str) -> None:
    reply = client.ask("GET", path)
    assert reply.status in (404, 405), path
    assert b"SECRET" not in reply.content and b"slots" not in reply.content


def test_a_key_in_the_folder_is_refused_by_name(folder: Path) -> None:
    key = folder.parent / "key.json"
    (folder / "media" / "notes.json").write_text(key.read_text())
    with pytest.raises(InputError, match=r"notes\.json is the key, inside the folder that raters can see; move it"):
        create_app(folder, folder.parent / "results.sqlite")
    (folder / "media" / "notes.json").unlink()
    (folder / "media" / "ffffffffffffffff.mp4").symlink_to(key)
    with pytest.raises(InputError, match="is a link"):
        create_app(folder, folder.parent / "results.sqlite")


def test_results_and_key_in_the_folder_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="would be inside"):
        create_app(folder, folder / "results.sqlite")
    inside = folder / "key.json"
    inside.write_text((folder.parent / "key.json").read_text())
    with pytest.raises(InputError, match="is inside .*, which raters can see; move it elsewhere"):
        serve(folder, folder.parent / "results.sqlite", key=inside)
    inside.unlink()
    other = folder.parent / "other.json"
    other.write_text('{"study_id": "another"}')
    with pytest.raises(InputError, match="is of study another, and .* is study 9f0c"):
        serve(folder, folder.parent / "results.sqlite", key=other)


def test_a_missing_clip_is_named_before_anybody_comes(folder: Path) -> None:
    (folder / "media" / "00000000000000aa.mp4").unlink()
    with pytest.raises(InputError, match=r"00000000000000aa\.mp4 is missing"):
        create_app(folder, folder.parent / "results.sqlite")


def test_another_studys_results_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    create_app(folder, tmp_path / "results.sqlite")
    changed = {**_study().to_json(), "version": "ffff"}
    (folder / "study.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="holds answers to study 9f0c, version 5d21, not to 9f0c, version ffff"):
        create_app(folder, tmp_path / "results.sqlite")


def test_a_file_that_is_no_database_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database, but long enough to be taken for one" * 50)
    with pytest.raises(InputError, match="is not a results file"):
        create_app(folder, tmp_path / "text.sqlite")
    with pytest.raises(InputError, match="there is no results file"):
        collected_sessions(tmp_path / "absent.sqlite")
    sqlite3.connect(tmp_path / "empty.sqlite").execute("CREATE TABLE x (y)").connection.commit()
    with pytest.raises(InputError, match="is not a results file"):
        collected_sessions(tmp_path / "empty.sqlite")


def test_a_taken_port_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OutputError, match="cannot be taken: .*--port"):
        serve(folder, folder.parent / "results.sqlite", port=taken.getsockname()[1])


def test_clips_come_in_ranges(client: Client) -> None:
    whole = client.ask("GET", "/media/00000000000000aa.mp4")
    assert whole.status == 200 and whole.content == CLIP and whole.headers["content-type"] == "video/mp4"
    part = client.ask("GET", "/media/00000000000000aa.mp4", Range="bytes=100-299")
    assert part.status == 206 and part.content == CLIP[100:300]
    assert part.headers["content-range"] == f"bytes 100-299/{len(CLIP)}"
    assert client.ask("GET", "/media/00000000000000aa.mp4", Range="bytes=99999-").status == 416
    assert client.ask("HEAD", "/media/00000000000000aa.mp4").content == b""


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for path in ("/", "/media/00000000000000aa.mp4", "/nothing", "/api/session"):
        headers = client.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert client.ask("GET", "/").headers["cache-control"] == "no-store"


def test_the_served_page_holds_no_trials(client: Client) -> None:
    page = client.ask("GET", "/").content.decode()
    assert "t0x0" not in page and "00000000000000aa" not in page and '"collected":true' in page


def test_a_large_request_is_refused_however_it_is_sent(client: Client) -> None:
    token = client.join()["token"]
    assert client.ask("PUT", "/api/session", b"x" * 20_000, token).status == 413
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as raw:
        raw.sendall(b"PUT /api/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n0\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_a_request_that_never_ends_is_given_up(folder: Path) -> None:
    with (
        running(folder, limits=Limits(body_timeout_s=0.2)) as client,
        socket.create_connection(("127.0.0.1", client.port), timeout=20) as raw,
    ):
        raw.sendall(b"PUT /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert raw.recv(100).startswith(b"HTTP/1.1 408")


def test_guessing_codes_is_slow(folder: Path) -> None:
    with running(folder, invites={"personal1": 1}, limits=Limits(wrong_codes_per_min=3)) as client:
        body = {"study_version": "5d21", "invite": "guessed", "language": "en", "consent": CONSENT}
        replies = [client.ask("POST", "/api/join", body) for _ in range(5)]
        assert [reply.status for reply in replies] == [403, 403, 403, 429, 429]
        assert 1 <= int(replies[-1].headers["retry-after"]) <= 21


def test_too_many_requests_are_held_back(folder: Path) -> None:
    with running(folder, limits=Limits(requests_per_s=0.5)) as client:
        statuses = [client.ask("GET", "/").status for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    bucket = Buckets(per_s=2, burst=2, clock=lambda: now[0])
    assert [bucket.wait_s("a") for _ in range(3)] == [0, 0, 0.5]
    assert bucket.wait_s("b") == 0
    now[0] = 0.5
    assert bucket.wait_s("a") == 0


def test_a_rater_is_not_told_apart_from_another_by_anything_but_the_pseudonym(client: Client, folder: Path) -> None:
    client.whole_session()
    with sqlite3.connect(folder.parent / "results.sqlite") as db:
        columns = {row[1] for row in db.execute("PRAGMA table_info(raters)")}
        stored = json.dumps(db.execute("SELECT * FROM raters").fetchall())
    assert not columns & {"ip", "address", "name", "email", "user_agent"}
    assert "127.0.0.1" not in stored


def test_many_raters_at_once_lose_no_answer(tmp_path: Path) -> None:
    folder = _write_folder(tmp_path, _study(num_slots=8, num_trials=6))
    with running(folder) as client, ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda _: client.whole_session(), range(24)))
    sessions = {session.rater: session for session in _collected(folder)}
    assert len(sessions) == 24
    for joined in given:
        assert {answer.trial for answer in sessions[joined["rater"]].answers} == {
            trial["id"] for trial in joined["trials"]
        }


def test_answers_go_on_after_a_restart(folder: Path) -> None:
    with running(folder) as client:
        joined = client.join()
        assert client.answer(joined, "tp") == 200
    with running(folder) as client:
        assert client.answer(joined, "t0x0") == 200
        assert client.join()["slot"] == 1
    assert [answer.trial for answer in next(s for s in _collected(folder) if s.rater == joined["rater"]).answers] == [
        "t0x0",
        "tp",
    ]


def _answer(trial: str) -> Any:
    from avatar.study.results import Answer

    return Answer(trial, {"LS": 3, "IP": 3}, 0, 2.0, 1.0, AT)


def _replaced(session: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(session, **changes)


def _finish(store: AnswerStore, study: Study, session: Any) -> None:
    for trial in study.trials_of(session.slot):
        store.put_answer(session.rater, _answer(trial.id))
    store.put_session(_replaced(session, finished_at=AT))
