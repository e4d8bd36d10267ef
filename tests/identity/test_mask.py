from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avatar.errors import OptionError
from avatar.identity.mask import (
    drawn_masks,
    face_oval_mask,
    face_region_mask,
    face_region_masks,
    lips_mask,
    polygon_mask,
)
from avatar.media import write_picture
from avatar.types import BBox, Face, HeadPose

FaceMaker = Callable[..., Face]


def _boxed(left: float, top: float, right: float, bottom: float) -> Face:
    return Face(BBox(left, top, right, bottom), np.zeros((478, 3), np.float32), HeadPose(0, 0, 0))


def test_a_mask_is_the_covered_part_of_each_cell() -> None:
    mask = face_region_mask(_boxed(10, 0, 25, 10), (20, 40), (2, 4), expand=1.0)
    np.testing.assert_allclose(mask, [[0, 1, 0.5, 0], [0, 0, 0, 0]])
    assert mask.dtype == np.float32


@pytest.mark.parametrize("grid", [(4, 4), (9, 16), (30, 53), (1, 1)])
@pytest.mark.parametrize("expand", [1.0, 1.3])
def test_the_covered_area_does_not_depend_on_the_grid(grid: tuple[int, int], expand: float) -> None:
    mask = face_region_mask(_boxed(200, 100, 300, 250), (480, 850), grid, expand)
    area = mask.sum() * (480 / grid[0]) * (850 / grid[1])
    assert area == pytest.approx(100 * 150 * expand**2, rel=1e-4)


def test_a_box_outside_the_picture_is_cut_at_its_edge() -> None:
    assert face_region_mask(_boxed(-50, -50, 10, 10), (20, 20), (2, 2), 1.0).tolist() == [[1, 0], [0, 0]]


def test_the_masks_of_two_speakers_do_not_overlap() -> None:
    masks = face_region_masks([_boxed(0, 0, 60, 60), _boxed(40, 0, 100, 60)], (60, 100), (6, 10))
    assert masks.shape == (2, 6, 10)
    assert (masks.min(axis=0) == 0).all()
    assert masks[0, 3, 0] == masks[1, 3, 9] == 1


@pytest.mark.parametrize(("grid", "expand"), [((0, 4), 1.3), ((4, 4), 0.0)])
def test_an_impossible_mask_is_an_error(grid: tuple[int, int], expand: float) -> None:
    with pytest.raises(OptionError, match="positive expand"):
        face_region_mask(_boxed(0, 0, 1, 1), (10, 10), grid, expand)


def test_a_polygon_s_area_is_right_to_the_subpixel() -> None:
    square = np.array([[10.0, 10.0], [30.5, 10.0], [30.5, 25.25], [10.0, 25.25]])
    assert polygon_mask(square, (40, 40)).sum() == pytest.approx(20.5 * 15.25, rel=0.04)


def test_lips_lie_in_the_oval_and_the_oval_in_the_box(make_face: FaceMaker) -> None:
    face = make_face(100, 100, 60)
    oval, lips = face_oval_mask(face, (200, 200)), lips_mask(face, (200, 200), blur_px=0.5)
    assert (lips <= oval + 0.01).all()
    rows, columns = np.nonzero(oval > 0.5)
    assert (columns.min(), columns.max()) == pytest.approx((face.bbox.left, face.bbox.right), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((face.bbox.top, face.bbox.bottom), abs=2)


def _halves(height: int = 40, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    left = np.zeros((height, width), np.uint8)
    left[:, : width // 2] = 255
    return left, 255 - left


def test_drawn_masks_are_the_white_part_of_each_cell(tmp_path: Path) -> None:
    left, right = _halves()
    left[:, 30:40] = 0
    path = write_picture(tmp_path / "left.jpg", np.dstack([left] * 3))
    masks = drawn_masks([path, right], (40, 80), (2, 4))
    np.testing.assert_allclose(masks, [[[1, 0.5, 0, 0]] * 2, [[0, 0, 1, 1]] * 2], atol=1e-3)
    assert masks.dtype == np.float32


def test_drawn_masks_that_cannot_be_meant_are_refused() -> None:
    left, right = _halves()
    with pytest.raises(OptionError, match="mask 1 has 80x20 px and the portrait 80x40; a mask is as large as"):
        drawn_masks([left[:20]], (40, 80), (2, 4))
    with pytest.raises(OptionError, match="mask 2 is empty: paint white"):
        drawn_masks([left, np.zeros_like(left)], (40, 80), (2, 4))
    with pytest.raises(OptionError, match=r"mask 1 is smaller than half a token of the video.* \(9 px are"):
        drawn_masks([np.pad(np.full((3, 3), 255, np.uint8), ((0, 37), (0, 77)))], (40, 80), (2, 4))
    right[:, 30:] = 255
    with pytest.raises(OptionError, match="masks 1 and 2 overlap in 400 px"):
        drawn_masks([left, right], (40, 80), (2, 4))
    with pytest.raises(OptionError, match="mask 1 must be"):
        drawn_masks([left.astype(np.float32)], (40, 80), (2, 4))
