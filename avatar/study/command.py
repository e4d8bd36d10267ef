"""`avatar study`: export, serve, analyze; the options, and what is said meanwhile."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Protocol, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Formatter(Protocol):
    """What argparse calls for the layout of a help text."""

    def __call__(self, prog: str) -> argparse.HelpFormatter: ...


def add_study(commands: Commands, formatter: Formatter) -> None:
    """Adds the group of commands to the parser."""
    parser = commands.add_parser(
        "study",
        help="a user study: blinded clips out, ratings in, a report with confidence",
        description="Compares systems by asking people: export makes a folder of blinded clips with a rating page, serve collects\n"
        "ratings, analyze reports what follows from them. See docs/user-study.md.",
        formatter_class=formatter,
    )
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True)
    _add_export(steps, formatter)
    _add_serve(steps, formatter)
    _add_analyze(steps, formatter)


def _add_export(steps: Commands, formatter: Formatter) -> None:
    parser = steps.add_parser(
        "export",
        help="write the blinded folder and its key",
        description="Writes a folder with a rating page and clips that do not tell who made them, and a key file that does;\n"
        "prints both paths, and to stderr what difference the study can find. The folder may be put on any web host, sent as a\n"
        "zip, opened from disk, or served with avatar study serve. Keep the key to yourself.",
        epilog="example: avatar study export study.toml -o study --key study-key.json",
        formatter_class=formatter,
    )
    parser.add_argument(
        "study", type=Path, metavar="STUDY.toml", help="systems, items, scales, raters; see docs/user-study.md"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="KEY.json", help="the key to write, outside the folder"
    )
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="keep clips that presets made here, for the next export"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier folder and key")
    parser.add_argument(
        "--power", action="store_true", help="print what difference the study can find, and write nothing"
    )
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=run_export, interrupted="interrupted; nothing was written")


def _add_serve(steps: Commands, formatter: Formatter) -> None:
    parser = steps.add_parser(
        "serve",
        help="hand out assignments and collect ratings",
        description="Serves an exported folder: hands each rater the next assignment and keeps every answer in an SQLite file.\n"
        "Prints the address. Stop it with Ctrl-C; the answers stay.",
        epilog="example: avatar study serve study --results ratings.db --invites codes.txt",
        formatter_class=formatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what avatar study export wrote")
    parser.add_argument(
        "--results", type=Path, required=True, metavar="FILE.db", help="the answers; made where there is none"
    )
    parser.add_argument(
        "--key", type=Path, metavar="KEY.json", help="make sure that it is this study's and not in the folder"
    )
    parser.add_argument(
        "--invites", type=Path, metavar="FILE", help="let in only who has one of these codes, one a line"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="who can reach it (default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument("--port", type=int, metavar="N", help="default: 8060; 0 takes a free one")
    parser.add_argument("--max-raters", type=int, metavar="N", help="let in so many and no more (default: no limit)")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE.csv", help="write the answers so far as a table, and serve nothing"
    )
    parser.add_argument("--delete", metavar="RATER", help="delete all answers of this rater, and serve nothing")
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=run_serve, interrupted="stopped; the answers are kept")


def _add_analyze(steps: Commands, formatter: Formatter) -> None:
    parser = steps.add_parser(
        "analyze",
        help="ratings and the key to a report",
        description="Reads ratings, unblinds them with the key, and writes a report: a page with plots, CSV tables, a LaTeX\n"
        "table. Prints the page's path, and to stderr what follows. Nothing is sent anywhere.",
        epilog="example: avatar study analyze ratings/ --key study-key.json -o report",
        formatter_class=formatter,
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        metavar="RESULTS",
        help="session files (.json), tables (.csv), folders of them, or a .db",
    )
    parser.add_argument("--key", type=Path, required=True, metavar="KEY.json", help="the key of the export")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the folder for the report")
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE.csv",
        help="automatic metrics to compare with: columns system, item, and metrics",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    parser.add_argument("--debug", action="store_true", help="show the full trace of an error")
    parser.set_defaults(run=run_analyze, interrupted="interrupted; the report may be incomplete")


def run_export(args: argparse.Namespace) -> None:
    """Runs `avatar study export`."""
    from avatar.study.export import export_study, planned_design
    from avatar.study.simulate import power_words
    from avatar.study.spec import read_spec

    spec = read_spec(args.study)
    if args.power:
        print(power_words(planned_design(spec), len(spec.scales), spec.seed))
        return
    exported = export_study(spec, args.output, args.key, work=args.work, overwrite=args.overwrite, progress=_told)
    _say(power_words(exported.design, len(spec.scales), spec.seed))
    _say(
        f"{len(exported.study.slots)} assignments of about {exported.study.minutes} min; {exported.num_bytes / 1e6:.1f} MB"
    )
    print(exported.folder)
    print(exported.key)


def run_serve(args: argparse.Namespace) -> None:
    """Runs `avatar study serve`."""
    from avatar.study.results import write_sessions_csv
    from avatar.study.server import DEFAULT_PORT, collected_sessions, delete_rater, serve

    if args.delete is not None:
        delete_rater(args.results, args.delete)
        _say(f"all answers of {args.delete} are deleted")
        return
    if args.csv is not None:
        args.csv.write_text(write_sessions_csv(collected_sessions(args.results)), encoding="utf-8")
        print(args.csv)
        return
    serve(
        args.folder,
        args.results,
        key=args.key,
        host=args.host,
        port=DEFAULT_PORT if args.port is None else args.port,
        invites=args.invites,
        max_raters=args.max_raters,
        started=lambda address: print(address, flush=True),
    )


def run_analyze(args: argparse.Namespace) -> None:
    """Runs `avatar study analyze`."""
    from avatar.study.analysis.run import analyze_study

    analysis = analyze_study(args.results, args.key, args.output, metrics=args.metrics, seed=args.seed)
    for sentence in analysis.sentences:
        _say(sentence)
    print(args.output / "index.html")


def _told(what: str, done: int, total: int) -> None:
    """A line per quarter."""
    if total and done * 4 // total != (done - 1) * 4 // total:
        _say(f"{done} of {total} {what}")


def _say(words: str) -> None:
    print("\n".join(f"avatar: {line}" for line in words.splitlines()), file=sys.stderr)
