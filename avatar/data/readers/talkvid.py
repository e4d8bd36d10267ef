"""TalkVid (Chen et al. 2025): 1,244 h of 7,729 people in 15 languages; a JSON list says who and what is in each clip.

Layout: https://github.com/FreedomIntelligence/TalkVid, README.md; clips are named by their id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import language_code, sex_word, videos_by_stem
from avatar.errors import MediaError

_AGE_GROUPS = {"0-19": "0-18", "19-30": "19-30", "31-45": "31-45", "46-60": "46-60", "60+": "61+"}


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of the listed clips that are on disk; a clip listed twice is read once."""
    found = videos_by_stem(root)
    lists = sorted(root.rglob("*.json"))
    if not lists:
        raise MediaError(f"{root} has no JSON list of TalkVid; put the one from its download page beside the clips")
    done: set[str] = set()
    for path in lists:
        for entry in _entries(path):
            clip = str(entry["id"])
            if clip in found and clip not in done:
                done.add(clip)
                yield SourceRecord(clip, found[clip], declared=_labels(entry.get("info") or {}))


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise MediaError(f"{path} cannot be read as JSON: {err}; download it again") from err
    return [one for one in listed if isinstance(one, dict) and "id" in one] if isinstance(listed, list) else []


def _labels(info: dict[str, str]) -> dict[str, Any]:
    person, ethnicity = info.get("Person ID"), info.get("Ethnicity")
    return {
        "identity": f"talkvid/{person}" if person else None,
        "language": language_code(info.get("Language", "")),
        "sex": sex_word(info.get("Gender", "")),
        "age_group": _AGE_GROUPS.get(info.get("Age Group", "").replace("–", "-")),
        "ethnicity": ethnicity.lower() if ethnicity else None,
    }
