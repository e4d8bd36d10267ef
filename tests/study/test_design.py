"""Who sees what: equal counts, no item twice in a row, balanced order, sessions that end."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from avatar.errors import OptionError
from avatar.study.design import deal, make_design, session_minutes, williams_rows
from tests.study.simulated import SECONDS, make_spec

SHAPES = [(3, 30, 30, 30), (4, 6, 12, 12), (3, 10, 30, 30), (2, 8, 20, 8), (5, 7, 35, 10), (4, 15, 30, 20)]


def durations(spec: object) -> dict[str, float]:
    return {item.id: SECONDS for item in spec.items}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("systems", "items", "raters", "count"), SHAPES)
def test_cells_systems_and_items_are_used_equally_often(systems: int, items: int, raters: int, count: int) -> None:
    names = [f"s{index}" for index in range(systems)], [f"i{index}" for index in range(items)]
    dealt = deal(*names, raters, count, random.Random(1))
    cells = Counter(cell for mine in dealt for cell in mine)
    assert len(cells) == systems * items
    assert max(cells.values()) - min(cells.values()) <= 1
    for mine in dealt:
        assert len(set(mine)) == count
        assert set(Counter(system for system, _ in mine).values()) == {count // systems}
        of_items = Counter(item for _, item in mine)
        assert max(of_items.values()) <= -(-count // items)


@pytest.mark.parametrize("num", range(2, 9))
def test_in_williams_rows_each_follows_each_other_equally_often(num: int) -> None:
    rows = williams_rows(num)
    following = Counter(pair for row in rows for pair in pairwise(row))
    places = Counter((place, value) for row in rows for place, value in enumerate(row))
    assert len(following) == num * (num - 1) and len(set(following.values())) == 1
    assert len(places) == num * num and len(set(places.values())) == 1


@pytest.mark.parametrize(("systems", "items", "raters", "count"), SHAPES)
def test_no_item_comes_twice_in_a_row_and_order_is_balanced(systems: int, items: int, raters: int, count: int) -> None:
    spec = make_spec(systems, items, raters, clips_per_rater=count, max_minutes=60)
    design = make_design(spec, durations(spec))
    rated = Counter((place, shown.system) for slot in design.slots for place, shown in enumerate(_rated(slot)))
    for slot in design.slots:
        assert all(one.item != other.item for one, other in pairwise(slot))
    of_system: dict[str, list[int]] = {}
    for (place, system), number in rated.items():
        of_system.setdefault(system, []).extend([place] * number)
    means = [sum(places) / len(places) for places in of_system.values()]
    assert max(means) - min(means) < 0.5  # of `count` places


def test_sessions_have_practice_repeats_and_traps_where_they_belong() -> None:
    spec = make_spec(clips_per_rater=24)
    design = make_design(spec, durations(spec))
    assert [shown.kind for shown in design.practice] == ["practice"] * 3
    for slot in design.slots:
        kinds = Counter(shown.kind for shown in slot)
        assert kinds == {"rated": 24, "repeat": 2, "trap": 2}
        assert {shown.trap for shown in slot if shown.trap} == {"muted", "shifted"}
        for place, shown in enumerate(slot):
            if shown.kind == "repeat":
                first = next(
                    p for p, other in enumerate(slot) if (other.system, other.item) == (shown.system, shown.item)
                )
                assert place - first >= 8


def test_every_trap_is_used_about_equally_often() -> None:
    spec = make_spec(clips_per_rater=24)
    used = Counter(shown for slot in make_design(spec, durations(spec)).slots for shown in slot if shown.kind == "trap")
    assert max(used.values()) <= 3 * min(used.values())


def test_left_to_itself_a_session_is_as_long_as_allowed_and_no_longer() -> None:
    spec = make_spec(3, 40)
    design = make_design(spec, durations(spec))
    assert design.clips_per_rater % 3 == 0
    for slot in design.slots:
        minutes = session_minutes([SECONDS] * (len(slot) + len(design.practice)), len(spec.scales))
        assert 23 < minutes <= 25


def test_practice_items_are_never_rated() -> None:
    spec = make_spec(clips_per_rater=9)
    items = (*spec.items[1:], replace(spec.items[0], practice=True))
    spec = replace(spec, items=items)
    design = make_design(spec, durations(spec))
    assert {shown.item for shown in design.practice} == {"i0"}
    assert "i0" not in {shown.item for slot in design.slots for shown in slot}


def test_the_seed_decides() -> None:
    spec = make_spec(clips_per_rater=9)
    one, same, other = (make_design(replace(spec, seed=seed), durations(spec)) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clips_per_rater": 2}, "between 3 and 36"),
        ({"clips_per_rater": 37}, "between 3 and 36"),
        ({"clips_per_rater": 36, "max_minutes": 10}, "fit into 10 min: lower clips_per_rater"),
        ({"num_systems": 7, "max_minutes": 6}, "not even one clip of each of 7 systems"),
        ({"num_items": 2, "clips_per_rater": 6}, "no item comes twice in a row; add items"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], words: str) -> None:
    spec = make_spec(**changes)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=words):
        make_design(spec, durations(spec))


def _rated(slot: tuple) -> list:  # type: ignore[type-arg]
    return [shown for shown in slot if shown.kind == "rated"]
