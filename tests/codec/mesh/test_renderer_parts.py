"""Laws of the renderer's parts, without a portrait."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.codec.mesh.eyes import settle_lids
from avatar.codec.mesh.fill import smooth_fill, textured_fill
from avatar.codec.mesh.mouth import part_lips
from avatar.codec.mesh.mouth_colours import MouthColours
from avatar.codec.mesh.pose import HEAD_PIVOT, HeadMover, between_planes, plane_affine, project, soft_limit
from avatar.codec.mesh.raster import composite, rasterise
from avatar.codec.mesh.rig import default_rig
from avatar.codec.mesh.shading import Shading
from avatar.codec.mesh.surface import Surface
from avatar.codec.mesh.teeth import make_teeth
from avatar.face_mesh import INNER_LIP_PAIRS, NUM_POINTS, Similarity, canonical_vertices

_SIDE = 240


def frontal_head() -> Similarity:
    return Similarity(8.0, np.eye(3), np.array([_SIDE / 2, -_SIDE / 2, 0.0]))


def turned_head(yaw_deg: float) -> Similarity:
    angle = np.radians(yaw_deg)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return frontal_head()._replace(rotation=rotation)


def grid_map(side: int) -> np.ndarray:
    return np.ascontiguousarray(np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1), np.float32)


def test_an_undeformed_mesh_maps_every_pixel_to_itself() -> None:
    shape, head = canonical_vertices().astype(float), frontal_head()
    surface = Surface(project(shape, head), shape, head, (_SIDE, _SIDE), (True,) * 4)
    target, depth = surface.move(np.zeros((NUM_POINTS, 3)), head)
    source_map = np.full((_SIDE, _SIDE, 2), np.nan, np.float32)
    gain = np.zeros((_SIDE, _SIDE), np.float32)
    ones = surface.spread_gain(np.ones(NUM_POINTS, np.float32))
    rasterise(target, surface.source, ones, surface.painting_order(depth), source_map, gain)
    assert np.abs(source_map - grid_map(_SIDE)).max() < 1e-3  # cv2.remap rounds to 1/32 px
    assert (gain == 1).all()


def test_triangles_painted_later_cover_earlier_ones() -> None:
    target = np.array([[0, 0], [30, 0], [0, 30]], np.float32)
    source = np.concatenate([target, target + 100]).astype(np.float32)
    both = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    maps = np.zeros((20, 20, 2), np.float32), np.zeros((20, 20), np.float32)
    rasterise(np.concatenate([target, target]), source, np.ones(6, np.float32), both, *maps)
    assert maps[0][5, 5].tolist() == [105, 105]


def test_pixels_far_from_the_person_are_not_touched() -> None:
    canvas = np.full((4, 4, 3), 7, np.uint8)
    warped, plate = np.full((4, 4, 4), 200, np.uint8), np.full((4, 4, 3), 90, np.uint8)
    warped[..., 3] = 0
    hole = np.zeros((4, 4), np.uint8)
    composite(canvas, warped, plate, hole, grid_map(4) + 50, np.ones((4, 4), np.float32), np.float32(1.5))
    assert (canvas == 7).all()


def test_where_nothing_moved_the_photo_wins_over_its_matte() -> None:
    canvas = np.zeros((4, 4, 3), np.uint8)
    warped, plate = np.full((4, 4, 4), 200, np.uint8), np.full((4, 4, 3), 90, np.uint8)
    warped[..., 3] = 30
    hole = np.full((4, 4), 255, np.uint8)
    composite(canvas, warped, plate, hole, grid_map(4), np.ones((4, 4), np.float32), np.float32(1.5))
    assert (canvas == 200).all()
    composite(canvas, warped, plate, hole, grid_map(4) + 5, np.ones((4, 4), np.float32), np.float32(1.5))
    assert (canvas < 110).all()


def test_soft_limit_passes_small_values_and_never_exceeds_the_limit() -> None:
    values = np.linspace(-3, 3, 201)
    limited = np.array([soft_limit(float(value), 1.0) for value in values])
    inside = np.abs(values) <= 0.75
    assert (limited[inside] == values[inside]).all()
    assert (np.diff(limited) >= 0).all()
    assert np.abs(limited).max() <= 1.0


@pytest.mark.parametrize("yaw_deg", [-25.0, 25.0])
def test_a_three_quarter_portrait_turns_back_only_a_little(yaw_deg: float) -> None:
    mover = HeadMover(turned_head(yaw_deg))
    for sign in (-1, 1):
        placed = mover.place(np.array([0, sign * 0.6, 0]), np.zeros(3))
        turn = np.degrees(np.arccos((np.trace(mover.rest.rotation.T @ placed.rotation) - 1) / 2))
        towards_camera = np.sign(yaw_deg) != sign
        assert turn <= (5.0 if towards_camera else 10.0)


def test_no_motion_leaves_the_head_exactly_where_it_is() -> None:
    mover = HeadMover(turned_head(10.0))
    assert mover.place(np.zeros(3), np.zeros(3)) is mover.rest


def test_the_head_turns_about_the_top_of_the_neck() -> None:
    mover = HeadMover(frontal_head())
    placed = mover.place(np.array([0.1, 0.1, 0.1]), np.zeros(3))
    assert np.allclose(placed.apply(HEAD_PIVOT), mover.rest.apply(HEAD_PIVOT))


def test_planes_are_carried_by_the_head() -> None:
    first, second = frontal_head(), turned_head(12.0)
    carry = between_planes(3.0, first, second)
    point = np.array([1.0, -2.0, 3.0])
    assert np.allclose(carry[:, :2] @ project(point, first) + carry[:, 2], project(point, second))
    affine = plane_affine(3.0, second)
    assert np.allclose(affine[:, :2] @ point[:2] + affine[:, 2], project(point, second))


def test_filling_keeps_what_is_known_and_invents_the_rest_from_it() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(60, 90, (40, 60, 3)).astype(np.uint8)
    gap = np.zeros((40, 60), bool)
    gap[10:30, 20:45] = True
    smooth = smooth_fill(image, (~gap).astype(np.float32))
    assert np.allclose(smooth[~gap], image[~gap])
    assert smooth[gap].min() > 60
    assert smooth[gap].max() < 90
    textured = textured_fill(image, gap, 8.0)
    assert (textured[~gap] == image[~gap]).all()
    assert textured[gap].std() > smooth[gap].std()  # it carries the texture on


@pytest.mark.parametrize("size", [0.6, 1.0, 1.6])
def test_a_blink_of_the_mean_face_closes_large_and_small_eyes(size: float) -> None:
    shape = canonical_vertices().astype(float)
    eyes = np.arange(NUM_POINTS)[(shape[:, 1] > 2.0) & (shape[:, 1] < 3.2)]
    shape[eyes, 1] = 2.6 + size * (shape[eyes, 1] - 2.6)
    rig = default_rig()
    blink = rig.displacement(rig.weights(1, eye_blink_l=1.0, eye_blink_r=1.0))[0].astype(float)
    displacement, closed = settle_lids(shape, blink)
    moved = shape + displacement
    assert closed == pytest.approx(1.0)
    assert abs(moved[159, 1] - moved[145, 1]) < 0.02
    assert abs(moved[386, 1] - moved[374, 1]) < 0.02


def test_lips_at_rest_are_left_as_they_are() -> None:
    shape = canonical_vertices().astype(float)
    displacement = np.zeros((NUM_POINTS, 3))
    part_lips(shape, shape, displacement)
    assert not displacement.any()


def test_crossed_lips_meet_half_way() -> None:
    shape = canonical_vertices().astype(float)
    for upper, lower in INNER_LIP_PAIRS:
        shape[lower] = shape[upper]
    displacement = np.zeros((NUM_POINTS, 3))
    displacement[14, 1] = 0.4
    gap = part_lips(shape, shape, displacement)
    assert gap == pytest.approx(0.0)
    assert displacement[13, 1] == pytest.approx(0.2)
    assert displacement[14, 1] == pytest.approx(0.2)


def test_light_is_unchanged_without_motion_and_bounded_with_it() -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(80, 200, (_SIDE, _SIDE, 3)).astype(np.uint8)
    shape, head = canonical_vertices().astype(float), frontal_head()
    shading = Shading(crop, project(shape, head), shape, head)
    assert (shading.gain(np.zeros((NUM_POINTS, 3)), head) == 1).all()
    gain = shading.gain(rng.normal(size=(NUM_POINTS, 3)), turned_head(15.0))
    assert gain.min() >= 0.8
    assert gain.max() <= 1.18


def test_every_person_has_their_own_teeth() -> None:
    enamel, gum = np.array([220.0, 210.0, 190.0]), np.array([150.0, 90.0, 90.0])
    rows = [make_teeth(enamel, gum, 1.0, 20.0, upper=True, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (rows[0].colour == rows[1].colour).all()
    assert np.abs(rows[0].colour - rows[2].colour).max() > 5
    assert rows[0].colour[..., :3].max() < 240


@pytest.mark.parametrize("skin", [(60, 40, 30), (225, 185, 165), (128, 128, 128)])
def test_mouth_colours_are_never_black_nor_white(skin: tuple[int, int, int]) -> None:
    crop = np.full((_SIDE, _SIDE, 3), skin, np.uint8)
    shape = canonical_vertices().astype(float)
    colours = MouthColours.of(crop, project(shape, frontal_head()), shape)
    for name in ("cavity", "tongue", "gum", "enamel"):
        colour = getattr(colours, name)
        assert colour.max() > 0.15 * max(skin)
        assert colour.max() < 240
    assert colours.enamel.mean() > colours.tongue.mean() > colours.cavity.mean()
