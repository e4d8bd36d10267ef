"""What a face does over time, free of whose face it is: expression, head pose and gaze per video frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from avatar.face_mesh import NUM_POINTS

MOTION_FPS = 25.0
SETTLE_FRAMES = 20  # over which a photo\'s own expression gives way to the motion\'s


@dataclass(frozen=True)
class MeshMotion:
    """T video frames of facial motion at 25 fps, in the canonical axes of `avatar.face_mesh`.

    Attributes:
        expression: (T, 478, 3) float32, canonical units, displacement from the person's neutral: lips just touching,
            eyes open, brows at rest.
        rotation: (T, 3) float32 rotation vector, radians, relative to the reference head orientation.
        translation: (T, 3) float32: x, y in canonical units and the natural logarithm of the scale, relative to the
            reference.
        gaze: (T, 2) float32 shift of the irises, canonical units, x to the picture's right, y up.
    """

    expression: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    gaze: np.ndarray

    def __post_init__(self) -> None:
        num_frames = len(self.expression)
        shapes = {"expression": (NUM_POINTS, 3), "rotation": (3,), "translation": (3,), "gaze": (2,)}
        for name, tail in shapes.items():
            array = np.asarray(getattr(self, name), np.float32)
            if array.shape != (num_frames, *tail):
                raise ValueError(f"{name} must be {(num_frames, *tail)}, not {array.shape}")
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.expression)

    def __getitem__(self, frames: slice) -> MeshMotion:
        """The frames of a slice, as views."""
        return MeshMotion(self.expression[frames], self.rotation[frames], self.translation[frames], self.gaze[frames])

    def __add__(self, other: MeshMotion) -> MeshMotion:
        """Frame by frame sum; rotation vectors add too, which is close for the small turns a portrait allows."""
        return MeshMotion(
            self.expression + other.expression,
            self.rotation + other.rotation,
            self.translation + other.translation,
            self.gaze + other.gaze,
        )

    @classmethod
    def zeros(cls, num_frames: int) -> MeshMotion:
        """The neutral face, held still."""
        zeros = np.zeros
        return cls(zeros((num_frames, NUM_POINTS, 3)), zeros((num_frames, 3)), zeros((num_frames, 3)),
                   zeros((num_frames, 2)))  # fmt: skip

    @classmethod
    def concatenate(cls, parts: Sequence[MeshMotion]) -> MeshMotion:
        """The parts one after another; at least one part."""
        return cls(
            np.concatenate([part.expression for part in parts]),
            np.concatenate([part.rotation for part in parts]),
            np.concatenate([part.translation for part in parts]),
            np.concatenate([part.gaze for part in parts]),
        )


def beginning_at(expression: np.ndarray, motions: Iterable[MeshMotion]) -> Iterator[MeshMotion]:
    """Blocks of motion whose first frame shows `expression` (478, 3); what it differs by fades over `SETTLE_FRAMES`."""
    missing: np.ndarray | None = None
    done = 0
    for motion in motions:
        if missing is None:
            missing = (expression - motion.expression[0]).astype(np.float32)
        left = np.clip(np.arange(done, done + len(motion)) / SETTLE_FRAMES, 0, 1)
        done += len(motion)
        share = (0.5 + 0.5 * np.cos(np.pi * left)).astype(np.float32)
        shown = motion.expression + share[:, None, None] * missing
        yield MeshMotion(shown, motion.rotation, motion.translation, motion.gaze)
