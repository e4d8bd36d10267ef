"""GRID (Cooke et al. 2006): 34 talkers, 1,000 six-word commands each, 3 s a clip.

Layout: `s1/bbaf2n.mpg` (also below further folders), and the word times in `align/bbaf2n.align` of the same talker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import videos

_TALKER = re.compile(r"s(\d{1,2})(?:_processed|\.mpg_\w+)?")
_SILENCE = ("sil", "sp")


def read(root: Path) -> Iterator[SourceRecord]:
    """The records; a transcript where the clip's .align file is there."""
    aligned = {(_talker(path, root), path.stem): path for path in root.rglob("*.align")}
    for path in videos(root):
        talker = _talker(path, root)
        if talker is not None:
            yield SourceRecord(
                f"{talker}/{path.stem}",
                path,
                declared={"identity": f"grid/{talker}", "transcript": _words(aligned.get((talker, path.stem)))},
            )


def _talker(path: Path, root: Path) -> str | None:
    for part in reversed(path.relative_to(root).parts[:-1]):
        match = _TALKER.fullmatch(part)
        if match:
            return f"s{match[1]}"
    return None


def _words(path: Path | None) -> str | None:
    if path is None:
        return None
    lines = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return " ".join(parts[2] for parts in lines if len(parts) == 3 and parts[2] not in _SILENCE) or None
