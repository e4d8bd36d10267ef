"""Studies without media, for the tests of design and analysis."""

from __future__ import annotations

from pathlib import Path

from avatar.study.design import make_design
from avatar.study.formats import Key, Study
from avatar.study.naming import Namer, blind
from avatar.study.spec import ItemSpec, StudySpec, SystemSpec

SECONDS = 4.0


def make_spec(num_systems: int = 3, num_items: int = 12, raters: int = 24, **changes: object) -> StudySpec:
    """Systems s0, s1, …, the last one real; items i0, i1, … in two languages and two groups."""
    names = [f"s{index}" for index in range(num_systems)]
    return StudySpec(
        {"en": "Simulated"},
        tuple(SystemSpec(name, folder=Path(name), real=name == names[-1]) for name in names),
        tuple(
            ItemSpec(
                f"i{index}", Path("face.png"), language=("en", "zh")[index % 2], groups={"ethnicity": "ab"[index % 2]}
            )
            for index in range(num_items)
        ),
        raters=raters,
        **changes,  # type: ignore[arg-type]
    )


def make_study(**changes: object) -> tuple[Study, Key]:
    """The study of such a spec, named and blinded."""
    spec = make_spec(**changes)  # type: ignore[arg-type]
    durations_s = {item.id: SECONDS for item in spec.items}
    return blind(spec, make_design(spec, durations_s), durations_s, Namer(b"test"))
