"""The command line: parses, builds, calls, saves; every decision is made below it.

Results (the path of the video, the table of presets) go to stdout; progress and errors go to stderr. Exit codes:
0 done, 1 failed, 2 wrong usage or an input that cannot be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from avatar import __version__
from avatar.errors import AvatarError, MissingDependencyError, OutputError
from avatar.presets import PRESETS

if TYPE_CHECKING:
    import numpy as np

    from avatar.types import FaceChoice

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the arguments after the program's name; None takes them from `sys.argv`.

    Returns:
        The exit code.

    Raises:
        SystemExit: from argparse: code 0 after --help and --version, 2 after wrong usage.
    """
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was written", EXIT_INTERRUPTED, args.debug)
    except AvatarError as err:
        return _fail(f"error: {err}", err.exit_code, args.debug)
    except ImportError as err:
        missing = MissingDependencyError.from_import_error(err)
        return _fail(f"error: {missing}", missing.exit_code, args.debug)
    except OSError as err:
        failure = _output_error(err)
        return _fail(f"error: {failure}", failure.exit_code, args.debug)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; `docs/cli.md` is generated from it."""
    parser = argparse.ArgumentParser(
        prog="avatar",
        description="A portrait and a voice go in; a video of that person saying it comes out.",
        formatter_class=_help_formatter,
    )
    parser.add_argument("--version", action="version", version=f"avatar {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_animate(commands)
    _add_presets(commands)
    return parser


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, width=100, max_help_position=30)  # one width, so docs are stable


def _add_animate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "animate",
        help="make a video of the person in PORTRAIT saying SPEECH",
        description="Makes a video of the person in PORTRAIT saying SPEECH, and prints the video's path.",
        epilog="example: avatar animate me.jpg hello.wav -o hello.mp4 --emotion happy:0.6 --seed 7",
        formatter_class=_help_formatter,
    )
    parser.add_argument("portrait", type=Path, metavar="PORTRAIT", help="a picture with a face: jpg, png, webp …")
    parser.add_argument(
        "speech", type=Path, metavar="SPEECH", help="sound, or a video with sound: wav, mp3, m4a, mp4 …"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4", help="the video to write")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.mp4 if it exists")
    parser.add_argument(
        "--preset",
        default="embedded",
        metavar="NAME",
        help="a preset, or a folder with a saved pipeline (default: embedded)",
    )
    parser.add_argument(
        "--emotion",
        default="neutral",
        metavar="E",
        help="a label (happy), a label with its strength (happy:0.6), a picture of an expression, "
        "or auto: taken from the voice (default: neutral)",
    )
    _add_choices(parser)
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=_animate)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """Options of `animate` that most videos leave as they are."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same video (default: 0)")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="the video's longer side in pixels (default: the picture's own)"
    )
    parser.add_argument(
        "--face",
        type=_face_choice,
        metavar="FACE",
        help="who speaks, if there are several: a number, a box L,T,R,B in px, or a word: "
        "left, right, middle, top, bottom, largest",
    )
    parser.add_argument(
        "--speaker",
        dest="speakers",
        type=_speaker,
        action="append",
        default=[],
        metavar="FACE=SPEECH",
        help="one more person with their own sound, at the same time; may be given several times",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the preset's)")
    parser.add_argument(
        "--guidance", type=float, metavar="X", help="guidance scale for the speech (default: the preset's)"
    )
    parser.add_argument(
        "--head-motion", type=float, default=1.0, metavar="X", help="0 keeps the head still, 1 is natural (default: 1)"
    )
    parser.add_argument(
        "--runtime",
        choices=("torch", "openvino"),
        default="torch",
        help="what computes the networks: torch (default), or openvino: 0.6 of their time on a CPU, the same video "
        '(needs pip install "avatar[openvino]"; slow to start the first time)',
    )


def _add_presets(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "presets",
        help="list the models",
        description="Lists the models that --preset takes.",
        formatter_class=_help_formatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=_presets)


def _animate(args: argparse.Namespace) -> None:
    from avatar.media import check_output, write_video
    from avatar.media.files import check_file

    # before the model is loaded: what is wrong with a path is said at once
    check_output(args.output, overwrite=args.overwrite)
    check_file(args.portrait, "picture")
    for speech in (args.speech, *(speech for _, speech in args.speakers)):
        check_file(speech, "sound")
    if not args.debug:
        _quieten_libraries()
    from avatar.pipeline import AvatarPipeline
    from avatar.runtime import check_runtime

    check_runtime(args.runtime)
    pipe = AvatarPipeline.from_pretrained(args.preset)
    if args.runtime != "torch":
        pipe.use_runtime(args.runtime, notify=lambda words: print(f"avatar: {words}", file=sys.stderr))
    stream = pipe.stream(
        portrait=args.portrait,
        speech=args.speech,
        emotion=args.emotion,
        seed=args.seed,
        size_px=args.size,
        face=args.face,
        speakers=args.speakers,
        num_inference_steps=args.steps,
        guidance_scale=args.guidance,
        head_motion=args.head_motion,
    )
    blocks = _with_progress(stream, stream.shape.num_frames, stream.shape.fps, sys.stderr)
    path = write_video(args.output, blocks, fps=stream.shape.fps, speech=stream.speech, overwrite=args.overwrite)
    print(path)


def _presets(args: argparse.Namespace) -> None:
    heads = ("preset", "backbone", "codec", "parameters", "weights", "runs on")
    rows = [heads] + [(p.name, p.backbone, p.codec, p.parameters, p.weights, p.runs_on) for p in PRESETS.values()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _face_choice(text: str) -> FaceChoice:
    """`"2"`, `"left,top,right,bottom"` or a word."""
    from avatar.identity.choose import FACE_WORDS

    if re.fullmatch(r"\d+", text):
        return int(text)
    if text in FACE_WORDS:
        return text
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as err:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a face's number nor a box L,T,R,B in pixels nor one of {', '.join(FACE_WORDS)}"
        ) from err
    if right <= left or bottom <= top:
        raise argparse.ArgumentTypeError(f"the box {text!r} is empty: it is left,top,right,bottom in pixels")
    from avatar.types import BBox

    return BBox(left, top, right, bottom)


def _speaker(text: str) -> tuple[FaceChoice, Path]:
    """`"FACE=SPEECH"`."""
    face, equals, speech = text.partition("=")
    if not (equals and speech):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FACE=SPEECH, as in 2=her.wav, left=her.wav or 40,30,210,250=her.wav"
        )
    return _face_choice(face), Path(speech)


def _with_progress(blocks: Iterable[np.ndarray], num_frames: int, fps: float, err: TextIO) -> Iterator[np.ndarray]:
    """Passes the blocks on; shows a bar with the time left on a terminal, a line per quarter elsewhere."""
    if err.isatty():
        from tqdm import tqdm

        with tqdm(total=num_frames, unit="frame", file=err, dynamic_ncols=True) as bar:
            for block in blocks:
                yield block
                bar.update(len(block))
        return
    print(f"avatar: {num_frames} frames to make ({num_frames / fps:.1f} s of video)", file=err)
    done = quarters = 0
    for block in blocks:
        yield block
        done += len(block)
        if done * 4 // num_frames > quarters:
            quarters = done * 4 // num_frames
            print(f"avatar: {done} of {num_frames} frames", file=err)


def _wait_politely() -> None:
    """Lets idle worker threads sleep: on a machine that is busy elsewhere, spinning ones take most of the time there is."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported


def _quieten_libraries() -> None:
    """Keeps the chatter of the libraries below off stderr, which is for progress and errors."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _output_error(err: OSError) -> OutputError:
    """The system's own words, with what to do where it is known."""
    where = f"{err.filename}: " if err.filename else ""
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{where}the disk is full; free some space, or write elsewhere with -o")
    return OutputError(f"{where}{err.strerror or err}")


def _fail(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"avatar: {message}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
