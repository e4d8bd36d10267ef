"""What the server of a study keeps and refuses, without a network: slots, limits, and folders with too much in them."""

from __future__ import annotations

import json
import socket
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from avatar.errors import InputError, OutputError  # noqa: E402
from avatar.study.formats import Study  # noqa: E402
from avatar.study.results import Session  # noqa: E402
from avatar.study.server import collected_sessions, create_app, make_invites, read_invites, serve  # noqa: E402
from avatar.study.server.answers import AnswerStore  # noqa: E402
from avatar.study.server.limits import Buckets  # noqa: E402
from tests.study.serving import AT, CONSENT, make_answer, make_study, write_folder  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path, make_study())


def test_a_slot_whose_rater_dropped_out_is_handed_out_again() -> None:
    now = [1000.0]
    store = AnswerStore(Path(":memory:"), make_study(), stale_after_s=60, clock=lambda: now[0])
    first, second = (store.join("en", CONSENT).session for _ in range(2))
    now[0] += 50
    store.put_answer(second.rater, make_answer("t1x0"))  # a sign of life
    now[0] += 20
    third, fourth = (store.join("en", CONSENT).session for _ in range(2))
    assert (first.slot, second.slot, third.slot, fourth.slot) == (0, 1, 0, 2)
    assert store.counts() == [(0, 1), (0, 1), (0, 1)]
    store.put_answer(first.rater, make_answer("t0x0"))  # and yet may go on
    assert len(store.sessions()) == 4


def test_counts_stay_equal_when_many_drop_out() -> None:
    now = [0.0]
    study = make_study(num_slots=10)
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
    store = AnswerStore(Path(":memory:"), make_study(), stale_after_s=0)
    for _ in range(3):
        session = store.join("en", CONSENT).session
        store.put_session(replace(session, finished_at=AT))
        assert session.slot == 0 and store.counts()[0] == (0, 0)


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
    changed = {**make_study().to_json(), "version": "ffff"}
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


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    bucket = Buckets(per_s=2, burst=2, clock=lambda: now[0])
    assert [bucket.wait_s("a") for _ in range(3)] == [0, 0, 0.5]
    assert bucket.wait_s("b") == 0
    now[0] = 0.5
    assert bucket.wait_s("a") == 0


def test_invites_are_read_with_their_numbers(tmp_path: Path) -> None:
    codes = make_invites(3)
    (tmp_path / "codes.txt").write_text(f"# first batch\n{codes[0]}\n\n{codes[1]} 25\n{codes[2]}, 2\n")
    assert read_invites(tmp_path / "codes.txt") == {codes[0]: 1, codes[1]: 25, codes[2]: 2}
    assert len(set(make_invites(100))) == 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abc\n", r"line 1: the code 'abc' has 3 signs; 6 to 64 are accepted"),
        ("abcdefg many\n", "is not a code and a number of raters, as in: abcdefg 30"),
        ("abcdefg\nabcdefg\n", "line 2: the code 'abcdefg' stands there twice"),
        ("# nothing\n", "holds no invitation codes"),
    ],
)
def test_a_file_of_invites_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "codes.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_invites(tmp_path / "codes.txt")


def _finish(store: AnswerStore, study: Study, session: Session) -> None:
    for trial in study.trials_of(session.slot):
        store.put_answer(session.rater, make_answer(trial.id))
    store.put_session(replace(session, finished_at=AT))
