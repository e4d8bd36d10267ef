"""A hand-built parametric face: expression weights to displacements of the mesh, and back.

Names follow ARKit's blend shapes in snake case. `_l` and `_r` are the person's own left and right. The rig is linear,
so it composes with every linear code of the geometry.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from avatar.codec.mesh.rig_shapes import SIGNED, all_shapes
from avatar.errors import OptionError
from avatar.face_mesh import LIPS, NUM_POINTS

_FIT_RIDGE = 0.02  # pull of every weight towards rest, so that similar shapes do not fight
_FIT_DETAIL_RIDGE = 0.04  # detail shapes only take what the named ones leave
_FIT_LIP_WEIGHT = 3.0
_FIT_ITERATIONS = 60


class Rig:
    """The shapes as one matrix.

    Attributes:
        names: P names, in fixed order: the named shapes, then `lip_detail_00` and so on.
        shapes: (P, 478, 3) float32, canonical units at weight 1; read-only.
        lower, upper: (P,) bounds of the weights: [0, 1], or [-1, 1] for signed shapes and details.
    """

    def __init__(self, shapes: Mapping[str, np.ndarray]) -> None:
        self.names: tuple[str, ...] = tuple(shapes)
        self.shapes = np.stack([np.asarray(field, np.float32) for field in shapes.values()])
        self.shapes.setflags(write=False)
        self._index = {name: i for i, name in enumerate(self.names)}
        signed = [name in SIGNED or name.startswith("lip_detail_") for name in self.names]
        self.lower = np.where(signed, -1.0, 0.0).astype(np.float32)
        self.upper = np.ones(len(self.names), np.float32)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_named(self) -> int:
        """How many shapes have a meaning of their own; the details follow them."""
        return sum(not name.startswith("lip_detail_") for name in self.names)

    def index(self, name: str) -> int:
        """The column of a shape.

        Raises:
            OptionError: there is no such shape.
        """
        if name not in self._index:
            raise OptionError(f"the rig has no shape {name!r}; it has {', '.join(self.names[: self.num_named])}")
        return self._index[name]

    def weights(self, num_frames: int = 1, **named: np.ndarray | float) -> np.ndarray:
        """Weights (T, P) float32 that are zero but for the named shapes.

        Args:
            num_frames: T.
            named: shape name to a number or (T,). A name whose `_l` and `_r` exist means both; where a
                side is named too, the two add up.

        Raises:
            OptionError: there is no such shape.
        """
        weights = np.zeros((num_frames, len(self)), np.float32)
        for name, value in named.items():
            columns = (f"{name}_l", f"{name}_r") if f"{name}_l" in self._index else (name,)
            for column in columns:
                weights[:, self.index(column)] += value
        return weights

    def displacement(self, weights: np.ndarray) -> np.ndarray:
        """Weights (T, P) to expression (T, 478, 3) float32, canonical units."""
        weights = np.asarray(weights, np.float32)
        return (weights @ self.shapes.reshape(len(self), -1)).reshape(*weights.shape[:-1], NUM_POINTS, 3)

    def fit(self, displacement: np.ndarray, depth_weight: float = 0.3) -> np.ndarray:
        """The weights within bounds that come closest to an expression, in ridge least squares.

        Args:
            displacement: (T, 478, 3), canonical units.
            depth_weight: importance of z beside x and y; trackers guess depth.

        Returns:
            (T, P) float32.
        """
        importance = np.ones((NUM_POINTS, 3))
        importance[list(LIPS)] = _FIT_LIP_WEIGHT
        importance[:, 2] *= depth_weight
        root = np.sqrt(importance / importance.sum()).ravel()
        basis = self.shapes.reshape(len(self), -1) * root
        named = np.arange(len(self)) < self.num_named
        gram = basis @ basis.T
        scale = float(np.trace(gram)) / len(self)
        gram[np.diag_indices(len(self))] += scale * np.where(named, _FIT_RIDGE, _FIT_DETAIL_RIDGE)
        target = (np.asarray(displacement, np.float64).reshape(len(displacement), -1) * root) @ basis.T
        return _bounded_least_squares(gram, target, self.lower, self.upper)


def _bounded_least_squares(gram: np.ndarray, target: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Rows w of min ½ w G w − t w within bounds, by cyclic coordinate descent over all rows at once, (T, P)."""
    weights = np.clip(np.linalg.solve(gram, target.T).T, lower, upper)
    gradient = weights @ gram - target
    for _ in range(_FIT_ITERATIONS):
        largest = 0.0
        for column in range(len(gram)):
            moved = np.clip(weights[:, column] - gradient[:, column] / gram[column, column],
                            lower[column], upper[column])  # fmt: skip
            step = moved - weights[:, column]
            gradient += step[:, None] * gram[column]
            weights[:, column] = moved
            largest = max(largest, float(np.abs(step).max(initial=0.0)))
        if largest < 1e-4:
            break
    return weights.astype(np.float32)


@cache
def default_rig() -> Rig:
    """The rig this package ships; sculpted on first use (a fraction of a second)."""
    return Rig(all_shapes())
