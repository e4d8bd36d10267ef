"""Writes a tiny random Wan repository, or all files of a published system, to try a pipeline with before weights are fetched.

python scripts/make_debug_wan.py out/debug-wan --kind i2v
python scripts/make_debug_wan.py out/models --system echomimic-v3; avatar animate … --preset out/models
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from avatar.debug import DEBUG_SYSTEMS, KINDS, write_debug_files, write_debug_repository
from avatar.errors import AvatarError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    kinds = "; ".join(f"{name}: {words}" for name, words in KINDS.items())
    parser.add_argument("--kind", choices=tuple(KINDS), default="i2v", help=kinds)
    parser.add_argument(
        "--system",
        choices=tuple(DEBUG_SYSTEMS),
        help="what `avatar fetch SYSTEM --to FOLDER` would bring, of its own kind",
    )
    parser.add_argument("--layers", type=int, default=4, help="transformer blocks of a repository (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default 0)")
    args = parser.parse_args()
    try:
        if args.system:
            print(write_debug_files(args.folder, args.system, args.seed))
            return 0
        print(write_debug_repository(args.folder, args.kind, args.seed, args.layers))
    except AvatarError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
