"""A face that was tracked in a video, or motion that was generated, to the few curves that are measured."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial.transform import Rotation

from avatar import face_mesh
from avatar.codec.mesh.motion import MOTION_FPS, MeshMotion
from avatar.codec.mesh.rig_shapes_field import closed_vertices

CLOSED_BELOW = 0.02  # parts of the outer-eye distance, about 2 mm: trackers report up to 0.005 between lips that touch

_CENTRAL_LIP_PAIRS = ((82, 87), (13, 14), (312, 317))  # upper, lower
_LID_PAIRS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))  # upper, lower
_LID_CORNERS = ((33, 133), (362, 263))
_IRISES = (468, 473)


@dataclass(frozen=True)
class FaceTrack:
    """What is measured of a face over T frames, in the head's own axes, so that turning the head changes nothing.

    Attributes:
        opening: (T,) gap of the inner lips, parts of the outer-eye distance; NaN where no face was found.
        width: (T,) distance of the mouth corners, same unit.
        eyes: (T,) gap of the lids over the width of the eye, mean of both.
        head_deg: (T, 3) yaw, pitch, roll.
        gaze: (T, 2) where the irises stand between the eyes' corners, x right and y up, parts of the outer-eye distance.
        fps: frames per second.
    """

    opening: np.ndarray
    width: np.ndarray
    eyes: np.ndarray
    head_deg: np.ndarray
    gaze: np.ndarray
    fps: float

    @classmethod
    def from_landmarks(cls, landmarks: np.ndarray, found: np.ndarray, fps: float) -> FaceTrack:
        """Measures tracked landmarks.

        Args:
            landmarks: (T, 478, 3) px, as the tracker gives them.
            found: (T,) bool.
            fps: frames per second.
        """
        shapes = np.full(landmarks.shape, np.nan)
        head_deg = np.full((len(landmarks), 3), np.nan)
        for t in np.flatnonzero(found):
            fit = face_mesh.fit_head(landmarks[t])
            shapes[t] = fit.invert(face_mesh.to_canonical_axes(landmarks[t].astype(np.float64)))
            head_deg[t] = _angles_deg(fit.rotation)
        corners = np.mean([shapes[:, pair].mean(axis=1) for pair in _LID_CORNERS], axis=0)
        gaze = (shapes[:, _IRISES].mean(axis=1) - corners)[:, :2]
        return cls._of_shapes(shapes, head_deg, gaze, fps)

    @classmethod
    def from_motion(cls, motion: MeshMotion) -> FaceTrack:
        """Measures motion that was not drawn, as the mean face would show it."""
        head_deg = np.array([_angles_deg(turn) for turn in Rotation.from_rotvec(motion.rotation).as_matrix()])
        return cls._of_shapes(closed_vertices() + motion.expression, head_deg, motion.gaze, MOTION_FPS)

    @classmethod
    def _of_shapes(cls, shapes: np.ndarray, head_deg: np.ndarray, gaze: np.ndarray, fps: float) -> FaceTrack:
        """Measures (T, 478, 3) in canonical space; gaze in its units."""
        eye_distance = face_mesh.outer_eye_distance(shapes)
        eye_width = np.mean([_distance(shapes, a, b) for a, b in _LID_CORNERS], axis=0)
        return cls(
            opening=_mean_gap(shapes, _CENTRAL_LIP_PAIRS) / eye_distance,
            width=_distance(shapes, *face_mesh.MOUTH_CORNERS) / eye_distance,
            eyes=_mean_gap(shapes, _LID_PAIRS) / eye_width,
            head_deg=head_deg,
            gaze=gaze / eye_distance[:, None],
            fps=fps,
        )

    @property
    def num_frames(self) -> int:
        return len(self.opening)

    def __getitem__(self, frames: slice) -> FaceTrack:
        """The frames of a slice, as views."""
        return FaceTrack(**{name: curve[frames] for name, curve in self.curves().items()}, fps=self.fps)

    def curves(self) -> dict[str, np.ndarray]:
        """Everything but the rate, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "fps"}


def _mean_gap(shapes: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    upper, lower = (list(side) for side in zip(*pairs, strict=True))
    return (shapes[:, upper, 1] - shapes[:, lower, 1]).mean(axis=1)


def _distance(shapes: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(shapes[:, a] - shapes[:, b], axis=-1)


def _angles_deg(rotation: np.ndarray) -> tuple[float, float, float]:
    pose = face_mesh.head_pose(rotation)
    return pose.yaw_deg, pose.pitch_deg, pose.roll_deg
