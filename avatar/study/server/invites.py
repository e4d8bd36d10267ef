"""Invitation codes: who may take part in a served study.

A file with a code a line, and after it how many raters it lets in (1 where nothing stands): a personal code, or one for a class.
Lines that begin with # are comments. A personal code also brings its rater back from another browser or device.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from avatar.errors import InputError, OptionError

Invites: TypeAlias = Mapping[str, int]  # raters let in, by code

SHORTEST, LONGEST = 6, 64
_SIGNS = "23456789abcdefghjkmnpqrstuvwxyz"  # none is mistaken for another
_CODE_LENGTH = 10  # 31^10: about 50 bits


def make_invites(num: int) -> list[str]:
    """New personal codes, which nobody guesses.

    Raises:
        OptionError: `num` is not positive.
    """
    if num < 1:
        raise OptionError(f"{num} invitation codes were asked for; ask for 1 or more")
    return ["".join(secrets.choice(_SIGNS) for _ in range(_CODE_LENGTH)) for _ in range(num)]


def read_invites(path: str | Path) -> dict[str, int]:
    """Reads a file of codes.

    Raises:
        InputError: it cannot be read, is empty, or a line is not a code.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as err:
        raise InputError(
            f"the invitation codes {path} cannot be read: {err}; give a text file with a code a line"
        ) from err
    invites: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        code, raters = _parse(line, f"{path}, line {number}")
        if code in invites:
            raise InputError(f"{path}, line {number}: the code {code!r} stands there twice")
        invites[code] = raters
    if not invites:
        raise InputError(f"{path} holds no invitation codes; write a code a line")
    return invites


def _parse(line: str, where: str) -> tuple[str, int]:
    code, *rest = line.replace(",", " ").split()
    if not SHORTEST <= len(code) <= LONGEST:
        raise InputError(f"{where}: the code {code!r} has {len(code)} signs; {SHORTEST} to {LONGEST} are accepted")
    if not rest:
        return code, 1
    if len(rest) > 1 or not rest[0].isdecimal() or int(rest[0]) < 1:
        raise InputError(f"{where}: {line.strip()!r} is not a code and a number of raters, as in: {code} 30")
    return code, int(rest[0])
