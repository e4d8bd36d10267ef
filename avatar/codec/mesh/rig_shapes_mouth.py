"""Jaw, lip and cheek shapes of the rig, sculpted by hand as handle motions on the closed mean face.

Amplitudes in canonical units (about 1 cm) are what an adult face does at full effort. Every shape that is not meant to
part the lips moves both inner lip edges alike, so closed lips stay sealed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avatar.codec.mesh.rig_shapes_field import (
    LOWER_LIP,
    UPPER_LIP,
    Handles,
    closed_vertices,
    lip_position,
    smooth_field,
)
from avatar.face_mesh import NUM_SKIN_POINTS

# (is upper lip, depth: 0 at the outer edge and 1 at the inner, position: -1 right corner to 1 left) -> displacement
LipMotion = Callable[[bool, float, float], tuple[float, float, float]]

_RING_DEPTH = (0.0, 0.35, 0.7, 1.0)
_JAW_ANGLE_RAD = 0.318
_JAW_HINGE_YZ = (-3.5, -2.5)  # below the condyle: the jaw slides forward as it turns, which lowers the true axis
_JAW_SLIDE = np.array([0.0, -0.10, 0.30])
_CHIN = (152, 148, 176, 149, 150, 136, 377, 400, 378, 379, 365, 175, 171, 396, 199, 208, 428, 200, 201, 421)
_JAW_EDGE = {172: 0.75, 397: 0.75, 58: 0.35, 288: 0.35, 132: 0.08, 361: 0.08, 138: 0.8, 367: 0.8, 135: 0.85, 364: 0.85,
             169: 0.9, 394: 0.9, 170: 0.95, 395: 0.95, 140: 1.0, 369: 1.0, 215: 0.35, 435: 0.35}  # fmt: skip


def _bump(u: float, centre: float, width: float) -> float:
    """A symmetric pair of smooth bumps at ±centre."""
    return float(np.exp(-(((abs(u) - centre) / width) ** 2)))


def _arch(u: float, power: float = 0.5) -> float:
    """1 in the middle of the lips, 0 at the corners."""
    return float(max(1.0 - u * u, 0.0) ** power)


def lips(motion: LipMotion) -> dict[int, tuple[float, float, float]]:
    """Handles for all 80 lip points from a motion over (lip, depth, position)."""
    handles: dict[int, tuple[float, float, float]] = {}
    for is_upper, rings in ((True, UPPER_LIP), (False, LOWER_LIP)):
        for depth, ring in zip(_RING_DEPTH, rings, strict=True):
            for point, u in zip(ring, lip_position(), strict=True):
                handles[point] = motion(is_upper, depth, float(u))
    return handles


def _pins(above_y: float = 0.0, beyond_x: float = 6.3, below_y: float = -99.0) -> Handles:
    """Points that stay: all above a height, beyond a distance to the side, or below a height."""
    vertices = closed_vertices()[:NUM_SKIN_POINTS]
    still = (vertices[:, 1] > above_y) | (np.abs(vertices[:, 0]) > beyond_x) | (vertices[:, 1] < below_y)
    nose = (1, 2, 4, 5, 19, 94, 98, 97, 326, 327, 195, 197)
    return dict.fromkeys([int(i) for i in np.flatnonzero(still)] + list(nose), (0.0, 0.0, 0.0))


def _field(*handles: Handles, pins: Handles | None = None) -> np.ndarray:
    merged = dict(_pins() if pins is None else pins)
    for group in handles:
        merged.update(group)
    return smooth_field(merged)


def jaw_motion() -> np.ndarray:
    """Where the mandible carries every point at full opening, were the point fixed to it, (478, 3)."""
    pivot = np.array([0.0, *_JAW_HINGE_YZ])
    cos, sin = np.cos(_JAW_ANGLE_RAD), np.sin(_JAW_ANGLE_RAD)
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    relative = closed_vertices() - pivot
    return relative @ rotation.T - relative + _JAW_SLIDE


def _jaw_handles(displacement: np.ndarray) -> dict[int, tuple[float, float, float]]:
    share = {**dict.fromkeys(_CHIN, 1.0), **_JAW_EDGE}
    return {i: tuple(weight * displacement[i]) for i, weight in share.items()}


def jaw_open() -> np.ndarray:
    """The jaw swings down by 18 degrees; 2.5 units between the inner lips in the middle."""
    carried = jaw_motion()
    drop, back = carried[14, 1], carried[14, 2]
    corner = np.array([0.14, 0.28 * drop, -0.30])  # corners move in, down and back

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        side = -np.sign(u) * corner[0] * abs(u) ** 1.5
        if upper:
            y = 0.02 + (corner[1] - 0.02) * abs(u) ** (3.4 - 0.6 * depth)
            return side, y, corner[2] * abs(u) ** 2 - 0.05 * depth
        arch = _arch(u, 0.55)
        y = corner[1] + (drop - corner[1]) * arch
        return side, y + 0.10 * (1 - depth) * arch, corner[2] + (back - corner[2] + 0.12 * depth) * arch

    pins = {i: d for i, d in _pins(above_y=-0.8, beyond_x=99.0).items() if i not in _JAW_EDGE}
    return _field(_jaw_handles(carried), lips(motion), pins=pins)


def jaw_left() -> np.ndarray:
    """The jaw slides to the person's left; the lower lip follows, the upper lip hardly."""
    slide = np.tile([0.9, 0.0, 0.0], (478, 1))

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        corner, middle = 0.40, 0.10 + 0.12 * depth if upper else 0.72
        return middle + (corner - middle) * u * u, -0.06 * u * abs(u), 0.0

    return _field(_jaw_handles(slide), lips(motion))


def jaw_forward() -> np.ndarray:
    """The jaw juts forward."""
    slide = np.tile([0.0, 0.05, 0.7], (478, 1))

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        return 0.0, 0.0, (0.10 if upper else 0.15 + 0.42 * _arch(u))

    return _field(_jaw_handles(slide), lips(motion))


def mouth_close(opened: np.ndarray) -> np.ndarray:
    """Seals the lips of an open jaw: added to `opened` in equal weight the inner lip edges meet exactly.

    Args:
        opened: (478, 3), the jaw_open field.
    """
    handles: dict[int, tuple[float, float, float]] = {}
    for column in range(11):
        inner_upper, inner_lower = UPPER_LIP[3][column], LOWER_LIP[3][column]
        meeting = 0.62 * opened[inner_upper] + 0.38 * opened[inner_lower]
        up, down = meeting - opened[inner_lower], meeting - opened[inner_upper]
        for depth, upper_ring, lower_ring in zip(_RING_DEPTH, UPPER_LIP, LOWER_LIP, strict=True):
            reach = 0.82 + 0.18 * depth
            handles[upper_ring[column]] = tuple(down * reach)
            handles[lower_ring[column]] = tuple(up * reach)
    chin = {i: (0.0, 0.0, 0.0) for i in (*_CHIN, *_JAW_EDGE) if i not in (200, 201, 421)}
    return _field(chin, handles)


def mouth_funnel() -> np.ndarray:
    """Lips thrust forward and parted in a ring, as for a wide "oh"."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.6)
        y = (0.30 - 0.05 * depth) * arch if upper else (-0.42 - 0.03 * depth) * arch
        return -0.75 * u * (0.75 + 0.25 * abs(u)), y, 0.35 + (0.55 + (0.0 if upper else 0.05)) * arch - 0.25 * depth

    return _field(lips(motion))


def mouth_pucker() -> np.ndarray:
    """Lips gathered and pushed forward, sealed, as for a kiss."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.6)
        swell = 0.06 * (1 - depth) * (1.0 if upper else -1.0)
        return -1.05 * u, 0.04 * arch + swell * arch, 0.25 + 0.80 * arch - 0.15 * depth

    return _field(lips(motion), {200: (0.0, 0.05, -0.05), 164: (0.0, -0.05, 0.25)})


def mouth_left() -> np.ndarray:
    """The whole mouth drawn to the person's left."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        return 0.95 - 0.10 * u * u, 0.04 * u, -0.10 * u

    return _field(lips(motion))


def mouth_smile() -> np.ndarray:
    """Corners out, up and back; cheeks lifted; lips stretched thin against the teeth, still sealed."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        reach = abs(u) ** 1.6
        thin = (1 - depth) * _arch(u, 0.5) * (-0.05 if upper else 0.10)
        return 0.80 * np.sign(u) * abs(u) ** 1.2, 0.72 * reach - 0.06 + thin, -0.18 - 0.42 * reach

    cheeks = {280: (0.12, 0.38, 0.28), 425: (0.30, 0.42, 0.22), 266: (0.15, 0.45, 0.25), 427: (0.50, 0.30, 0.15),
              423: (0.12, 0.28, 0.10), 391: (0.12, 0.18, -0.05), 411: (0.30, 0.35, 0.25)}  # fmt: skip
    return _field(lips(motion), cheeks, _mirrored(cheeks), pins=_pins(above_y=1.6, beyond_x=6.6))


def mouth_frown() -> np.ndarray:
    """Corners drawn down, chin pushed up a little."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        reach = abs(u) ** 2.2
        return 0.10 * u * abs(u), 0.05 - 0.75 * reach, -0.12 * reach

    chin = {199: (0.0, 0.08, 0.05), 200: (0.0, 0.10, 0.08)}
    return _field(lips(motion), chin)


def mouth_dimple() -> np.ndarray:
    """Corners pressed back and in against the teeth."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        reach = abs(u) ** 2.5
        thin = (1 - depth) * _arch(u) * (-0.04 if upper else 0.06)
        return 0.42 * np.sign(u) * abs(u) ** 1.5, 0.06 * reach + thin, -0.10 - 0.38 * reach

    return _field(lips(motion))


def mouth_stretch() -> np.ndarray:
    """Corners pulled straight out and slightly down, lips flat, as for a hard "ee"."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        reach = abs(u) ** 1.8
        thin = (1 - depth) * _arch(u, 0.5) * (-0.06 if upper else 0.08)
        return 0.78 * np.sign(u) * abs(u) ** 1.2, -0.20 * reach + thin, -0.15 - 0.30 * reach

    return _field(lips(motion))


def mouth_roll_lower() -> np.ndarray:
    """The lower lip rolled in over the teeth."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.4)
        return (0.0, 0.0, 0.0) if upper else (0.0, 0.42 * (1 - depth) * arch, (-0.28 - 0.12 * depth) * arch)

    return _field(lips(motion), {200: (0.0, 0.05, 0.05)})


def mouth_roll_upper() -> np.ndarray:
    """The upper lip rolled in over the teeth."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.4)
        return (0.0, -0.30 * (1 - depth) * arch, (-0.28 - 0.12 * depth) * arch) if upper else (0.0, 0.0, 0.0)

    return _field(lips(motion), {164: (0.0, -0.10, -0.02)})


def mouth_shrug_lower() -> np.ndarray:
    """The chin bunched up: the lower lip rises and juts, taking the upper lip along."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.7)
        if upper:
            return 0.0, (0.20 + 0.18 * depth) * arch - 0.12 * u * u, 0.12 * arch
        return 0.0, 0.38 * arch - 0.12 * u * u, (0.30 - 0.12 * depth) * arch

    chin = {152: (0.0, 0.10, 0.05), 175: (0.0, 0.30, 0.12), 199: (0.0, 0.42, 0.15), 200: (0.0, 0.42, 0.12)}
    return _field(lips(motion), chin)


def mouth_shrug_upper() -> np.ndarray:
    """The closed lips lifted towards the nose."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.7)
        return 0.0, (0.34 if upper else 0.34 * depth + 0.22 * (1 - depth)) * arch, (0.20 if upper else 0.08) * arch

    return _field(lips(motion), {164: (0.0, 0.18, 0.12)})


def mouth_press() -> np.ndarray:
    """Lips pressed together: both edges draw towards the seam."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        arch = _arch(u, 0.4)
        return 0.06 * u, (1 - depth) * arch * (-0.16 if upper else 0.24), -0.10 - 0.10 * depth * arch

    return _field(lips(motion), {200: (0.0, 0.08, 0.05)})


def mouth_lower_down() -> np.ndarray:
    """The lower lip drawn down, baring the lower teeth."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        if upper:
            return 0.0, 0.0, 0.0
        pull = 0.75 * (0.45 + 0.55 * _bump(u, 0.5, 0.35)) * _arch(u, 0.5)
        return 0.10 * u * _arch(u), -pull * (0.85 + 0.15 * depth), (-0.05 + 0.10 * depth) * _arch(u)

    return _field(lips(motion), {200: (0.0, -0.30, 0.0), 199: (0.0, -0.12, 0.0)})


def mouth_upper_up() -> np.ndarray:
    """The upper lip raised, baring the upper teeth; the fold beside the nose deepens."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        if not upper:
            return 0.0, 0.0, 0.0
        lift = 0.60 * (0.55 + 0.45 * _bump(u, 0.45, 0.35)) * _arch(u, 0.5)
        return 0.05 * u * _arch(u), lift * (0.85 + 0.15 * depth), (0.05 - 0.15 * depth) * _arch(u)

    fold = {423: (0.05, 0.32, 0.12), 391: (0.03, 0.35, 0.05), 327: (0.03, 0.10, 0.0), 358: (0.05, 0.12, 0.0),
            266: (0.03, 0.18, 0.10)}  # fmt: skip
    pins = {i: d for i, d in _pins(above_y=1.2).items() if i not in (98, 97, 326, 327)}
    return _field(lips(motion), fold, _mirrored(fold), {164: (0.0, 0.22, 0.02)}, pins=pins)


def cheek_puff() -> np.ndarray:
    """Both cheeks blown out behind sealed lips."""

    def motion(upper: bool, depth: float, u: float) -> tuple[float, float, float]:
        return -0.12 * u, 0.05 * (1 - depth) * (1.0 if upper else -1.0), 0.18 + 0.05 * _arch(u)

    cheeks = {432: (0.60, -0.05, 0.55), 427: (0.55, 0.05, 0.50), 434: (0.55, -0.10, 0.40), 425: (0.25, 0.08, 0.30),
              430: (0.45, -0.15, 0.45), 416: (0.60, 0.0, 0.35), 436: (0.45, 0.0, 0.60)}  # fmt: skip
    return _field(lips(motion), cheeks, _mirrored(cheeks), pins=_pins(beyond_x=7.0))


def _mirrored(handles: Handles) -> dict[int, tuple[float, float, float]]:
    from avatar.codec.mesh.rig_shapes_field import mirror_index

    mirror = mirror_index()
    return {int(mirror[i]): (-x, y, z) for i, (x, y, z) in handles.items()}
