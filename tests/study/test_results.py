"""Results: JSON and CSV hold the same, and what no page sent is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avatar.errors import InputError
from avatar.study.formats import dump_json, read_key, read_study, study_from_json
from avatar.study.results import CSV_COLUMNS, Answer, Session, read_sessions, session_from_json, write_sessions_csv
from avatar.study.simulate import Truth, simulate_sessions
from tests.study.simulated import make_study

STUDY, KEY = make_study(clips_per_rater=9, scales=("LS", "IP"), raters=4)
SESSIONS = simulate_sessions(STUDY, KEY, Truth(dict.fromkeys(KEY.systems, 3.0)), 0)


def test_study_and_key_survive_their_files(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(dump_json(STUDY.to_json()))
    (tmp_path / "key.json").write_text(dump_json(KEY.to_json()))
    assert read_study(tmp_path) == STUDY
    assert read_key(tmp_path / "key.json") == KEY


def test_a_session_survives_json_and_csv(tmp_path: Path) -> None:
    for session in SESSIONS:
        (tmp_path / f"{session.rater}.json").write_text(json.dumps(session.to_json()))
    assert read_sessions([tmp_path]) == SESSIONS
    table = tmp_path / "all.csv"
    table.write_text(write_sessions_csv(SESSIONS))
    assert table.read_text().splitlines()[0] == ",".join(CSV_COLUMNS)
    again = read_sessions([table])
    assert [session.answers for session in again] == [session.answers for session in SESSIONS]
    assert [session.attributes for session in again] == [session.attributes for session in SESSIONS]


def test_a_rater_s_two_files_are_one_session_and_the_later_answer_counts(tmp_path: Path) -> None:
    first = SESSIONS[0]
    changed = replace(first.answers[0], scores={"LS": 1, "IP": 1}, at="2026-01-02T00:00:00Z")
    for name, answers in (("b", (changed,)), ("a", first.answers)):
        (tmp_path / f"{name}.json").write_text(json.dumps(replace(first, answers=answers).to_json()))
    (session,) = read_sessions([tmp_path])
    assert len(session.answers) == len(first.answers)
    assert {a.trial: a.scores for a in session.answers}[changed.trial] == {"LS": 1, "IP": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 9}, "is of format 9"),
        ({"slot": "0"}, "slot is a number"),
        ({"rater": ""}, "rater a pseudonym"),
        ({"surprise": 1}, "not a session that the rating page made"),
        ({"study_id": "other"}, "belongs to study other"),
        ({"slot": 99}, "has slots 0 to 3, not 99"),
        ({"answers": [{"trial": "t0", "scores": {"LS": 3, "IP": 3}}]}, "has no trial 't0'"),
        ({"answers": [{"trial": 1}]}, "did not make"),
        ({"answers": [{"trial": "t", "scores": {"LS": 6}}]}, "'LS' = 6; scores are whole numbers from 1 to 5"),
        ({"answers": [{"trial": "t", "scores": {"LS": True}}]}, "'LS' = True"),
        ({"answers": [{"trial": "t", "scores": {"XX": 3}}]}, "on the scales LS, IP"),
        ({"answers": [{"trial": "t", "scores": {}}]}, "without scores"),
    ],
)
def test_what_no_page_sent_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        session_from_json({**SESSIONS[0].to_json(), **change}, STUDY)


def test_an_answer_holds_every_scale_of_the_study() -> None:
    half = Session(STUDY.id, STUDY.version, "r", 0, answers=(Answer(STUDY.slots[0][0].id, {"LS": 3}),))
    with pytest.raises(InputError, match="the study asks LS, IP"):
        session_from_json(half.to_json(), STUDY)


def test_files_that_are_no_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results in"):
        read_sessions([tmp_path])
    with pytest.raises(InputError, match="there is no file"):
        read_sessions([tmp_path / "none.json"])
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="lacks study_id"):
        read_sessions([tmp_path / "bad.csv"])
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(InputError, match="results end in"):
        read_sessions([tmp_path / "x.txt"])


def test_a_study_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="export it again"):
        study_from_json({"format": 1, "id": "x"})
