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
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from avatar import __version__
from avatar.choices import add_published_choices, choices_for
from avatar.data.command import add_curate
from avatar.errors import AvatarError, MissingDependencyError, OutputError
from avatar.study.command import add_study
from avatar.train.command import add_train

if TYPE_CHECKING:
    import numpy as np

    from avatar.types import FaceChoice

_CHOICES = (  # options of `animate` that a preset may have or not
    "emotion seed size face speakers steps guidance head_motion runtime prompt negative_prompt text_guidance masks memory "
    "guidance_kind shift sampler long_video handover colour_match reference".split()
)
_NO_MEMORY = "there is not enough memory; try --memory low with a published preset, or a smaller --size"
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
        return _fail(args.interrupted, EXIT_INTERRUPTED, args.debug)
    except AvatarError as err:
        return _fail(f"error: {err}", err.exit_code, args.debug)
    except ImportError as err:
        missing = MissingDependencyError.from_import_error(err)
        return _fail(f"error: {missing}", missing.exit_code, args.debug)
    except OSError as err:
        failure = _output_error(err)
        return _fail(f"error: {failure}", failure.exit_code, args.debug)
    except (MemoryError, RuntimeError) as err:
        if type(err).__name__ not in ("MemoryError", "OutOfMemoryError"):  # torch's own, without importing torch
            raise
        return _fail(f"error: {_NO_MEMORY}", AvatarError.exit_code, args.debug)
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
    _add_fetch(commands)
    add_curate(commands, _help_formatter)
    add_train(commands, _help_formatter, _quieten_libraries)
    add_study(commands, _help_formatter)
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
        help="a preset (avatar presets), a folder with a saved pipeline or with what `avatar fetch` brought, FOLDER:NAME where it "
        "holds several, or debug:NAME for a published system with tiny random weights (default: embedded)",
    )
    parser.add_argument(
        "--emotion",
        metavar="E",
        help="a label (happy), a label with its strength (happy:0.6), a picture of an expression, "
        "or auto: taken from the voice (default: neutral)",
    )
    _add_choices(parser)
    add_published_choices(parser)
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=_animate, interrupted="interrupted; nothing was written")


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """Options of `animate` that most videos leave as they are."""
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same video (default: 0)")
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="the video's longer side in pixels (default: the picture's own; of published presets theirs)",
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
        help="one more person with their own sound, at the same time; may be given several times; mask=SPEECH with --mask",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the preset's)")
    parser.add_argument(
        "--guidance", type=float, metavar="X", help="guidance scale for the speech (default: the preset's)"
    )
    parser.add_argument(
        "--head-motion", type=float, metavar="X", help="0 keeps the head still, 1 is natural (default: 1)"
    )
    parser.add_argument(
        "--runtime",
        choices=("torch", "openvino"),
        help="what computes the networks: torch (default), or openvino: 0.6 of their time on a CPU, the same video "
        '(needs pip install "avatar[openvino]"; slow to start the first time)',
    )


def _add_presets(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "presets",
        help="list the models",
        description="Lists the models that --preset takes: size, memory, licence, and what of each is installed.",
        formatter_class=_help_formatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this one in detail")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="look for fetched files here (default: Hugging Face's cache)",
    )
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=_presets, interrupted="interrupted")


def _add_fetch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fetch",
        help="download what a published preset needs",
        description="Downloads what a published preset needs from huggingface.co, and prints the folder. Sizes are shown first,\n"
        "every file's checksum is verified, and what is there already is not downloaded again: if it was interrupted,\n"
        "run it again.",
        epilog="example: avatar fetch echomimic-v3 --to models, then avatar animate … --preset models",
        formatter_class=_help_formatter,
    )
    parser.add_argument("preset", metavar="PRESET", help="a published preset, see avatar presets")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="a folder of your own, which presets can share (default: Hugging Face's cache)",
    )
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=_fetch, interrupted="interrupted; run the same command again to go on")


def _animate(args: argparse.Namespace) -> None:
    _wait_politely()
    from avatar.media import check_output, write_video
    from avatar.media.files import check_file

    # before the model is loaded: what is wrong with a path is said at once
    check_output(args.output, overwrite=args.overwrite)
    check_file(args.portrait, "picture")
    for speech in (args.speech, *(speech for _, speech in args.speakers)):
        check_file(speech, "sound")
    for mask in (mask for mask in args.masks if mask != "faces"):
        check_file(mask, "picture")
    if not args.debug:
        _quieten_libraries()
    choices = choices_for(args.preset, _given(args), notify=_notify)
    from avatar.pipeline import AvatarPipeline

    pipe = AvatarPipeline.from_pretrained(args.preset, **choices.loading)
    progress: dict[str, Any] = {"progress": _step_progress(sys.stderr)} if choices.published else {}
    stream = pipe.stream(portrait=args.portrait, speech=args.speech, **choices.video, **progress)
    blocks = iter(stream)
    if not choices.published:  # whose work is over when the first frames come
        blocks = _with_progress(blocks, stream.shape.num_frames, stream.shape.fps, sys.stderr)
    path = write_video(args.output, blocks, fps=stream.shape.fps, speech=stream.speech, overwrite=args.overwrite)
    print(path)


def _presets(args: argparse.Namespace) -> None:
    from avatar.hub.table import all_presets, one_preset

    print(one_preset(args.name, args.folder) if args.name else all_presets(args.folder))


def _fetch(args: argparse.Namespace) -> None:
    from avatar.hub.fetch import fetch

    print(fetch(args.preset, args.to, notify=_notify))


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for; the rest is left to the preset."""
    values = {name: getattr(args, name) for name in _CHOICES}
    return {name: value for name, value in values.items() if value not in (None, [])}


def _notify(words: str) -> None:
    print(f"avatar: {words}", file=sys.stderr)


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
    return None if face == "mask" else _face_choice(face), Path(speech)


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


def _step_progress(err: TextIO) -> Callable[[int, int], None]:
    """Counts denoising steps: a bar with the time left on a terminal, a line per quarter elsewhere."""
    started, quarters, bar = time.monotonic(), 0, None

    def tell(done: int, steps: int) -> None:
        nonlocal quarters, bar
        if err.isatty():
            from tqdm import tqdm

            bar = bar or tqdm(total=steps, unit="step", file=err, dynamic_ncols=True)
            bar.update(done - bar.n)
            if done == steps:
                bar.close()
        elif done == 1 or done * 4 // steps > quarters:
            quarters = done * 4 // steps
            left_s = (time.monotonic() - started) / done * (steps - done)
            print(f"avatar: step {done} of {steps}, about {left_s:.0f} s left", file=err)

    return tell


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
