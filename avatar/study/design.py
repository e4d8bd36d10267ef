"""Systems, items and raters to what each rater sees, in order: balanced, incomplete, and hard to guess.

Which clips: the cells (system, item) are dealt out in a sequence in which both cycle, so that any run of clips has each
system equally often and items as different as possible, and all cells are used equally often (an incomplete Latin square).
In which order: blocks of one clip a system, each a row of a Williams square, in which every system follows every other one
equally often. No item comes twice in a row.

Source: E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments" (1949);
ITU-T P.910 for sessions, practice and hidden repeats.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from avatar.errors import OptionError
from avatar.study.formats import TRAPS
from avatar.study.spec import StudySpec

REPLAY_SHARE = 0.3  # of clips that are played a second time
SECONDS_A_SCALE, SECONDS_A_CLIP = 4.0, 3.0  # to answer; to go on
INTRODUCTION_S = 180.0
_TRIES = 200


@dataclass(frozen=True)
class Shown:
    """One clip in a session.

    Attributes:
        system, item: of a trap: what it was made from.
        kind: "rated", "practice", "repeat" or "trap".
        trap: "muted" or "shifted" for a trap.
    """

    system: str
    item: str
    kind: str = "rated"
    trap: str | None = None


@dataclass(frozen=True)
class Design:
    """What all raters see.

    Attributes:
        practice: the same for everybody, before the rest.
        slots: one sequence for each rater.
        clips_per_rater: rated ones of each, without repeats and traps.
    """

    practice: tuple[Shown, ...]
    slots: tuple[tuple[Shown, ...], ...]
    clips_per_rater: int


def clip_seconds(duration_s: float, num_scales: int) -> float:
    """How long a rater takes for one clip, about."""
    return duration_s * (1 + REPLAY_SHARE) + num_scales * SECONDS_A_SCALE + SECONDS_A_CLIP


def session_minutes(durations_s: Sequence[float], num_scales: int) -> float:
    """How long a session takes, about, consent and checks included."""
    return (INTRODUCTION_S + sum(clip_seconds(seconds, num_scales) for seconds in durations_s)) / 60


def make_design(spec: StudySpec, durations_s: Mapping[str, float]) -> Design:
    """Who sees what, in which order.

    Args:
        spec: the study file.
        durations_s: length of the clips by item.

    Raises:
        OptionError: the wanted number of clips does not exist or does not fit into a session.
    """
    systems, items = [system.name for system in spec.systems], [item.id for item in spec.rated_items]
    count = _clips_per_rater(spec, durations_s)
    rng = random.Random(f"{spec.seed} design")
    dealt = deal(systems, items, spec.raters, count, rng)
    rows = williams_rows(len(systems))
    traps = _trap_pool(spec, items, count, rng)
    repeated: Counter[tuple[str, str]] = Counter()
    slots = []
    for rater, cells in enumerate(dealt):
        order = ordered(cells, systems, rows, rater, rng)
        slots.append(
            _with_checks([Shown(*cell) for cell in order], spec, _dealt_traps(traps, spec.traps, rater), repeated, rng)
        )
    return Design(_practice(spec, rng), tuple(slots), count)


def deal(
    systems: Sequence[str], items: Sequence[str], num_raters: int, count: int, rng: random.Random
) -> list[list[tuple[str, str]]]:
    """`count` cells (system, item) for each rater.

    Returns:
        For each rater distinct cells: over any number of raters no cell is used more than once oftener than another; for
        one rater no item more than once oftener than another, and, where `count` is a multiple of the number of
        systems, each system equally often.
    """
    num_systems, num_items = len(systems), len(items)
    num_cells, cycle = num_systems * num_items, math.lcm(num_systems, num_items)
    raters_a_round = math.lcm(num_cells, count) // count
    dealt: list[list[tuple[str, str]]] = []
    while len(dealt) < num_raters:
        rows, columns = rng.sample(list(items), num_items), rng.sample(list(systems), num_systems)
        for rater in range(raters_a_round):
            places = [place % num_cells for place in range(rater * count, (rater + 1) * count)]
            dealt.append([(columns[(j + j // cycle) % num_systems], rows[j % num_items]) for j in places])
    rounds = dealt[:num_raters]
    if num_raters >= raters_a_round:  # neighbours share items; a slot's number should say nothing
        rng.shuffle(rounds)
    return rounds


def williams_rows(num: int) -> list[list[int]]:
    """Orders of `num` conditions: each at each place, and each directly after each other one, equally often.

    Returns:
        `num` rows for an even number, twice as many for an odd one.

    Source: Williams 1949.
    """
    first = [0]
    for step in range(1, num):
        first.append((first[-1] + (step if step % 2 else -step)) % num)
    rows = [[(place + shift) % num for place in first] for shift in range(num)]
    return rows if num % 2 == 0 else rows + [row[::-1] for row in rows]


def ordered(
    cells: Sequence[tuple[str, str]],
    systems: Sequence[str],
    rows: Sequence[Sequence[int]],
    rater: int,
    rng: random.Random,
) -> list[tuple[str, str]]:
    """One rater's cells in blocks of a Williams row each, no item twice in a row."""
    num_blocks = -(-len(cells) // len(systems))
    sequence: list[str] = []
    left = Counter(system for system, _ in cells)
    for block in range(num_blocks):
        row = rows[(rater * num_blocks + block) % len(rows)]
        for system in (systems[index] for index in row):
            if left[system]:
                left[system] -= 1
                sequence.append(system)
    sequence += [system for system, number in left.items() for _ in range(number)]
    best: list[tuple[str, str]] = []
    fewest = len(cells)
    for _ in range(_TRIES):
        order = _with_items(sequence, cells, rng)
        clashes = sum(one[1] == two[1] for one, two in pairwise(order))
        if clashes < fewest or not best:
            best, fewest = order, clashes
        if not clashes:
            return best
    raise OptionError(
        f"{len(cells)} clips of {len({item for _, item in cells})} items cannot be put in an order in which no item comes "
        "twice in a row; add items, or lower clips_per_rater"
    )


def _with_items(sequence: Sequence[str], cells: Sequence[tuple[str, str]], rng: random.Random) -> list[tuple[str, str]]:
    """Items for a sequence of systems: at random, but not the one just shown where there is a choice."""
    waiting: dict[str, list[str]] = {}
    for system, item in cells:
        waiting.setdefault(system, []).append(item)
    for items in waiting.values():
        rng.shuffle(items)
    order: list[tuple[str, str]] = []
    for system in sequence:
        items = waiting[system]
        last = order[-1][1] if order else None
        place = next((place for place, item in enumerate(items) if item != last), 0)
        order.append((system, items.pop(place)))
    return order


def _clips_per_rater(spec: StudySpec, durations_s: Mapping[str, float]) -> int:
    """The wanted number, or as many as fit."""
    num_systems, num_cells = len(spec.systems), len(spec.systems) * len(spec.rated_items)
    longest_s = [durations_s[item.id] for item in spec.rated_items]
    mean_s = sum(longest_s) / len(longest_s)
    others = spec.practice + spec.repeats + spec.traps
    a_clip_s = clip_seconds(mean_s, len(spec.scales))
    fitting = int((spec.max_minutes * 60 - INTRODUCTION_S) / a_clip_s + 1e-9) - others
    if spec.clips_per_rater is None:
        count = min(num_cells, fitting // num_systems * num_systems)
        if count < num_systems:
            raise OptionError(
                f"not even one clip of each of {num_systems} systems fits into {spec.max_minutes:g} min beside {others} clips for "
                f"practice, repeats and traps ({a_clip_s:.0f} s a clip); raise max_minutes or cut the clips"
            )
        return count
    if not num_systems <= spec.clips_per_rater <= num_cells:
        raise OptionError(
            f"clips_per_rater is {spec.clips_per_rater}; there are {num_systems} systems of {len(spec.rated_items)} items, so it "
            f"lies between {num_systems} and {num_cells}"
        )
    if spec.clips_per_rater > fitting:
        raise OptionError(
            f"{spec.clips_per_rater} clips and {others} for practice, repeats and traps take "
            f"{(INTRODUCTION_S + (spec.clips_per_rater + others) * a_clip_s) / 60:.0f} min; {max(fitting, 0)} fit into "
            f"{spec.max_minutes:g} min: lower clips_per_rater, or raise max_minutes"
        )
    return spec.clips_per_rater


def _practice(spec: StudySpec, rng: random.Random) -> tuple[Shown, ...]:
    """Clips to get used to the page: of items for practice, or else of any; systems in turn."""
    items = [item.id for item in spec.items if item.practice] or [item.id for item in spec.rated_items]
    systems = [system.name for system in spec.systems]
    rng.shuffle(items)
    rng.shuffle(systems)
    places = range(spec.practice)
    return tuple(Shown(systems[j % len(systems)], items[j % len(items)], "practice") for j in places)


def _trap_pool(spec: StudySpec, items: Sequence[str], count: int, rng: random.Random) -> dict[str, list[Shown]]:
    """Traps of both kinds, about as often used as a rated clip; of real clips where there are any."""
    uses = max(1, spec.raters * count / (len(spec.systems) * len(items)))
    number = min(len(items), max(2, round(spec.raters * spec.traps / len(TRAPS) / uses)))
    systems = [spec.real.name] if spec.real else [system.name for system in spec.systems]
    pool = {}
    for trap in TRAPS:
        chosen = rng.sample(list(items), number)
        pool[trap] = [Shown(rng.choice(systems), item, "trap", trap) for item in chosen]
    return pool


def _dealt_traps(pool: Mapping[str, Sequence[Shown]], number: int, rater: int) -> list[Shown]:
    """The next traps of the pool, the kinds in turn, never one item twice."""
    dealt: list[Shown] = []
    for index in range(number):
        kind = pool[TRAPS[index % len(TRAPS)]]
        first = rater * -(-number // len(TRAPS)) + index // len(TRAPS)
        fresh = [kind[(first + step) % len(kind)] for step in range(len(kind))]
        used = {shown.item for shown in dealt}
        dealt.append(next((shown for shown in fresh if shown.item not in used), fresh[0]))
    return dealt


def _with_checks(
    order: list[Shown], spec: StudySpec, traps: Sequence[Shown], repeated: Counter[tuple[str, str]], rng: random.Random
) -> tuple[Shown, ...]:
    """Repeats of early clips put in late, and traps between the first and the last fifth; each away from its item."""
    early = order[: max(spec.repeats, len(order) // 3)]
    rng.shuffle(early)
    early.sort(key=lambda shown: -repeated[shown.system, shown.item])  # copies that exist already are used first
    for shown in _spread_over_systems(early, spec.repeats):
        repeated[shown.system, shown.item] += 1
        _insert(order, Shown(shown.system, shown.item, "repeat"), 0.75, 1.0, rng)
    for index, trap in enumerate(traps):
        low = 0.2 + 0.6 * index / len(traps)
        _insert(order, trap, low, low + 0.6 / len(traps), rng)
    return tuple(order)


def _spread_over_systems(candidates: Sequence[Shown], number: int) -> list[Shown]:
    chosen: list[Shown] = []
    for once in (True, False):
        for shown in candidates:
            if (
                len(chosen) < number
                and shown not in chosen
                and not (once and shown.system in {c.system for c in chosen})
            ):
                chosen.append(shown)
    return chosen


def _insert(order: list[Shown], shown: Shown, low: float, high: float, rng: random.Random) -> None:
    """Between two shares of the session, where neither neighbour is of the same item; as near to that as possible."""
    places = list(range(1, len(order) + 1))
    rng.shuffle(places)
    wanted = [place for place in places if low * len(order) <= place <= high * len(order)]
    for place in [*wanted, *places]:
        if all(other.item != shown.item for other in order[place - 1 : place + 1]):
            order.insert(place, shown)
            return
    raise OptionError(
        f"a {shown.kind} of item {shown.item} has no place where its neighbours are of other items; add items, or set "
        f"{'traps' if shown.kind == 'trap' else 'repeats'} = 0"
    )


def uses(design: Design) -> Iterator[tuple[tuple[str, str], int]]:
    """How often each rated cell (system, item) is shown to all raters together."""
    yield from Counter((s.system, s.item) for slot in design.slots for s in slot if s.kind == "rated").items()
