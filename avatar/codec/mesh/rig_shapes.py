"""The rig's list of shapes: names in their fixed order, each with its displacement field."""

from __future__ import annotations

import numpy as np

from avatar.codec.mesh import rig_shapes_mouth as mouth
from avatar.codec.mesh import rig_shapes_upper as upper
from avatar.codec.mesh.rig_shapes_detail import lip_details
from avatar.codec.mesh.rig_shapes_field import mirror_field, split_sides, symmetrise

SIGNED = frozenset(("jaw_left", "mouth_left"))  # these run from -1 (person's right) to 1; details do too
_MOUTH_SEAM, _BROW_SEAM = 1.4, 1.0  # half width of the soft seam between left and right halves, canonical units


def named_shapes() -> dict[str, np.ndarray]:
    """The shapes that have a meaning, (478, 3) float64 each, in the rig's order; `_l` is the person's left."""
    opened = mouth.jaw_open()
    shapes = {
        "jaw_open": opened,
        "jaw_left": _antisymmetric(mouth.jaw_left()),
        "jaw_forward": mouth.jaw_forward(),
        "mouth_close": mouth.mouth_close(opened),
        "mouth_funnel": mouth.mouth_funnel(),
        "mouth_pucker": mouth.mouth_pucker(),
        "mouth_left": _antisymmetric(mouth.mouth_left()),
    }
    _add_sides(shapes, "mouth_smile", mouth.mouth_smile(), _MOUTH_SEAM)
    _add_sides(shapes, "mouth_frown", mouth.mouth_frown(), _MOUTH_SEAM)
    _add_sides(shapes, "mouth_dimple", mouth.mouth_dimple(), _MOUTH_SEAM)
    _add_sides(shapes, "mouth_stretch", mouth.mouth_stretch(), _MOUTH_SEAM)
    shapes["mouth_roll_lower"] = mouth.mouth_roll_lower()
    shapes["mouth_roll_upper"] = mouth.mouth_roll_upper()
    shapes["mouth_shrug_lower"] = mouth.mouth_shrug_lower()
    shapes["mouth_shrug_upper"] = mouth.mouth_shrug_upper()
    _add_sides(shapes, "mouth_press", mouth.mouth_press(), _MOUTH_SEAM)
    _add_sides(shapes, "mouth_lower_down", mouth.mouth_lower_down(), _MOUTH_SEAM)
    _add_sides(shapes, "mouth_upper_up", mouth.mouth_upper_up(), _MOUTH_SEAM)
    shapes["cheek_puff"] = mouth.cheek_puff()
    _add_sides(shapes, "cheek_squint", upper.cheek_squint(), _BROW_SEAM)
    _add_sides(shapes, "nose_sneer", upper.nose_sneer(), _BROW_SEAM)
    _add_sides(shapes, "brow_down", upper.brow_down(), _BROW_SEAM)
    shapes["brow_inner_up"] = upper.brow_inner_up()
    _add_sides(shapes, "brow_outer_up", upper.brow_outer_up(), _BROW_SEAM)
    _add_sides(shapes, "eye_blink", upper.eye_blink(), _BROW_SEAM)
    _add_sides(shapes, "eye_squint", upper.eye_squint(), _BROW_SEAM)
    _add_sides(shapes, "eye_wide", upper.eye_wide(), _BROW_SEAM)
    return shapes


def all_shapes() -> dict[str, np.ndarray]:
    """The named shapes followed by `lip_detail_00` and so on."""
    shapes = named_shapes()
    for number, field in enumerate(lip_details()):
        shapes[f"lip_detail_{number:02d}"] = field
    return shapes


def _add_sides(shapes: dict[str, np.ndarray], name: str, field: np.ndarray, seam: float) -> None:
    left, right = split_sides(symmetrise(field), seam)
    shapes[f"{name}_l"], shapes[f"{name}_r"] = left, right


def _antisymmetric(field: np.ndarray) -> np.ndarray:
    """The part of a field whose mirror image is its opposite, as a shape with a sign must be."""
    return (field - mirror_field(field)) / 2
