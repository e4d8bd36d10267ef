"""MEAD (Wang et al. 2020): 60 actors, eight emotions at three levels, seven cameras at once.

Layout: `M003/video/front/angry/level_1/001.mp4`; M is an actor, W an actress. The sound may lie apart, in `audio/`: such
clips are found silent by curation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import emotion_word, sex_word, videos

_PLACE = re.compile(r"([MW]\d{3})/video/(\w+)/(\w+)/level_(\d)/(\d+)\.\w+$")


def read(root: Path) -> Iterator[SourceRecord]:
    """The records of every camera; `style` says which, as in "view:front"."""
    for path in videos(root):
        match = _PLACE.search(path.relative_to(root.parent).as_posix())
        if match:
            actor, view, emotion, level, number = match.groups()
            yield SourceRecord(
                f"{actor}/{view}/{emotion}/level_{level}/{number}",
                path,
                declared={
                    "identity": f"mead/{actor}",
                    "emotion": emotion_word(emotion),
                    "emotion_intensity": f"level {level}",
                    "sex": sex_word(actor[0]),
                    "style": f"view:{view}",
                },
            )
