"""A stage on one row: its values, or the words of what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from avatar.data.engines.work import Piece, raise_if_nothing_can_be_written
from avatar.errors import words_of


def piece_of(output: str, measure: Callable[[], Mapping[str, Any]]) -> Piece:
    """Calls `measure`; whatever it raises becomes the piece's error.

    Raises:
        OutputError: the disk is full.
    """
    try:
        return Piece(output, dict(measure()))
    except Exception as err:  # one bad file never stops a run, whatever is bad about it
        raise_if_nothing_can_be_written(err)
        return Piece(output, {}, words_of(err))
