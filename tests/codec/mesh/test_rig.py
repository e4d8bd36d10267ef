"""Laws of the hand-built rig: symmetry, sealed lips, closed lids, and that weights are found again."""

import numpy as np
import pytest

from avatar.codec.mesh.rig import Rig, default_rig
from avatar.codec.mesh.rig_shapes_field import closed_vertices, mirror_field, smooth_field
from avatar.errors import OptionError
from avatar.face_mesh import (
    INNER_LIP_PAIRS,
    LEFT_EYE,
    LIPS,
    LIPS_INNER,
    LIPS_OUTER,
    RIGHT_EYE,
    canonical_vertices,
    skin_triangles,
)

UPPER = [upper for upper, _ in INNER_LIP_PAIRS]
LOWER = [lower for _, lower in INNER_LIP_PAIRS]
SEALING = (
    "jaw_left", "mouth_pucker", "mouth_smile", "mouth_frown", "mouth_dimple", "mouth_stretch", "mouth_left",
    "mouth_shrug_lower", "mouth_shrug_upper", "mouth_press", "cheek_puff", "cheek_squint", "brow_down", "eye_blink",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Rig:
    return default_rig()


def _gap(shape: np.ndarray) -> np.ndarray:
    return shape[..., UPPER, 1] - shape[..., LOWER, 1]


def test_names_are_the_published_ones_in_their_order(rig: Rig) -> None:
    assert rig.names[:7] == (
        "jaw_open", "jaw_left", "jaw_forward", "mouth_close", "mouth_funnel", "mouth_pucker", "mouth_left",
    )  # fmt: skip
    assert rig.num_named == 41
    assert rig.names[rig.num_named] == "lip_detail_00"
    assert len(rig) == 77
    assert len(set(rig.names)) == len(rig)


def test_the_closed_mean_face_has_touching_lips() -> None:
    np.testing.assert_allclose(_gap(closed_vertices()), 0.0, atol=1e-9)
    assert _gap(canonical_vertices()).min() > 0.1  # the official model's are parted


def test_the_rig_is_the_same_in_a_mirror(rig: Rig) -> None:
    for name in rig.names[: rig.num_named]:
        field = rig.shapes[rig.index(name)].astype(np.float64)
        if name in ("jaw_left", "mouth_left"):
            partner = -field
        elif name.endswith("_l"):
            partner = rig.shapes[rig.index(name[:-1] + "r")]
        elif name.endswith("_r"):
            partner = rig.shapes[rig.index(name[:-1] + "l")]
        else:
            partner = field
        np.testing.assert_allclose(mirror_field(field), partner, atol=1e-5, err_msg=name)


def test_left_is_the_persons_own_left(rig: Rig) -> None:
    smile = rig.displacement(rig.weights(mouth_smile_l=1.0))[0]
    assert np.linalg.norm(smile[291]) > 5 * np.linalg.norm(smile[61])  # 291 is at x > 0, the person's left
    assert rig.displacement(rig.weights(jaw_left=1.0))[0, 152, 0] > 0.5


def test_jaw_open_parts_the_lips_by_2_5_units(rig: Rig) -> None:
    gap = _gap(rig.displacement(rig.weights(jaw_open=1.0))[0])
    assert gap[4] == pytest.approx(2.5, abs=0.1)
    assert (np.diff(gap[:5]) > 0).all()  # an arch


def test_mouth_close_seals_every_jaw_opening_exactly(rig: Rig) -> None:
    opening = np.linspace(0, 1, 5, dtype=np.float32)
    face = rig.displacement(rig.weights(5, jaw_open=opening, mouth_close=opening))
    np.testing.assert_allclose(face[:, UPPER], face[:, LOWER], atol=1e-5)


@pytest.mark.parametrize("name", SEALING)
def test_shapes_that_do_not_part_the_lips_keep_them_sealed(rig: Rig, name: str) -> None:
    np.testing.assert_allclose(_gap(rig.displacement(rig.weights(**{name: 1.0}))[0]), 0.0, atol=0.02)


@pytest.mark.parametrize("name", ["jaw_open", "mouth_funnel", "mouth_lower_down", "mouth_upper_up"])
def test_shapes_that_part_the_lips_never_cross_them(rig: Rig, name: str) -> None:
    assert _gap(rig.displacement(rig.weights(**{name: 1.0}))[0]).min() > 0.0


def test_blink_makes_the_lids_meet(rig: Rig) -> None:
    face = closed_vertices() + rig.displacement(rig.weights(eye_blink=1.0))[0]
    for eye in (LEFT_EYE, RIGHT_EYE):
        np.testing.assert_allclose(face[list(eye[:8:-1])], face[list(eye[1:8])], atol=0.25)
        np.testing.assert_allclose(face[list(eye[:8:-1]), 1], face[list(eye[1:8]), 1], atol=1e-5)


def test_irises_do_not_ride_on_the_skin(rig: Rig) -> None:
    assert not rig.shapes[:, 468:].any()


def test_no_shape_tears_or_folds_the_skin(rig: Rig) -> None:
    """Triangles away from lids, lips and the creases beside them keep their orientation in the picture."""
    creased = {*LIPS, *LEFT_EYE, *RIGHT_EYE}
    faces = np.array([t for t in skin_triangles() if not creased & set(t.tolist())])
    rest = closed_vertices()

    def areas(shape: np.ndarray) -> np.ndarray:
        a, b, c = (shape[faces[:, k], :2] for k in range(3))
        u, v = b - a, c - a
        return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    facing = areas(rest) > 0.05
    for name, field in zip(rig.names[: rig.num_named], rig.shapes, strict=False):
        assert (areas(rest + field)[facing] > 0).all(), name


def test_fields_are_smooth_and_reach_their_handles() -> None:
    pins = {i: (0.0, 0.0, 0.0) for i in range(468) if closed_vertices()[i, 1] > 0 or abs(closed_vertices()[i, 0]) > 6}
    field = smooth_field({**pins, 17: (0.0, -1.0, 0.0)})
    assert field[17, 1] == pytest.approx(-1.0)
    assert field[14, 1] < -0.5  # the same lip follows
    assert abs(field[13, 1]) < 0.6 * abs(field[14, 1])  # the other lip, which it touches, far less
    assert field[:, 1].max() < 0.15


def test_fit_finds_the_weights_of_its_own_faces(rig: Rig) -> None:
    rng = np.random.default_rng(1)
    weights = np.zeros((20, len(rig)), np.float32)
    for name in ("jaw_open", "mouth_pucker", "mouth_smile_l", "mouth_smile_r", "eye_blink_l", "brow_inner_up"):
        weights[:, rig.index(name)] = rng.uniform(0, 0.8, 20)
    truth = rig.displacement(weights)
    found = rig.fit(truth)
    assert (found >= rig.lower - 1e-6).all()
    assert (found <= rig.upper + 1e-6).all()
    edges = list(LIPS_OUTER + LIPS_INNER)
    error = np.linalg.norm((rig.displacement(found) - truth)[:, edges, :2], axis=-1).mean()
    assert error < 0.05
    column = rig.index("jaw_open")
    assert np.corrcoef(found[:, column], weights[:, column])[0, 1] > 0.97


def test_an_unknown_shape_is_named_in_the_error(rig: Rig) -> None:
    with pytest.raises(OptionError, match="no shape 'jaw_opn'"):
        rig.index("jaw_opn")
