"""What raters send back: a JSON file for each session, or one CSV table with a row for each (rater, trial, scale).

    {"format": 1, "study_id": "9f0c…", "study_version": "5d21…",
     "rater": "r-7k2m9x", "slot": 4, "language": "en",           rater: a pseudonym; language: of the page
     "consent": {"given": true, "adult": true, "at": "2026-11-23T09:00:00Z"},
     "attributes": {"culture": "…", "native_languages": ["…"]},  what the rater chose to say; may be {}
     "environment": {"screen": [1920, 1080], "headphones": true, …},
     "started_at": "…Z", "finished_at": "…Z" or null,
     "answers": [{"trial": "t41c8…", "scores": {"LS": 4, "IP": 5}, "replays": 1, "played_s": 8.0, "rt_s": 6.1, "at": "…Z"}, …]}

`played_s`: seconds of the clip that were played, replays included. `rt_s`: from the first end of the clip to the answer.
Times are ISO 8601 in UTC. An answer holds every scale that the study asks; of several answers to one trial the last counts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avatar.errors import InputError
from avatar.study.formats import FORMAT, HIGHEST_SCORE, LOWEST_SCORE, SCALES, Study, read_json

CSV_COLUMNS = (
    "study_id study_version rater slot language culture native_languages".split()
    + "trial scale score replays played_s rt_s at".split()
)
_SEPARATOR = ";"  # between several native languages


@dataclass(frozen=True)
class Answer:
    """One trial, rated.

    Attributes:
        trial: its id.
        scores: 1 to 5 by scale.
        replays: how often it was played again.
        played_s: seconds played in all.
        rt_s: seconds from the clip's first end to the answer; None where it is not known.
        at: when, ISO 8601 in UTC.
    """

    trial: str
    scores: dict[str, int]
    replays: int = 0
    played_s: float | None = None
    rt_s: float | None = None
    at: str = ""


@dataclass(frozen=True)
class Session:
    """One rater's session; see the module for what each field holds."""

    study_id: str
    study_version: str
    rater: str
    slot: int
    language: str = "en"
    consent: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    started_at: str = ""
    finished_at: str | None = None
    answers: tuple[Answer, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the page gives it."""
        return {"format": FORMAT, **asdict(self), "answers": [asdict(answer) for answer in self.answers]}

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row of `CSV_COLUMNS` for each answer and scale."""
        languages = self.attributes.get("native_languages") or []
        who = {
            "study_id": self.study_id,
            "study_version": self.study_version,
            "rater": self.rater,
            "slot": self.slot,
            "language": self.language,
            "culture": self.attributes.get("culture") or "",
            "native_languages": languages if isinstance(languages, str) else _SEPARATOR.join(languages),
        }
        for answer in self.answers:
            how = {name: _blank(getattr(answer, name)) for name in ("replays", "played_s", "rt_s", "at")}
            for scale, score in answer.scores.items():
                yield {**who, "trial": answer.trial, "scale": scale, "score": score, **how}


def session_from_json(data: Mapping[str, Any], study: Study | None = None, where: str = "the session") -> Session:
    """Checks what a page sent.

    Args:
        data: as in the module's description.
        study: if given, the session must be of this study and hold trials of its slot and scores of its scales only.
        where: for the messages.

    Raises:
        InputError: what is wrong, in one line.
    """
    if data.get("format") != FORMAT:
        raise InputError(f"{where} is of format {data.get('format')!r}; this version reads format {FORMAT}")
    try:
        fields = {name: value for name, value in data.items() if name != "format"}
        answers = [answer_from_json(answer, where) for answer in fields.pop("answers")]
        session = Session(**fields, answers=tuple({answer.trial: answer for answer in answers}.values()))
    except (KeyError, TypeError, AttributeError) as err:
        raise InputError(f"{where} is not a session that the rating page made: {err}") from err
    if not isinstance(session.slot, int) or not isinstance(session.rater, str) or not session.rater:
        raise InputError(f"{where}: slot is a number and rater a pseudonym, not {session.slot!r} and {session.rater!r}")
    if study is not None:
        _check_fits(session, study, where)
    return session


def answer_from_json(data: Mapping[str, Any], where: str = "the answer") -> Answer:
    """Checks one answer.

    Raises:
        InputError: a field is missing, or a score is not a whole number from 1 to 5 on a known scale.
    """
    try:
        answer = Answer(**data)
    except TypeError as err:
        raise InputError(f"{where} holds an answer that the rating page did not make: {err}") from err
    if not isinstance(answer.trial, str) or not isinstance(answer.scores, dict) or not answer.scores:
        raise InputError(f"{where} holds an answer without a trial's id or without scores: {dict(data)!r:.200}")
    for scale, score in answer.scores.items():
        is_whole = isinstance(score, int) and not isinstance(score, bool)
        if scale not in SCALES or not is_whole or not LOWEST_SCORE <= score <= HIGHEST_SCORE:
            raise InputError(
                f"{where}, trial {answer.trial}: {scale!r} = {score!r}; scores are whole numbers from {LOWEST_SCORE} to "
                f"{HIGHEST_SCORE} on the scales {', '.join(SCALES)}"
            )
    return answer


def _check_fits(session: Session, study: Study, where: str) -> None:
    if (session.study_id, session.study_version) != (study.id, study.version):
        raise InputError(
            f"{where} belongs to study {session.study_id}, version {session.study_version}, not to {study.id}, "
            f"version {study.version}; keep the results of one export together"
        )
    known = {trial.id for trial in study.trials_of(session.slot)}
    for answer in session.answers:
        if answer.trial not in known:
            raise InputError(f"{where}: slot {session.slot} has no trial {answer.trial!r}")
        if set(answer.scores) != set(study.scales):
            raise InputError(
                f"{where}, trial {answer.trial}: the scores are of {', '.join(answer.scores)}; the study asks "
                f"{', '.join(study.scales)}"
            )


def read_sessions(paths: Sequence[str | Path]) -> list[Session]:
    """Reads results, however they came: session files (.json), tables (.csv), the server's file (.db), or folders of these.

    A rater who appears twice with the same slot is one session; the later answers count.

    Raises:
        InputError: nothing is there, or a file is not what it should be.
    """
    found: dict[tuple[str, int], Session] = {}
    for path in _files(paths):
        sessions = _READERS[path.suffix](path)
        for session in sessions:
            who = (session.rater, session.slot)
            found[who] = _merged(found[who], session) if who in found else session
    if not found:
        given = ", ".join(map(str, paths))
        raise InputError(
            f"no results in {given}; give session files (.json), tables (.csv), a server's .db, or folders of these"
        )
    return [found[who] for who in sorted(found)]


def write_sessions_csv(sessions: Iterable[Session]) -> str:
    """The CSV table of all answers, with its head."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for session in sessions:
        writer.writerows(session.rows())
    return out.getvalue()


def _files(paths: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix in _READERS)
        elif path.suffix in _READERS and path.is_file():
            yield path
        else:
            what = "there is no file" if not path.exists() else "results end in .json, .csv or .db, unlike"
            raise InputError(
                f"{what} {path}; give session files (.json), tables (.csv), a server's .db, or folders of these"
            )


def _from_file(path: Path) -> list[Session]:
    return [session_from_json(read_json(path, "session"), where=str(path))]


def _from_server(path: Path) -> list[Session]:
    from avatar.study.server import collected_sessions  # which writes sessions, and so imports this module

    return collected_sessions(path)


def _merged(one: Session, other: Session) -> Session:
    answers = {answer.trial: answer for answer in sorted(one.answers + other.answers, key=lambda answer: answer.at)}
    return replace(other, answers=tuple(answers.values()), attributes=one.attributes | other.attributes)


def _from_csv(path: Path) -> list[Session]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as err:
        raise InputError(f"{path} is not a CSV table that can be read: {err}") from err
    lacking = [name for name in CSV_COLUMNS if rows and name not in rows[0]]
    if lacking or not rows:
        raise InputError(f"{path} lacks {', '.join(lacking) or 'rows'}; the columns are {', '.join(CSV_COLUMNS)}")
    sessions: dict[tuple[str, str], dict[str, Any]] = {}
    for line, row in enumerate(rows, 2):
        try:
            _add_row(sessions, row)
        except ValueError as err:
            raise InputError(f"{path}, line {line}: {err}; slot, score and times are numbers") from err
    return [
        session_from_json({**data, "answers": list(data["answers"].values())}, where=str(path))
        for data in sessions.values()
    ]


def _add_row(sessions: dict[tuple[str, str], dict[str, Any]], row: Mapping[str, str]) -> None:
    attributes: dict[str, Any] = {"culture": row["culture"]} if row["culture"] else {}
    if row["native_languages"]:
        attributes["native_languages"] = row["native_languages"].split(_SEPARATOR)
    session = sessions.setdefault(
        (row["rater"], row["slot"]),
        {
            "format": FORMAT,
            **{name: row[name] for name in ("study_id", "study_version", "rater", "language")},
            "slot": int(row["slot"]),
            "attributes": attributes,
            "answers": {},
        },
    )
    answer = session["answers"].setdefault(row["trial"], {"trial": row["trial"], "scores": {}, "at": row["at"]})
    answer["scores"][row["scale"]] = int(row["score"])
    answer["replays"] = int(row["replays"] or 0)
    answer["played_s"], answer["rt_s"] = (float(row[name]) if row[name] else None for name in ("played_s", "rt_s"))


def _blank(value: Any) -> Any:
    return "" if value is None else value


_READERS: dict[str, Callable[[Path], list[Session]]] = {".json": _from_file, ".csv": _from_csv, ".db": _from_server}
