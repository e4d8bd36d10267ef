"""Writes the command line's help text into docs/cli.md, or with --check says whether the file is current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from avatar.cli import build_parser

DOCS = Path(__file__).resolve().parent.parent / "docs" / "cli.md"


def render_docs() -> str:
    """The whole of docs/cli.md."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parts = [
        "# The command line",
        "",
        "Generated from `avatar --help` by `make docs`; a test checks that it is current. Results go to stdout,",
        "progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage or an input that cannot be used,",
        "130 interrupted.",
        "",
        "## avatar",
        "```",
        parser.format_help().rstrip(),
        "```",
    ]
    for name, command in commands.choices.items():
        parts += ["", f"## avatar {name}", "```", command.format_help().rstrip(), "```"]
        for group in (a for a in command._actions if isinstance(a, argparse._SubParsersAction)):
            for step, sub in group.choices.items():
                parts += ["", f"### avatar {name} {step}", "```", sub.format_help().rstrip(), "```"]
    return "\n".join(parts) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if docs/cli.md is not current")
    args = parser.parse_args()
    text = render_docs()
    if args.check:
        current = DOCS.is_file() and DOCS.read_text(encoding="utf-8") == text
        print("docs/cli.md is current" if current else "docs/cli.md is not current: run make docs")
        return 0 if current else 1
    DOCS.write_text(text, encoding="utf-8")
    print(DOCS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
