"""VoxCeleb2 (Chung et al. 2018): a million utterances of 6,112 people, already cut and cropped to the face.

Layout: `dev/mp4/id00012/21Uxsk56VDQ/00001.mp4` (any folders above the identity), and `vox2_meta.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from avatar.data.manifest import SourceRecord
from avatar.data.readers.layout import one_file, sex_word, table_rows, videos

_PLACE = re.compile(r"(id\d{5})/([\w-]{11})/(\d{5})\.\w+$")


def read(root: Path) -> Iterator[SourceRecord]:
    """The records; sex only where vox2_meta.csv is there."""
    table = one_file(root, "vox2_meta.csv")
    sexes = {row["VoxCeleb2 ID"]: sex_word(row.get("Gender", "")) for row in table_rows(table)} if table else {}
    for path in videos(root):
        match = _PLACE.search(path.relative_to(root.parent).as_posix())
        if match:
            person, video, number = match.groups()
            yield SourceRecord(
                f"{person}/{video}/{number}",
                path,
                declared={"identity": f"voxceleb2/{person}", "sex": sexes.get(person)},
            )
