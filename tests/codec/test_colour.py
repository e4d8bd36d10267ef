"""Colours of long videos brought back to the portrait's."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.codec.colour import match_colours
from avatar.errors import OptionError

_RANDOM = np.random.default_rng(0)
PICTURE = np.clip(_RANDOM.normal((120, 100, 90), 30, (24, 24, 3)), 30, 220).astype(np.uint8)


def test_the_same_colours_stay() -> None:
    matched = match_colours(PICTURE[None], PICTURE)
    assert np.abs(matched.astype(int) - PICTURE).max() <= 1


def test_a_colour_cast_is_taken_off_and_strength_says_how_far() -> None:
    cast = np.clip(PICTURE.astype(float) * (1.1, 1.0, 0.85) + (5, 0, -5), 0, 255).astype(np.uint8)[None]
    gaps = [abs(match_colours(cast, PICTURE, s)[0].mean((0, 1)) - PICTURE.mean((0, 1))).max() for s in (0, 0.5, 1)]
    assert gaps[0] > 10 and gaps[0] > gaps[1] > gaps[2] and gaps[2] < 2


def test_one_flat_colour_is_no_division_by_nothing() -> None:
    flat = np.full((1, 4, 4, 3), 77, np.uint8)
    assert match_colours(flat, PICTURE).shape == flat.shape


def test_strength_is_checked() -> None:
    with pytest.raises(OptionError, match="from 0 to 1, not 2"):
        match_colours(PICTURE[None], PICTURE, 2)
