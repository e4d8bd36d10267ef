"""`avatar train`: the options, what is said meanwhile, and the result's path."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from avatar.train.config_file import load_config, recipe_names

if TYPE_CHECKING:
    from avatar.data.sampling.report import CellReport

_SHOWN_EVERY_S = 30.0  # where there is no terminal
_SHOWN_LEFT_OUT = 20  # clips, each with the reason


def add_train(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    formatter: Callable[..., argparse.HelpFormatter],
    quieten: Callable[[], None],
) -> None:
    """Adds the command to the parser.

    Args:
        commands: of the parser.
        formatter: of the help.
        quieten: keeps the libraries' chatter off stderr.
    """
    parser = commands.add_parser(
        "train",
        help="train a model on clips that avatar curate kept, or on a folder of videos",
        description="Trains a model as a TOML file says, and prints the folder of the trained model, which --preset takes.\n"
        "Clips are prepared first, once; an interrupted run goes on with --resume. On several GPUs:\n"
        "accelerate launch -m avatar.cli train CONFIG.toml\n\n"
        f"recipes that come with avatar: {', '.join(recipe_names())}",
        epilog="example: avatar train embedded-own-footage --set data.sources=\"['clips']\" --set out=run",
        formatter_class=formatter,
    )
    parser.add_argument(
        "config",
        metavar="CONFIG.toml",
        help="the run, or the name of a recipe",
    )
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="changes a value of the config, as in loop.steps=500; may be given several times",
    )
    parser.add_argument("--prepare", action="store_true", help="prepare the clips and stop")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is in the folder")
    parser.add_argument("--show", action="store_true", help="print every value of the config, and do nothing")
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(
        run=run_train,
        quieten=quieten,
        interrupted="interrupted; the same command with --resume goes on from the last checkpoint",
    )


def run_train(args: argparse.Namespace) -> None:
    """Runs the command."""
    config = load_config(args.config, args.changes)
    if args.show:
        print("\n".join(f"{name} = {value!r}" for name, value in config.flat().items()))
        return
    if not args.debug:
        args.quieten()
    from avatar.train.assemble import check_config, left_out, prepare, train

    check_config(config)
    if args.prepare:
        stores = prepare(config, _counted("clips prepared"))
        _print_left_out(left_out(config, *stores))
        print(stores[0].folder)
        return
    from avatar.train.loop import Reports

    reports = Reports(_timed(), _print_figures, _print_cells, _print_left_out)
    print(train(config, resume=args.resume, reports=reports, preparing=_counted("clips prepared")))


def _counted(what: str) -> Callable[[int, int], None]:
    """A line per tenth."""
    shown = 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        if done * 10 // total > shown:
            shown = done * 10 // total
            print(f"avatar: {done} of {total} {what}", file=sys.stderr)

    return tell


def _print_left_out(clips: dict[str, str]) -> None:
    for name, reason in list(clips.items())[:_SHOWN_LEFT_OUT]:
        print(f"avatar: {name} is left out: {reason}", file=sys.stderr)
    if len(clips) > _SHOWN_LEFT_OUT:
        print(f"avatar: and {len(clips) - _SHOWN_LEFT_OUT} more are left out", file=sys.stderr)


def _timed() -> Callable[[int, int, float], None]:
    """A line now and then with the time left; on a terminal one line that is rewritten."""
    last = 0.0

    def tell(done: int, steps: int, left_s: float) -> None:
        nonlocal last
        words = f"avatar: step {done} of {steps}, {duration(left_s)} left"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{words}   " + ("\n" if done == steps else ""))
        elif done == steps or time.monotonic() - last > _SHOWN_EVERY_S:
            last = time.monotonic()
            print(words, file=sys.stderr)

    return tell


def duration(seconds: float) -> str:
    """`"3 h 20 min"`, `"4 min"`, `"12 s"`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"


def _print_figures(line: dict[str, float]) -> None:
    shown = ("loss", "held_out_loss", "held_out_worst_cell", "learning_rate", "waiting_share")
    figures = ", ".join(f"{name.replace('_', ' ')} {line[name]:.4g}" for name in shown if name in line)
    if figures:
        print(f"avatar: step {line['step']:.0f}: {figures}", file=sys.stderr)


def _print_cells(rows: list[CellReport]) -> None:
    from avatar.data.sampling.report import table

    if len(rows) > 1:
        print(table(rows), file=sys.stderr)
