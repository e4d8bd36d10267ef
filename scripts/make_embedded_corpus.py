"""Makes the synthetic speech corpus that the embedded weights are trained on, and on request videos of people saying it.

    python scripts/make_embedded_corpus.py CORPUS_DIR [--render N [--portraits PICTURES_DIR]]

Needs the Debian packages espeak-ng, libespeak-ng1, flite, festival, festvox-kallpc16k, festvox-kdlpc16k,
festvox-us-slt-hts and festvox-ru.

Interrupted, it goes on where it stopped. The videos go to CORPUS_DIR/rendered, with a manifest.csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from avatar.data.synthetic.corpus import make_speech
from avatar.data.synthetic.render import check_portraits, find_portraits, render_clips
from avatar.errors import AvatarError

PORTRAIT = Path(__file__).resolve().parent.parent / "examples" / "astronaut.png"


def main() -> int:
    arguments = _parse_arguments()
    try:
        if arguments.render is not None:  # before hours of work: what is wrong with a portrait is said at once
            portraits = find_portraits(arguments.portraits) if arguments.portraits else [PORTRAIT]
            check_portraits(portraits, arguments.size)
        make_speech(
            arguments.folder,
            seed=arguments.seed,
            hours_scale=arguments.hours_scale,
            progress=_show_voice,
        )
        if arguments.render is not None:
            manifest = render_clips(
                arguments.folder,
                arguments.folder / "rendered",
                arguments.render,
                portraits,
                seed=arguments.seed,
                size_px=arguments.size,
                progress=_show_clips,
            )
            print(manifest)
    except AvatarError as err:
        sys.stderr.write(f"\n{err}\n")
        return err.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on from here\n")
        return 130
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hours-scale", type=float, default=1.0, help="multiplies every voice's hours (default 1: about 8 h)"
    )
    parser.add_argument("--render", type=_count, metavar="N", help="also make N videos of portraits saying the corpus")
    parser.add_argument(
        "--portraits",
        type=Path,
        metavar="DIR",
        help="pictures of people who agreed to it, one face each (default: the example portrait alone)",
    )
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="the videos' longer side (default 512)")
    arguments = parser.parse_args()
    if arguments.portraits and arguments.render is None:
        parser.error("--portraits needs --render N")
    return arguments


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of videos, 1 or more")
    return int(text)


def _show_voice(voice: str, done: float) -> None:
    sys.stderr.write(f"\r{voice:<28}{done:6.1%}" + ("\n" if done >= 1 else ""))


def _show_clips(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} videos" + ("\n" if done == total else ""))


if __name__ == "__main__":
    sys.exit(main())
