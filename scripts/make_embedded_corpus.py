"""Makes the synthetic speech corpus that the embedded weights are trained on.

    python scripts/make_embedded_corpus.py CORPUS_DIR

Needs the Debian packages espeak-ng, libespeak-ng1, flite, festival, festvox-kallpc16k, festvox-kdlpc16k,
festvox-us-slt-hts and festvox-ru. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from avatar.data.synthetic.corpus import make_speech
from avatar.errors import AvatarError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hours-scale", type=float, default=1.0, help="multiplies every voice's hours (default 1: about 8 h)"
    )
    arguments = parser.parse_args()

    def progress(voice: str, done: float) -> None:
        sys.stderr.write(f"\r{voice:<28}{done:6.1%}" + ("\n" if done >= 1 else ""))

    try:
        make_speech(arguments.folder, seed=arguments.seed, hours_scale=arguments.hours_scale, progress=progress)
    except AvatarError as err:
        sys.stderr.write(f"\n{err}\n")
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
