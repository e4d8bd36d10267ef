"""Laws of the geometry latent: round trips, cut invariance, exact pose, and what the shipped bases must do."""

import numpy as np
import pytest
import torch

from avatar.codec.mesh.bases import fit_bases, random_speech, region_points
from avatar.codec.mesh.borders import BorderSmoother
from avatar.codec.mesh.latent import REGION_CELLS, GeometryLatent, load_bases
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.errors import OptionError
from avatar.face_mesh import INNER_LIP_PAIRS, LIPS_INNER, LIPS_OUTER

EDGES = list(LIPS_OUTER + LIPS_INNER)
IOD = 8.9


@pytest.fixture(scope="module")
def latent() -> GeometryLatent:
    return GeometryLatent()


def _weights(num_frames: int, seed: int = 7) -> np.ndarray:
    return random_speech(default_rig(), num_frames, np.random.default_rng(seed))


def _motion(num_frames: int, seed: int = 7) -> MeshMotion:
    rng = np.random.default_rng(seed)
    course = np.cumsum(rng.normal(size=(num_frames, 8)), axis=0) * 0.01
    return MeshMotion(default_rig().displacement(_weights(num_frames, seed)), course[:, :3], course[:, 3:6],
                      course[:, 6:])  # fmt: skip


@pytest.mark.parametrize(("num_frames", "num_latents"), [(1, 1), (2, 2), (5, 2), (6, 3), (41, 11)])
def test_a_latent_frame_covers_four_frames_and_the_first_one(
    latent: GeometryLatent, num_frames: int, num_latents: int
) -> None:
    latents = latent.encode(_motion(num_frames))
    assert latents.shape == (16, num_latents, 4, 4)
    assert latents.dtype == torch.float32
    assert len(latent.decode(latents)) == 1 + 4 * (num_latents - 1)


def test_rig_speech_comes_back_within_a_third_of_a_percent(latent: GeometryLatent) -> None:
    motion = _motion(201)
    decoded = latent.decode(latent.encode(motion))
    error = np.linalg.norm((decoded.expression - motion.expression)[:, EDGES, :2], axis=-1).mean()
    assert error / IOD < 0.003


def test_pose_and_gaze_are_exact_but_for_the_border_filter(latent: GeometryLatent) -> None:
    motion = _motion(41)
    exact = GeometryLatent(smooth_borders=False)
    decoded = exact.decode(exact.encode(motion))
    for name in ("rotation", "translation", "gaze"):
        np.testing.assert_allclose(getattr(decoded, name), getattr(motion, name), atol=1e-5)


def test_cutting_into_blocks_does_not_change_the_motion(latent: GeometryLatent) -> None:
    latents = torch.randn(16, 9, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
    whole = latent.decode(latents)
    for cuts in ((1, 8), (3, 3, 3), (1,) * 9, (0, 4, 5)):
        pieces = MeshMotion.concatenate(list(latent.decode_blocks(latents.split(cuts, dim=1))))
        for name in ("expression", "rotation", "translation", "gaze"):
            np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), atol=1e-5)


def test_every_block_is_given_out_at_once(latent: GeometryLatent) -> None:
    stream = latent.decode_blocks(torch.zeros(16, 3, 4, 4).split(1, dim=1))
    assert [len(next(stream)) for _ in range(3)] == [1, 4, 4]


def test_zero_motion_is_the_zero_latent(latent: GeometryLatent) -> None:
    assert not latent.encode(MeshMotion.zeros(5)).any()
    assert not latent.decode(torch.zeros(16, 3, 4, 4)).expression.any()


def test_the_code_is_linear(latent: GeometryLatent) -> None:
    one, two = _motion(9, seed=1), _motion(9, seed=2)
    torch.testing.assert_close(latent.encode(one + two), latent.encode(one) + latent.encode(two), atol=1e-4, rtol=1e-4)


def test_rig_weights_go_to_the_same_latents_without_a_mesh(latent: GeometryLatent) -> None:
    motion, rig = _motion(22), default_rig()
    direct = latent.encode_rig(_weights(22), motion.rotation, motion.translation, motion.gaze, latent.rig_matrix(rig))
    torch.testing.assert_close(direct, latent.encode(motion), atol=1e-4, rtol=1e-4)


def test_each_region_lives_in_its_own_cells(latent: GeometryLatent) -> None:
    rig = default_rig()
    for shape, region in (("mouth_pucker", "mouth"), ("brow_inner_up", "brow"), ("eye_blink_l", "eyes")):
        motion = MeshMotion.zeros(5) + MeshMotion(
            np.repeat(rig.displacement(rig.weights(**{shape: 1.0})), 5, axis=0), *(np.zeros((5, k)) for k in (3, 3, 2))
        )
        energy = latent.encode(motion).square().sum(dim=(0, 1))
        share = sum(energy[cell] for cell in REGION_CELLS[region]) / energy.sum()
        assert share > 0.6, shape
        assert energy[1, 0] == energy[1, 1] == 0  # pose


def test_the_regions_share_out_all_points_and_the_cells_all_numbers() -> None:
    points = np.concatenate(list(region_points().values()))
    assert sorted(points.tolist()) == list(range(478))
    cells = [cell for cells in REGION_CELLS.values() for cell in cells]
    assert sorted(cells) == [(row, column) for row in range(4) for column in range(4)]


def test_latents_of_rig_speech_have_about_unit_spread(latent: GeometryLatent) -> None:
    zeros = np.zeros((2001, 3))
    latents = latent.encode_rig(_weights(2001), zeros, zeros, zeros[:, :2], latent.rig_matrix(default_rig()))
    first_mouth_cell = latents[:, 1:, 2, 2].std(dim=1)
    assert 0.5 < float(first_mouth_cell.mean()) < 1.5
    assert float(latents.std()) < 1.5
    assert float(latents.abs().max()) < 30


def test_the_shipped_bases_are_what_the_rig_gives() -> None:
    """A change of the rig's shapes needs `scripts/fit_geometry_bases.py` to be run again."""
    for name, made in fit_bases(default_rig()).items():
        shipped = load_bases()[name]
        np.testing.assert_array_equal(made.points, shipped.points)
        np.testing.assert_allclose(made.scale, shipped.scale, rtol=1e-3)
        np.testing.assert_allclose(np.abs(made.modes[:8]), np.abs(shipped.modes[:8]), atol=1e-3)


def test_an_empty_motion_is_refused(latent: GeometryLatent) -> None:
    with pytest.raises(OptionError, match="no frames"):
        latent.encode(MeshMotion.zeros(0))


def _step(height: float) -> np.ndarray:
    """Two groups at rest with a step of the lower lip between them, (2, 4, 478, 3)."""
    groups = np.zeros((2, 4, 478, 3), np.float32)
    groups[1, :, 14, 1] = height
    return groups


def test_a_small_step_between_groups_is_spread_out() -> None:
    smoothed, _ = BorderSmoother()(_step(0.08), np.zeros((2, 4, 8), np.float32))
    course = smoothed.reshape(-1, 478, 3)[:, 14, 1]
    assert np.abs(np.diff(course)).max() < 0.6 * 0.08
    assert course[-1] == pytest.approx(0.08)


def test_a_lip_closure_at_a_border_is_not_blunted() -> None:
    groups = np.zeros((3, 4, 478, 3), np.float32)
    for _, lower in INNER_LIP_PAIRS:
        groups[:, :, lower, 1] = -0.8
        groups[1, 0, lower, 1] = 0.0  # sealed for one frame, the first of a group
    smoothed, _ = BorderSmoother()(groups, np.zeros((3, 4, 8), np.float32))
    np.testing.assert_allclose(smoothed[1, 0], groups[1, 0], atol=0.01)
    np.testing.assert_allclose(smoothed, groups, atol=0.05)


def test_a_steady_movement_passes_unchanged() -> None:
    groups = np.zeros((4, 4, 478, 3), np.float32)
    groups[..., 14, 1] = -0.1 * np.arange(16).reshape(4, 4)
    smoothed, _ = BorderSmoother()(groups, np.zeros((4, 4, 8), np.float32))
    np.testing.assert_allclose(smoothed, groups, atol=1e-4)
