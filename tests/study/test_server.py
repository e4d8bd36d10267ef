"""The server of a study: who gets which slot, what is kept, and what nobody gets from it; over real sockets."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from avatar.errors import InputError  # noqa: E402
from avatar.study.results import session_from_json  # noqa: E402
from avatar.study.server import Limits, collected_sessions, delete_rater  # noqa: E402
from tests.study.serving import AT, CLIP, CONSENT, Client, make_study, running, write_folder  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path, make_study())


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
    assert session_from_json(json.loads(json.dumps(session.to_json())), make_study()) == session


def test_raters_get_the_slots_in_turn_and_all_at_once_as_well(tmp_path: Path) -> None:
    with running(write_folder(tmp_path, make_study(num_slots=5))) as client, ThreadPoolExecutor(10) as pool:
        slots = [joined["slot"] for joined in pool.map(lambda _: client.join(), range(20))]
    assert Counter(slots) == {slot: 4 for slot in range(5)}


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


def test_a_rater_is_not_told_apart_from_another_by_anything_but_the_pseudonym(client: Client, folder: Path) -> None:
    client.whole_session()
    with sqlite3.connect(folder.parent / "results.sqlite") as db:
        columns = {row[1] for row in db.execute("PRAGMA table_info(raters)")}
        stored = json.dumps(db.execute("SELECT * FROM raters").fetchall())
    assert not columns & {"ip", "address", "name", "email", "user_agent"}
    assert "127.0.0.1" not in stored


def test_many_raters_at_once_lose_nomake_answer(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, make_study(num_slots=8, num_trials=6))
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
