"""The answers of a served study in one SQLite file: an answer that was acknowledged is on the disk.

WAL with `synchronous=FULL`: each answer is a transaction of its own, and the acknowledgement is sent after it has reached the
disk; what is deleted is overwritten. Slots are handed out so that counts stay equal: the one with the fewest sessions that are
finished or under way comes next, and a session that has gone stale no longer counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avatar.errors import InputError, OutputError
from avatar.study.formats import Study
from avatar.study.results import Answer, Session

_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), id TEXT NOT NULL, version TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
    rater TEXT PRIMARY KEY, slot INTEGER NOT NULL, invite TEXT, language TEXT NOT NULL,
    consent TEXT NOT NULL, attributes TEXT NOT NULL, environment TEXT NOT NULL,
    started_at TEXT NOT NULL, finished_at TEXT, is_complete INTEGER NOT NULL DEFAULT 0, seen_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
    hash TEXT PRIMARY KEY, rater TEXT NOT NULL REFERENCES raters ON DELETE CASCADE, made_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    rater TEXT NOT NULL REFERENCES raters ON DELETE CASCADE, trial TEXT NOT NULL, scores TEXT NOT NULL,
    replays INTEGER NOT NULL, played_s REAL, rt_s REAL, at TEXT NOT NULL, PRIMARY KEY (rater, trial)) WITHOUT ROWID;
"""
_SIGNS = "23456789abcdefghjkmnpqrstuvwxyz"
_PSEUDONYM_LENGTH = 8
_TOKENS_KEPT = 5  # of one rater: browsers that a personal invitation was opened in
_FEWEST_RATED = 0.8  # of a slot's trials, for a session to count as finished: the rest may be clips that did not play


class StudyFullError(Exception):
    """No more raters are wanted."""


class InviteError(Exception):
    """The invitation code is unknown or used up."""


@dataclass(frozen=True)
class Joined:
    """A rater who has just come in: the secret that their browser shows from now on, and what is known of them."""

    token: str
    session: Session


class AnswerStore:
    """The database of one study; one connection, used by one thread at a time.

    Args:
        path: the SQLite file; made where there is none.
        study: whose answers it holds.
        stale_after_s: of a session without a sign of life, until its slot is handed out again.
        max_raters: sessions, finished or under way; None: no limit.
        clock: seconds since 1970.

    Raises:
        InputError: the file is another study's, or no database.
        OutputError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        study: Study,
        *,
        stale_after_s: float = 3600.0,
        max_raters: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._study, self._stale_after_s, self._max_raters, self._clock = study, stale_after_s, max_raters, clock
        self._lock = threading.Lock()
        self._db = _open(path, must_exist=False)
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO study VALUES (1, ?, ?)", (study.id, study.version))
            of = db.execute("SELECT id, version FROM study").fetchone()
        if tuple(of) != (study.id, study.version):
            self.close()
            raise InputError(
                f"{path} holds answers to study {of[0]}, version {of[1]}, not to {study.id}, version {study.version}; "
                "give each export a results file of its own"
            )

    def close(self) -> None:
        """Closes the file; what was acknowledged is in it already."""
        with self._lock:
            self._db.close()

    def join(self, language: str, consent: dict[str, Any], *, invite: str | None = None, uses: int = 1) -> Joined:
        """Lets a rater in: gives a pseudonym and the next slot, or finds the session that a personal invitation began.

        Args:
            language: of the page.
            consent: as in the results.
            invite: the code, already known to be one of the study's; None where the study asks for none.
            uses: how many raters it lets in.

        Raises:
            InviteError: the code is used up.
            StudyFullError: `max_raters` have come.
        """
        code = None if invite is None else _hash(f"{self._study.id}:{invite}")
        with self._transaction() as db:
            before = (
                [row[0] for row in db.execute("SELECT rater FROM raters WHERE invite = ?", (code,))] if code else []
            )
            if len(before) >= uses:
                if uses > 1:
                    raise InviteError
                return Joined(self._new_token(db, before[0]), _session(db, before[0], self._study))
            slot = self._next_slot(db)
            rater = "r-" + "".join(secrets.choice(_SIGNS) for _ in range(_PSEUDONYM_LENGTH))
            known = (
                rater,
                slot,
                code,
                language,
                json.dumps(consent),
                "{}",
                "{}",
                consent["at"],
                None,
                0,
                self._clock(),
            )
            db.execute(f"INSERT INTO raters VALUES ({', '.join('?' * len(known))})", known)
            return Joined(self._new_token(db, rater), _session(db, rater, self._study))

    def rater_of(self, token: str) -> tuple[str, int] | None:
        """Pseudonym and slot of the rater whose browser has this token; None if nobody's."""
        with self._lock:
            row = self._db.execute(
                "SELECT rater, slot FROM tokens JOIN raters USING (rater) WHERE hash = ?", (_hash(token),)
            ).fetchone()
        return tuple(row) if row else None

    def put_answer(self, rater: str, answer: Answer) -> None:
        """Keeps an answer; on the disk when this returns. The same again changes nothing; of two to one trial the later stays."""
        values = (
            rater,
            answer.trial,
            json.dumps(answer.scores),
            answer.replays,
            answer.played_s,
            answer.rt_s,
            answer.at,
        )
        with self._transaction() as db:
            db.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET scores = excluded.scores, "
                "replays = excluded.replays, played_s = excluded.played_s, rt_s = excluded.rt_s, at = excluded.at "
                "WHERE excluded.at > answers.at",
                values,
            )
            db.execute("UPDATE raters SET seen_s = ? WHERE rater = ?", (self._clock(), rater))

    def put_session(self, session: Session) -> None:
        """Keeps all of a session but its answers, which came by themselves."""
        with self._transaction() as db:
            rated = db.execute("SELECT count(*) FROM answers WHERE rater = ?", (session.rater,)).fetchone()[0]
            needed = _FEWEST_RATED * len(self._study.trials_of(session.slot))
            parts = [json.dumps(part) for part in (session.consent, session.attributes, session.environment)]
            is_complete = session.finished_at is not None and rated >= needed
            db.execute(
                "UPDATE raters SET language = ?, consent = ?, attributes = ?, environment = ?, started_at = ?, "
                "finished_at = ?, is_complete = ?, seen_s = ? WHERE rater = ?",
                (
                    session.language,
                    *parts,
                    session.started_at,
                    session.finished_at,
                    is_complete,
                    self._clock(),
                    session.rater,
                ),
            )

    def delete(self, rater: str) -> bool:
        """Deletes all that is known of a rater, from the file too; whether there was such a one."""
        with self._lock:
            return _delete(self._db, rater)

    def sessions(self) -> list[Session]:
        """All sessions, by pseudonym."""
        with self._lock:
            return _sessions(self._db, self._study)

    def counts(self) -> list[tuple[int, int]]:
        """(finished, under way) for each slot."""
        with self._lock:
            return self._counts(self._db)

    def _counts(self, db: sqlite3.Connection) -> list[tuple[int, int]]:
        alive_since_s = self._clock() - self._stale_after_s
        found = {
            slot: (finished, running)
            for slot, finished, running in db.execute(
                "SELECT slot, sum(is_complete), sum(NOT is_complete AND seen_s > ?) FROM raters GROUP BY slot",
                (alive_since_s,),
            )
        }
        return [found.get(slot, (0, 0)) for slot in range(len(self._study.slots))]

    def _next_slot(self, db: sqlite3.Connection) -> int:
        counts = self._counts(db)
        if self._max_raters is not None and sum(map(sum, counts)) >= self._max_raters:
            raise StudyFullError
        return min(range(len(counts)), key=lambda slot: (sum(counts[slot]), counts[slot][0], slot))

    def _new_token(self, db: sqlite3.Connection, rater: str) -> str:
        token = secrets.token_urlsafe(24)
        db.execute("INSERT INTO tokens VALUES (?, ?, ?)", (_hash(token), rater, self._clock()))
        db.execute(
            "DELETE FROM tokens WHERE rater = ? AND hash NOT IN "
            "(SELECT hash FROM tokens WHERE rater = ? ORDER BY made_s DESC, rowid DESC LIMIT ?)",
            (rater, rater, _TOKENS_KEPT),
        )
        return token

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _transaction(self._db) as db:
            yield db


def collected_sessions(path: str | Path, study: Study | None = None) -> list[Session]:
    """What a results file holds; also while the server runs.

    Args:
        path: the SQLite file.
        study: if given, whose results they must be.

    Raises:
        InputError: there is no such file, or it is another study's.
    """
    with contextlib.closing(_open(Path(path), must_exist=True)) as db:
        of = _study_of(db, path)
        if study is not None and of != (study.id, study.version):
            raise InputError(
                f"{path} holds answers to study {of[0]}, version {of[1]}, not to {study.id}, version {study.version}"
            )
        return _sessions(db, of)


def delete_rater(path: str | Path, rater: str) -> None:
    """Deletes all that a results file holds of a rater who asks for it; also while the server runs.

    Raises:
        InputError: there is no such file, or no such rater in it.
    """
    with contextlib.closing(_open(Path(path), must_exist=True)) as db:
        _study_of(db, path)
        if not _delete(db, rater):
            raise InputError(
                f"{path} knows no rater {rater!r}; the code looks like r-7k2m9xab, and the page shows it at the end"
            )


def _open(path: Path, must_exist: bool) -> sqlite3.Connection:
    if must_exist and not path.is_file():
        raise InputError(f"there is no results file {path}; give the one that `avatar study serve --results` wrote")
    try:
        db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            db.execute(f"PRAGMA {setting}")
        if not must_exist:
            db.executescript(_SCHEMA)
    except sqlite3.OperationalError as err:
        raise OutputError(
            f"the results file {path} cannot be written: {err}; check the folder and its permissions"
        ) from err
    except sqlite3.DatabaseError as err:
        raise InputError(
            f"{path} is not a results file: {err}; give a new name or the file `avatar study serve` wrote"
        ) from err
    return db


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _study_of(db: sqlite3.Connection, path: str | Path) -> tuple[str, str]:
    try:
        study_id, version = db.execute("SELECT id, version FROM study").fetchone()
    except (sqlite3.DatabaseError, TypeError) as err:
        raise InputError(
            f"{path} is not a results file; give the one that `avatar study serve --results` wrote"
        ) from err
    return study_id, version


def _delete(db: sqlite3.Connection, rater: str) -> bool:
    with _transaction(db):
        gone = db.execute("DELETE FROM raters WHERE rater = ?", (rater,)).rowcount > 0
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds it too, until it is emptied
    return gone


def _sessions(db: sqlite3.Connection, of: Study | tuple[str, str]) -> list[Session]:
    return [_session(db, row[0], of) for row in db.execute("SELECT rater FROM raters ORDER BY rater").fetchall()]


def _session(db: sqlite3.Connection, rater: str, of: Study | tuple[str, str]) -> Session:
    study_id, version = (of.id, of.version) if isinstance(of, Study) else of
    slot, language, consent, attributes, environment, started_at, finished_at = db.execute(
        "SELECT slot, language, consent, attributes, environment, started_at, finished_at FROM raters WHERE rater = ?",
        (rater,),
    ).fetchone()
    rows: Sequence[Any] = db.execute(
        "SELECT trial, scores, replays, played_s, rt_s, at FROM answers WHERE rater = ? ORDER BY at, trial", (rater,)
    ).fetchall()
    session = Session(study_id, version, rater, slot, language, started_at=started_at, finished_at=finished_at)
    return replace(
        session,
        consent=json.loads(consent),
        attributes=json.loads(attributes),
        environment=json.loads(environment),
        answers=tuple(Answer(trial, json.loads(scores), *rest) for trial, scores, *rest in rows),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
