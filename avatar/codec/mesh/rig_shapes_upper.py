"""Brow, lid, cheekbone and nose shapes of the rig, sculpted by hand as handle motions on the closed mean face.

Handles are given for the person's left side (x > 0) and mirrored; the rig splits each shape into sides afterwards.
"""

from __future__ import annotations

import numpy as np

from avatar.codec.mesh.rig_shapes_field import Handles, closed_vertices, mirror_index, smooth_field
from avatar.face_mesh import LEFT_EYE, NUM_SKIN_POINTS

_ZERO = (0.0, 0.0, 0.0)
# Lid columns from the outer to the inner corner, corners left out: lower and upper rim, then the rings above and below.
_LOWER_RIM = LEFT_EYE[1:8]
_UPPER_RIM = LEFT_EYE[:8:-1]
_LID_FOLD = (467, 260, 259, 257, 258, 286, 414)  # second ring: rides on the upper lid
_LID_HOLLOW = (342, 445, 444, 443, 442, 441, 413)  # third ring: between lid and brow
_BELOW_RIM = (339, 254, 253, 252, 256, 341, 463)
_BELOW_BAG = (448, 449, 450, 451, 452, 453, 464)
_FOLD_FOLLOWS, _HOLLOW_FOLLOWS = 0.88, 0.30  # of the lid's travel; less and the lashes smear (measured on portraits)
_LOWER_LID_SHARE = 0.12  # of the closing travel that the lower lid makes
_CORNEA_BULGE = 0.10


def _both_sides(handles: Handles) -> dict[int, tuple[float, float, float]]:
    mirror = mirror_index()
    both = dict(handles)
    for i, (x, y, z) in handles.items():
        if mirror[i] == i:
            both[i] = (0.0, y, z)
        else:
            both[int(mirror[i])] = (-x, y, z)
    return both


def _field(handles: Handles, pins: Handles) -> np.ndarray:
    return smooth_field({**pins, **_both_sides(handles)})


def _lower_face_pins(below_y: float) -> dict[int, tuple[float, float, float]]:
    vertices = closed_vertices()[:NUM_SKIN_POINTS]
    return dict.fromkeys([int(i) for i in np.flatnonzero(vertices[:, 1] < below_y)], _ZERO)


def _eye_pins() -> dict[int, tuple[float, float, float]]:
    return _both_sides(dict.fromkeys((*LEFT_EYE, *_LID_FOLD), _ZERO))


def eye_blink() -> np.ndarray:
    """The lids meet: the upper comes down along the eyeball, the lower rises an eighth of the way."""
    vertices = closed_vertices()
    handles: dict[int, tuple[float, float, float]] = dict.fromkeys((LEFT_EYE[0], LEFT_EYE[8]), _ZERO)
    columns = zip(_UPPER_RIM, _LOWER_RIM, _LID_FOLD, _LID_HOLLOW, _BELOW_RIM, strict=True)
    for upper, lower, fold, hollow, below in columns:
        gap = vertices[upper] - vertices[lower]
        meeting = vertices[lower] + _LOWER_LID_SHARE * gap
        meeting[2] = max(vertices[upper][2], vertices[lower][2]) + _CORNEA_BULGE * gap[1]
        travel, rise = meeting - vertices[upper], meeting - vertices[lower]
        handles[upper], handles[lower] = tuple(travel), tuple(rise)
        handles[fold] = tuple(_FOLD_FOLLOWS * travel)
        handles[hollow] = tuple(_HOLLOW_FOLLOWS * travel * np.array([1.0, 1.0, 0.5]))
        handles[below] = tuple(0.6 * rise)
    pins = _lower_face_pins(1.3)
    pins.update(_above(4.2))
    return _field(handles, pins)


def eye_wide() -> np.ndarray:
    """The upper lid lifted off the iris, the lower a little down."""
    handles: dict[int, tuple[float, float, float]] = dict.fromkeys((LEFT_EYE[0], LEFT_EYE[8]), _ZERO)
    for k, (upper, lower, fold) in enumerate(zip(_UPPER_RIM, _LOWER_RIM, _LID_FOLD, strict=True)):
        arch = float(np.sin(np.pi * (k + 1) / 8) ** 0.7)
        handles[upper] = (0.0, 0.27 * arch, -0.03 * arch)
        handles[fold] = (0.0, 0.20 * arch, -0.04 * arch)
        handles[lower] = (0.0, -0.07 * arch, 0.0)
    return _field(handles, {**_lower_face_pins(0.8), **_above(4.6)})


def eye_squint() -> np.ndarray:
    """The lids narrowed, the lower one most."""
    handles: dict[int, tuple[float, float, float]] = dict.fromkeys((LEFT_EYE[0], LEFT_EYE[8]), _ZERO)
    columns = zip(_UPPER_RIM, _LOWER_RIM, _LID_FOLD, _BELOW_RIM, _BELOW_BAG, strict=True)
    for k, (upper, lower, fold, below, bag) in enumerate(columns):
        arch = float(np.sin(np.pi * (k + 1) / 8) ** 0.7)
        handles[upper], handles[fold] = (0.0, -0.08 * arch, 0.0), (0.0, -0.07 * arch, 0.0)
        handles[lower], handles[below] = (0.0, 0.20 * arch, 0.03 * arch), (0.0, 0.20 * arch, 0.05 * arch)
        handles[bag] = (0.0, 0.15 * arch, 0.06 * arch)
    return _field(handles, {**_lower_face_pins(-0.6), **_above(4.2)})


def cheek_squint() -> np.ndarray:
    """The cheekbone pad lifted towards the eye, as in a felt smile."""
    handles: dict[int, tuple[float, float, float]] = dict.fromkeys((LEFT_EYE[0], LEFT_EYE[8]), _ZERO)
    columns = zip(_UPPER_RIM, _LOWER_RIM, _BELOW_RIM, _BELOW_BAG, strict=True)
    for k, (upper, lower, below, bag) in enumerate(columns):
        arch = float(np.sin(np.pi * (k + 1) / 8) ** 0.7)
        handles[upper] = _ZERO
        handles[lower], handles[below] = (0.0, 0.12 * arch, 0.02), (0.0, 0.18 * arch, 0.06)
        handles[bag] = (0.0, 0.26 * arch, 0.12)
    handles.update({347: (0.0, 0.38, 0.20), 330: (0.02, 0.42, 0.24), 280: (0.03, 0.42, 0.22), 346: (0.05, 0.32, 0.15),
                    348: (0.0, 0.28, 0.14), 329: (0.0, 0.28, 0.14), 266: (0.0, 0.30, 0.18)})  # fmt: skip
    return _field(handles, {**_lower_face_pins(-2.8), **_above(4.0), **_nose_pins()})


def nose_sneer() -> np.ndarray:
    """The wing of the nose and the lip beside it pulled up, the bridge wrinkled."""
    handles = {358: (0.10, 0.32, 0.05), 294: (0.06, 0.30, 0.05), 278: (0.06, 0.30, 0.03), 327: (0.04, 0.22, 0.0),
               279: (0.05, 0.30, 0.04), 360: (0.05, 0.28, 0.05), 423: (0.05, 0.34, 0.15), 391: (0.02, 0.30, 0.05),
               393: (0.0, 0.24, 0.03), 266: (0.0, 0.25, 0.15), 371: (0.0, 0.28, 0.12), 355: (0.0, 0.20, 0.08),
               437: (0.0, 0.14, 0.05), 285: (-0.08, -0.16, 0.04), 417: (-0.04, -0.08, 0.02), 267: (0.0, 0.20, 0.0),
               269: (0.0, 0.26, 0.0), 270: (0.0, 0.20, 0.0), 303: (0.0, 0.20, 0.0), 271: (0.0, 0.16, 0.0),
               311: (0.0, 0.14, 0.0), 310: (0.0, 0.10, 0.0), 312: (0.0, 0.10, 0.0), 291: _ZERO}  # fmt: skip
    still = dict.fromkeys((1, 4, 5, 19, 94, 2, 195, 197, 6, 168, 0, 13), _ZERO)
    return _field(handles, {**_lower_face_pins(-4.2), **_above(6.0), **still, **_eye_pins()})


def brow_down() -> np.ndarray:
    """The brow lowered and drawn together, most at its inner end."""
    handles = {285: (-0.24, -0.58, 0.06), 336: (-0.26, -0.55, 0.05), 295: (-0.12, -0.50, 0.05),
               296: (-0.14, -0.48, 0.03), 282: (-0.05, -0.36, 0.02), 334: (-0.05, -0.34, 0.0),
               283: (0.0, -0.20, 0.0), 293: (0.0, -0.18, 0.0),
               276: (0.0, -0.06, 0.0), 300: (0.0, -0.05, 0.0), 9: (0.0, -0.40, 0.05), 8: (0.0, -0.28, 0.05),
               417: (-0.08, -0.22, 0.02), 168: (0.0, -0.10, 0.02)}  # fmt: skip
    handles.update(_hollow_handles(-0.22, -0.10))
    return _field(handles, {**_lower_face_pins(1.5), **_above(7.3), **_eye_pins(), **_nose_pins()})


def brow_inner_up() -> np.ndarray:
    """The inner ends of the brows raised, as in worry."""
    handles = {285: (-0.05, 0.62, 0.03), 336: (-0.06, 0.66, 0.0), 295: (-0.02, 0.45, 0.0), 296: (-0.03, 0.46, -0.03),
               282: (0.0, 0.20, 0.0), 334: (0.0, 0.20, -0.02), 283: (0.0, 0.04, 0.0), 293: (0.0, 0.04, 0.0),
               276: _ZERO, 300: _ZERO, 9: (0.0, 0.55, 0.0), 8: (0.0, 0.30, 0.02), 337: (-0.02, 0.50, -0.05),
               151: (0.0, 0.42, -0.05), 417: (-0.02, 0.20, 0.0), 168: (0.0, 0.06, 0.0)}  # fmt: skip
    handles.update(_hollow_handles(0.22, 0.05))
    return _field(handles, {**_lower_face_pins(1.5), **_above(7.8), **_eye_pins(), **_nose_pins()})


def brow_outer_up() -> np.ndarray:
    """The arch and the outer end of the brow raised."""
    handles = {285: (0.0, 0.12, 0.0), 336: (0.0, 0.12, 0.0), 295: (0.0, 0.35, 0.0), 296: (0.0, 0.36, -0.03),
               282: (0.02, 0.58, -0.02), 334: (0.02, 0.62, -0.06), 283: (0.04, 0.56, -0.05), 293: (0.05, 0.60, -0.08),
               276: (0.05, 0.38, -0.05), 300: (0.06, 0.42, -0.08), 9: (0.0, 0.06, 0.0), 8: _ZERO,
               333: (0.02, 0.45, -0.10), 299: (0.0, 0.30, -0.05), 298: (0.03, 0.35, -0.10)}  # fmt: skip
    handles.update(_hollow_handles(0.10, 0.28))
    return _field(handles, {**_lower_face_pins(1.5), **_above(7.8), **_eye_pins(), **_nose_pins()})


def _hollow_handles(inner: float, outer: float) -> dict[int, tuple[float, float, float]]:
    """The hollow between lid and brow following the brow by `outer` at its outer end and `inner` at its inner end."""
    steps = np.linspace(outer, inner, len(_LID_HOLLOW))
    return {point: (0.0, float(y), 0.0) for point, y in zip(_LID_HOLLOW, steps, strict=True)}


def _above(y: float) -> dict[int, tuple[float, float, float]]:
    vertices = closed_vertices()[:NUM_SKIN_POINTS]
    return dict.fromkeys([int(i) for i in np.flatnonzero(vertices[:, 1] > y)], _ZERO)


def _nose_pins() -> dict[int, tuple[float, float, float]]:
    return dict.fromkeys((6, 197, 195, 5, 4, 1), _ZERO)
