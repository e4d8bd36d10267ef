"""Sessions and the key to one table: a row for each (rater, trial, scale), with what the clip was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from avatar.errors import InputError, MissingDependencyError
from avatar.study.formats import Key
from avatar.study.results import Session

if TYPE_CHECKING:
    import pandas as pd

RATED = ("generated", "real")
GROUP_PREFIX = "group."  # of the columns with the study file's own groups


def require_study_packages() -> None:
    """Whether the analysis can be done.

    Raises:
        MissingDependencyError: a package of the extra is absent.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import pandas  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError(f'the analysis of a study needs {err.name}: pip install "avatar[study]"') from err


def ratings_table(sessions: Sequence[Session], key: Key) -> pd.DataFrame:
    """Unblinds all answers.

    Args:
        sessions: what the raters sent.
        key: of the same export.

    Returns:
        Columns rater, slot, culture, trial, place (0, 1, … among the rater's trials after practice, in the order of their times),
        clip, system, item, kind, trap, repeats, language (of the item), group.… (of the item), scale, score, replays, rt_s.
        Practice is left out.

    Raises:
        InputError: a session is of another study, or holds a trial that the key does not know.
    """
    import pandas as pd

    rows = []
    for session in sessions:
        if (session.study_id, session.study_version) != (key.study_id, key.study_version):
            raise InputError(
                f"rater {session.rater} answered study {session.study_id}, version {session.study_version}; the key is of "
                f"{key.study_id}, version {key.study_version}: give the results and the key of one export"
            )
        place = 0
        for answer in sorted(session.answers, key=lambda answer: answer.at):
            clip = key.trials.get(answer.trial)
            if clip is None:
                raise InputError(f"rater {session.rater} answered trial {answer.trial}, which the key does not know")
            what = key.clips[clip]
            if what.kind == "practice":
                continue
            item = key.items[what.item]
            for scale, score in answer.scores.items():
                rows.append(
                    {
                        "rater": session.rater,
                        "slot": session.slot,
                        "culture": session.attributes.get("culture") or "",
                        "trial": answer.trial,
                        "place": place,
                        "clip": clip,
                        "system": what.system,
                        "item": what.item,
                        "kind": what.kind,
                        "trap": what.trap or "",
                        "repeats": what.repeats or "",
                        "language": item["language"],
                        **{GROUP_PREFIX + name: value for name, value in item["groups"].items()},
                        "scale": scale,
                        "score": score,
                        "replays": answer.replays,
                        "rt_s": answer.rt_s,
                    }
                )
            place += 1
    if not any(row["kind"] in RATED for row in rows):
        raise InputError("no rated clip was answered; there is nothing to analyse")
    return pd.DataFrame(rows)


def rated(table: pd.DataFrame) -> pd.DataFrame:
    """The clips that count: no traps and no repeats."""
    return table[table["kind"].isin(RATED)]
