"""Laws of MeshMotion."""

import numpy as np
import pytest

from avatar.codec.mesh.motion import MeshMotion


def _motion(num_frames: int, seed: int = 0) -> MeshMotion:
    rng = np.random.default_rng(seed)
    return MeshMotion(*(rng.normal(size=(num_frames, *tail)) for tail in ((478, 3), (3,), (3,), (2,))))


def test_slices_concatenate_to_the_whole() -> None:
    motion = _motion(7)
    joined = MeshMotion.concatenate([motion[:3], motion[3:4], motion[4:]])
    for name in ("expression", "rotation", "translation", "gaze"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(motion, name))


def test_zeros_is_neutral_to_addition() -> None:
    motion = _motion(3)
    total = motion + MeshMotion.zeros(3)
    np.testing.assert_array_equal(total.expression, motion.expression)
    assert len(total) == 3


def test_everything_is_float32() -> None:
    motion = _motion(2)
    assert {motion.expression.dtype, motion.rotation.dtype, motion.gaze.dtype} == {np.dtype(np.float32)}


def test_arrays_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rotation must be \(2, 3\)"):
        MeshMotion(np.zeros((2, 478, 3)), np.zeros((3, 3)), np.zeros((2, 3)), np.zeros((2, 2)))
