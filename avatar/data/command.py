"""`avatar curate`: the options, what is said meanwhile, and the manifest's path."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from avatar.errors import OptionError

if TYPE_CHECKING:
    from avatar.data.engines.work import Engine

_SHOWN_EVERY_S = 30.0  # where there is no terminal
_REASONS_SHOWN = 8


def add_curate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], formatter: Callable[..., argparse.HelpFormatter]
) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "curate",
        help="turn a folder of videos into clips worth training on",
        description="Cuts the videos of SOURCE into clips, measures them, and decides which to keep and why not the others.\n"
        "Writes a manifest, tar shards and a report into OUT, and prints the manifest's path. SOURCE is only read.\n"
        "What is done already is not done again: if it was interrupted, run it again.",
        epilog="example: avatar curate my-videos curated --workers 4, then avatar curate my-videos curated --explain talk.mp4",
        formatter_class=formatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder of videos, or one video")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder of the results; made when absent")
    parser.add_argument(
        "--recipe",
        metavar="R",
        help="how a known corpus is laid out and what it declares: a folder name in datasets/, or a recipe.toml "
        "(default: every video in SOURCE, with the labels of SOURCE/labels.csv where there is one)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="C.toml",
        help="scorers, limits and the rest, where they differ from the defaults",
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="processes of this machine, or Ray (default: local)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes at a time (default: one per processor)")
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try again what failed in an earlier run: clips that took too long, sources that could not be read",
    )
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML page")
    group = parser.add_argument_group("on what an earlier run has left in OUT")
    group.add_argument(
        "--explain", metavar="CLIP", help="say what each stage found of a clip, and stop: an id, or a file"
    )
    group.add_argument(
        "--rethreshold",
        action="store_true",
        help="apply the limits of --config to what has been measured, and stop; takes seconds",
    )
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=run_curate, interrupted="interrupted; run the same command again to go on")


def run_curate(args: argparse.Namespace) -> None:
    """Runs the command."""
    if args.explain is not None:
        from avatar.data.curation.explain import explain

        print(explain(args.out, args.explain))
        return
    from avatar.data.curation.run import curate, rethreshold

    if args.rethreshold:
        path = rethreshold(args.out, args.config, report=not args.no_report)
    else:
        engine = _engine(args.engine, args.workers)
        try:
            path = curate(
                args.source,
                args.out,
                args.config,
                engine,
                recipe=args.recipe,
                report=not args.no_report,
                retry_failed=args.retry_failed,
                progress=_progress(sys.stderr),
            )
        finally:
            engine.close()
    _summarise(path, sys.stderr)
    if not args.no_report:
        from avatar.data.curation.folder import CurationFolder

        print(f"avatar: the report is {CurationFolder(args.out).report}", file=sys.stderr)
    print(path)


def _engine(name: str, workers: int | None) -> Engine:
    if workers is not None and workers < 1:
        raise OptionError(f"--workers must be at least 1, not {workers}")
    if name == "ray":
        from avatar.data.engines.ray import RayEngine

        return RayEngine() if workers is None else RayEngine(workers)
    from avatar.data.engines.local import LocalEngine

    return LocalEngine(workers)


def _progress(err: TextIO) -> Callable[[str, int, int], None]:
    """On a terminal a line that is rewritten, elsewhere one now and then and at the end of each stage."""
    started: dict[str, float] = {}
    last = 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        since = started.setdefault(stage, now)
        if not err.isatty() and done < total and now - last < _SHOWN_EVERY_S:
            return
        last = now
        left = f", about {(now - since) / done * (total - done):.0f} s left" if 0 < done < total and now > since else ""
        line = f"avatar: {stage}: {done} of {total}{left}"
        print(f"\r{line:<60}" if err.isatty() else line, end="" if err.isatty() and done < total else "\n", file=err)

    return tell


def _summarise(path: Path, err: TextIO) -> None:
    from avatar.data.manifest import read_manifest

    rows = read_manifest(path).select(["keep", "duration_s", "reject_reasons"]).to_pylist()
    kept = [row for row in rows if row["keep"]]
    hours = sum(row["duration_s"] for row in kept) / 3600
    print(f"avatar: {len(kept)} of {len(rows)} clips kept, {hours:.2f} h", file=err)
    reasons = Counter(reason for row in rows for reason in row["reject_reasons"])
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        print(f"avatar:   {count} {reason}", file=err)
