from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avatar.identity.crop import SquareCrop
from avatar.types import Face

FaceMaker = Callable[..., Face]


@pytest.mark.parametrize("crop", [SquareCrop(50, 60, 40), SquareCrop(50.3, 60.7, 33, 0.6), SquareCrop(10, 5, 90, -2.0),
                                  SquareCrop(50.3, 60.7, 33, 0.6, mirrored=True)])  # fmt: skip
def test_points_come_back_to_where_the_pixels_came_from(crop: SquareCrop) -> None:
    places = np.array([[50.0, 60.0], [41.5, 66.0], [20.0, 10.0]])
    inside = places @ crop.matrix(100)[:, :2].T + crop.matrix(100)[:, 2]
    back = crop.to_picture(np.column_stack([inside / 100, np.zeros(3)]))
    np.testing.assert_allclose(back[:, :2], places, atol=1e-4)


@pytest.mark.parametrize("side", [24, 60, 200, 700])
def test_a_cut_shows_the_centre_in_its_middle_at_any_reduction(side: float) -> None:
    picture = np.zeros((800, 900, 3), np.uint8)
    ys, xs = np.mgrid[:800, :900]
    picture[(xs - 400) ** 2 + (ys - 300) ** 2 < (side / 10) ** 2] = 255
    cut = SquareCrop(400.5, 300.5, side, 0.4).cut(picture, 64).astype(float)[..., 0]
    y, x = (np.average(grid, weights=cut) + 0.5 for grid in np.mgrid[:64, :64])
    assert (x, y) == pytest.approx((32, 32), abs=0.5)


def test_a_cut_outside_the_picture_is_black() -> None:
    picture = np.full((50, 50, 3), 255, np.uint8)
    assert SquareCrop(-500, -500, 40).cut(picture, 16).max() == 0
    assert SquareCrop(-5000, -5000, 400).cut(picture, 16).max() == 0


def test_a_turned_face_is_cut_upright(make_face: FaceMaker) -> None:
    face = make_face(300, 300, roll=70)
    crop = SquareCrop.around_landmarks(face.landmarks)
    assert np.degrees(crop.angle_rad) == pytest.approx(70, abs=0.5)
    level = face.landmarks[[33, 263], :2] @ crop.matrix(100)[:, :2].T + crop.matrix(100)[:, 2]
    assert level[0, 1] == pytest.approx(level[1, 1], abs=0.1)
    assert level[0, 0] < level[1, 0]


def test_a_mirrored_cut_is_the_cut_with_left_and_right_exchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    picture = np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1)
    cut, mirrored = (SquareCrop(240, 180, 150, 0.3, mirrored=m).cut(picture, 64).astype(int) for m in (False, True))
    assert np.abs(mirrored - cut[:, ::-1]).mean() < 0.5  # the warp rounds to 1/32 px
