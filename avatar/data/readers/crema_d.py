"""CREMA-D (Cao et al. 2014): 91 actors, 12 sentences, six emotions; labels are in the file names.

Layout: https://github.com/CheyneyComputerScience/CREMA-D, README.md and VideoDemographics.csv
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import age_group, emotion_word, one_file, sex_word, table_rows, videos

_NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX|X)")
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high"}  # XX: not specified
_SENTENCES = {
    "IEO": "It's eleven o'clock.", "TIE": "That is exactly what happened.", "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.", "TAI": "The airplane is almost full.", "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.", "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.", "ITS": "I think I've seen this before.", "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}  # fmt: skip


def read(root: Path) -> Iterator[SourceRecord]:
    """The records; sex, age and ethnicity only where VideoDemographics.csv is there."""
    table = one_file(root, "VideoDemographics.csv")
    people = {row["ActorID"]: _person(row) for row in table_rows(table)} if table else {}
    for path in videos(root):
        match = _NAME.fullmatch(path.stem)
        if match:
            actor, sentence, emotion, level = match.groups()
            yield SourceRecord(
                path.stem,
                path,
                declared={
                    "identity": f"crema-d/{actor}",
                    "transcript": _SENTENCES.get(sentence),
                    "emotion": emotion_word(emotion),
                    "emotion_intensity": _LEVELS.get(level),
                    **people.get(actor, {}),
                },
            )


def _person(row: dict[str, str]) -> dict[str, Any]:
    race, hispanic = row["Race"].lower(), row["Ethnicity"].lower() == "hispanic"
    words = [] if race == "unknown" else [race]
    return {
        "sex": sex_word(row["Sex"]),
        "age_group": age_group(float(row["Age"])),
        "ethnicity": ", ".join(words + (["hispanic"] if hispanic else [])) or None,
    }
