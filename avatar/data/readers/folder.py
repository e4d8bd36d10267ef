"""A folder of one's own: every video in it, with labels from a table where there is one.

`labels.csv` beside the videos: `path` (relative to the folder) and any of the manifest's declarable labels, `license`,
`consent`, `start_s` and `end_s`. A video may have several rows with different windows; one without a row has no labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatar.data.manifest import DECLARABLE, SourceRecord
from avatar.data.readers.layout import table_rows, videos
from avatar.errors import MediaError, OptionError

LABELS = "labels.csv"
_OTHERS = ("path", "license", "consent", "start_s", "end_s")
_NUMBERS = ("valence", "arousal", "dominance", "start_s", "end_s")


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of a folder."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    if (root / LABELS).is_file():
        for row in table_rows(root / LABELS):
            strangers = sorted(set(row) - set(DECLARABLE) - set(_OTHERS))
            if strangers or "path" not in row:
                raise OptionError(
                    f"{root / LABELS} needs a column path and may have {', '.join((*_OTHERS[1:], *DECLARABLE))}; "
                    f"it has {', '.join(strangers) or 'no path'}"
                )
            rows[row["path"]].append(row)
    missing = [path for path in rows if not (root / path).is_file()]
    if missing:
        raise MediaError(
            f"{root / LABELS} names {missing[0]!r}, which is not in {root}; paths are relative to the folder"
        )
    for path in videos(root):
        inside = path.relative_to(root).as_posix()
        for row in rows.get(inside, [{}]):
            yield _record(inside, path, row)


def _record(inside: str, path: Path, row: dict[str, str]) -> SourceRecord:
    values: dict[str, Any] = {
        name: _number(name, value) if name in _NUMBERS else value for name, value in row.items() if value
    }
    start_s, end_s = values.get("start_s"), values.get("end_s")
    window = "" if start_s is None and end_s is None else f"#{start_s or 0:g}-{'' if end_s is None else f'{end_s:g}'}"
    return SourceRecord(
        source_id=inside + window,
        path=path,
        start_s=start_s,
        end_s=end_s,
        license=values.get("license"),
        consent=values.get("consent"),
        declared={name: values[name] for name in DECLARABLE if name in values},
    )


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as err:
        raise OptionError(f"{LABELS}: {name} is {value!r}; it is a number") from err
