"""Animates every portrait of a folder with some voices, to look at: videos, contact sheets, and what was refused and why.

    python scripts/animate_gallery.py PORTRAITS_DIR OUT_DIR VOICE.wav [VOICE.wav …] [--seconds 4] [--size 512] [--emotion happy:0.5]

Voices are taken in turn. A video that is there already is not made again.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from pathlib import Path

from avatar.errors import AvatarError
from avatar.media import read_waveform
from avatar.pipeline import AvatarPipeline
from avatar.types import Waveform

LOG = logging.getLogger("animate_gallery")
_ROWS_PER_SHEET = 9


def animate_folder(args: argparse.Namespace) -> tuple[list[Path], dict[str, str]]:
    """Makes the videos; returns them and the reason for each refusal."""
    pipe = AvatarPipeline.from_pretrained(args.preset)
    voices = [_beginning(path, args.seconds) for path in args.voices]
    made: list[Path] = []
    refused: dict[str, str] = {}
    for index, portrait in enumerate(sorted(args.portraits.iterdir())):
        video = args.out / f"{portrait.stem}.mp4"
        voice = voices[index % len(voices)]
        started = time.perf_counter()
        try:
            if not video.exists():
                stream = pipe.stream(portrait, voice, size_px=args.size, emotion=args.emotion, seed=args.seed)
                stream.save(video)
                LOG.info("%s: %.1f s", portrait.name, time.perf_counter() - started)
            made.append(video)
        except AvatarError as err:
            refused[portrait.name] = f"{type(err).__name__}: {err}"
            LOG.info("%s: refused, %s", portrait.name, refused[portrait.name])
    return made, refused


def _beginning(path: Path, seconds: float) -> Waveform:
    speech = read_waveform(path)
    return Waveform(speech.samples[: int(seconds * speech.sample_rate_hz)], speech.sample_rate_hz)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("portraits", type=Path, help="folder of pictures")
    parser.add_argument("out", type=Path, help="folder for videos, sheets and refused.txt")
    parser.add_argument("voices", nargs="+", type=Path, help="sound files")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each voice (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="longer side, px (default: %(default)s)")
    parser.add_argument("--emotion", default="neutral")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="embedded")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.out.mkdir(parents=True, exist_ok=True)
    made, refused = animate_folder(args)
    (args.out / "refused.txt").write_text("".join(f"{name}\t{reason}\n" for name, reason in refused.items()))
    for number, start in enumerate(range(0, len(made), _ROWS_PER_SHEET)):
        rows = [str(path) for path in made[start : start + _ROWS_PER_SHEET]]
        sheet = args.out / f"sheet-{number}.png"
        script = Path(__file__).with_name("contact_sheet.py")
        looks = ["--frames", "9", "--height", "160", "--face", "--labels"]
        subprocess.run([sys.executable, str(script), *rows, "-o", str(sheet), *looks], check=True)
    LOG.info("%d made, %d refused", len(made), len(refused))
    return 0


if __name__ == "__main__":
    sys.exit(main())
