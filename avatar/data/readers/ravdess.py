"""RAVDESS (Livingstone and Russo 2018): 24 actors, two sentences spoken and sung, eight emotions; labels in the file names.

Layout: https://zenodo.org/record/1188976
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import emotion_word, videos

_NAME = re.compile(
    r"01-(\d\d)-(\d\d)-(\d\d)-(\d\d)-\d\d-(\d\d)"
)  # 01: picture and sound; 02 has no sound, 03 no picture
_CHANNELS = {"01": "speech", "02": "song"}
_EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad", "05": "angry", "06": "fearful", "07": "disgust",
    "08": "surprised",
}  # fmt: skip
_LEVELS = {"01": "normal", "02": "strong"}
_SENTENCES = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of the files with picture and sound; the silent twins of each are left out."""
    for path in videos(root):
        match = _NAME.fullmatch(path.stem)
        if match:
            channel, emotion, level, sentence, actor = match.groups()
            yield SourceRecord(
                path.stem,
                path,
                declared={
                    "identity": f"ravdess/{actor}",
                    "transcript": _SENTENCES.get(sentence),
                    "emotion": emotion_word(_EMOTIONS.get(emotion, "")),
                    "emotion_intensity": _LEVELS.get(level),
                    "sex": "male" if int(actor) % 2 else "female",
                    "style": _CHANNELS.get(channel),
                },
            )
