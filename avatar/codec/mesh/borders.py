"""Softens the small steps that generated latents leave between one group of frames and the next.

Every group of four frames is generated with its own coefficients, so the face can jump slightly from one group to the
next. As in a video decoder's deblocking filter, only a step that stands out from the motion around it and is too small
to be a real event is spread over the frames that follow. A lip closure or a blink is larger than the limit and passes
unchanged; motion that was encoded and not generated has no such steps and stays as it is. The filter looks only back,
so it delays nothing.

Source: the boundary-strength rule of List et al. 2003, "Adaptive deblocking filter", IEEE TCSVT 13(7).
"""

from __future__ import annotations

import numpy as np

_RAMP = np.array([0.60, 0.35, 0.15, 0.0])  # share of the step taken off each frame of the new group
_EXPRESSION_LIMIT = 0.25  # canonical units; a larger step is an event
_POSE_LIMIT = np.array([0.03, 0.03, 0.03, 0.25, 0.25, 0.015, 0.06, 0.06])  # rad, units, log scale, units
_ACTIVITY_FACTOR = 1.0  # a step must exceed this many times the bending inside the groups


class BorderSmoother:
    """Carries the last frames from one block to the next, so that cutting into blocks changes nothing."""

    def __init__(self) -> None:
        self._expression_tail: np.ndarray | None = None
        self._pose_tail: np.ndarray | None = None

    def __call__(self, expression: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Groups of expression (f, 4, 478, 3) and pose (f, 4, 8), each smoothed against the group before it."""
        smoothed = _smooth(expression, self._expression_tail, np.array(_EXPRESSION_LIMIT))
        smoothed_pose = _smooth(pose[..., None], self._pose_tail, _POSE_LIMIT[:, None])[..., 0]
        self._expression_tail, self._pose_tail = expression[-1:], pose[-1:, :, :, None]
        return smoothed, smoothed_pose


def _smooth(groups: np.ndarray, tail: np.ndarray | None, limit: np.ndarray) -> np.ndarray:
    """Takes the stray part of each step off the new group, (f, 4, N, D); a step is measured over D."""
    before = groups[:-1] if tail is None else np.concatenate([tail, groups[:-1]])
    after = groups[len(groups) - len(before) :]
    if len(before) == 0:
        return groups
    slope_before, slope_after = before[:, 3] - before[:, 2], after[:, 1] - after[:, 0]
    step = after[:, 0] - before[:, 3] - 0.5 * (slope_before + slope_after)
    size = np.linalg.norm(step, axis=-1, keepdims=True)
    bending = np.concatenate([np.diff(before, n=2, axis=1), np.diff(after, n=2, axis=1)], axis=1)
    activity = np.linalg.norm(bending, axis=-1, keepdims=True).mean(axis=1)
    stands_out = np.clip(1.0 - (_ACTIVITY_FACTOR * activity / np.maximum(size, 1e-9)) ** 2, 0.0, 1.0)
    is_small = np.clip(1.0 - (size / limit) ** 2, 0.0, 1.0) ** 2
    correction = step * stands_out * is_small
    smoothed = groups.copy()
    smoothed[len(groups) - len(before) :] -= _RAMP.astype(groups.dtype)[None, :, None, None] * correction[:, None]
    return smoothed
