"""Compares this package with golden values of the published systems' own code, and prints a table of max |Δ|.

    python scripts/check_parity.py tests/golden
    python scripts/check_parity.py FOLDER --all

FOLDER holds cases as `tests/golden/README.md` describes them. One line is printed for each case and kind of tensor, with the
largest difference beside its tolerance; `--all` prints every tensor. The exit code is 1 if any is exceeded, or if there is no
case at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from avatar.evaluate.parity import Row
from avatar.evaluate.parity_parts import check_folder


def main() -> int:
    """Reads the command line and checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with cases, at any depth")
    parser.add_argument("--all", action="store_true", help="a line for every tensor")
    options = parser.parse_args()
    rows = list(check_folder(options.folder))
    if not rows:
        print(f"there is no case.json below {options.folder}", file=sys.stderr)
        return 1
    for line in table(rows if options.all else worst(rows)):
        print(line)
    failed = [row for row in rows if not row.passed]
    unseen = sum(row.difference is None for row in rows)
    print(f"{len(rows)} tensors compared, {len(failed)} beyond tolerance" + (f", {unseen} not seen" if unseen else ""))
    return 1 if failed else 0


def worst(rows: Iterable[Row]) -> list[Row]:
    """Of each case and tolerance, the tensor that is furthest off; failures all."""
    kept: dict[tuple[str, float], Row] = {}
    failures = []
    for row in rows:
        if not row.passed:
            failures.append(row)
        key = (row.case, row.tolerance)
        if key not in kept or (row.difference or 0) > (kept[key].difference or 0):
            kept[key] = row
    return sorted({*kept.values(), *failures}, key=lambda row: (row.case, row.tolerance, row.quantity))


def table(rows: Iterable[Row]) -> Iterable[str]:
    """Lines of text."""
    yield f"{'case':<24} {'tensor':<44} {'max |Δ|':>9} {'allowed':>9}"
    for row in rows:
        shown = "not seen" if row.difference is None else f"{row.difference:.1e}" if row.difference else "0"
        allowed = f"{row.tolerance:.0e}" if row.tolerance else "exact"
        yield f"{row.case:<24} {row.quantity:<44} {shown:>9} {allowed:>9}" + ("" if row.passed else "  FAILED")


if __name__ == "__main__":
    sys.exit(main())
