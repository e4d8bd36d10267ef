"""Whether a changed clip may still be trained on: the face is found where it was, moves as it did, and is the same person's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar.face_mesh import INNER_LIP_PAIRS
from avatar.types import Waveform

_UPPER, _LOWER = (list(side) for side in zip(*INNER_LIP_PAIRS, strict=True))
_EYE_CORNERS = (33, 263)


@dataclass(frozen=True)
class GuardLimits:
    """What a changed clip must keep.

    Attributes:
        found_share: of the frames with a face.
        landmark_error: mean distance of landmarks, parts of the distance between the outer eye corners.
        lip_r: correlation of the lips' opening with the original's.
        sync_offset_s: how far the opening may lie from its place in time.
    """

    found_share: float = 0.95
    landmark_error: float = 0.06
    lip_r: float = 0.85
    sync_offset_s: float = 0.06


@dataclass(frozen=True)
class GuardReport:
    """What was measured, and what speaks against the clip; empty where nothing does."""

    found_share: float
    landmark_error: float
    lip_r: float
    offset_s: float
    reasons: tuple[str, ...]

    @property
    def passes(self) -> bool:
        return not self.reasons


def check_changed(
    original: np.ndarray,
    changed: np.ndarray,
    found: np.ndarray,
    *,
    fps: float = 25.0,
    limits: GuardLimits | None = None,
    sync_offset_s: float | None = None,
) -> GuardReport:
    """Compares the tracked faces of a clip before and after.

    Args:
        original: (T, 478, 3) landmarks, px, brought to the changed clip's frames where it was stretched.
        changed: (T, 478, 3) landmarks of the changed clip, px of the same picture.
        found: (T,) whether there was a face in the changed clip.
        fps: frames per second.
        limits: None for the usual ones.
        sync_offset_s: of the changed clip by a sync scorer, where one was asked.

    Returns:
        Figures and reasons.
    """
    limits = limits or GuardLimits()
    share = float(found.mean())
    if not found.any():
        return GuardReport(share, float("inf"), 0.0, 0.0, ("no face",))
    eyes = np.linalg.norm(original[found, _EYE_CORNERS[0], :2] - original[found, _EYE_CORNERS[1], :2], axis=1)
    distance = np.linalg.norm(original[found, :, :2] - changed[found, :, :2], axis=2).mean(axis=1)
    error = float((distance / np.maximum(eyes, 1.0)).mean())
    before, after = (_opening(points[found]) for points in (original, changed))
    lag, r = _best_lag(before, after, round(0.4 * fps))
    offset = lag / fps if sync_offset_s is None else sync_offset_s
    still = before.std() < 0.004  # a mouth that hardly moves has no correlation
    reasons = [
        reason
        for reason, bad in (
            ("face lost", share < limits.found_share),
            ("face changed", error > limits.landmark_error),
            ("lips changed", not still and r < limits.lip_r),
            ("out of sync", not still and abs(offset) > limits.sync_offset_s),
        )
        if bad
    ]
    return GuardReport(share, error, r, offset, tuple(reasons))


def envelope_offset_s(opening: np.ndarray, speech: Waveform, fps: float = 25.0, reach_s: float = 0.4) -> float:
    """How much later the lips open than the sound swells, s: a check of stretched clips that needs no model."""
    hop = round(speech.sample_rate_hz / fps)
    count = min(len(opening), len(speech.samples) // hop)
    envelope = np.sqrt((speech.samples[: count * hop].reshape(count, hop) ** 2).mean(axis=1))
    return _best_lag(envelope, opening[:count], round(reach_s * fps))[0] / fps


def _opening(landmarks: np.ndarray) -> np.ndarray:
    """(T,) mean height between the lips, parts of the distance between the eye corners."""
    eyes = np.linalg.norm(landmarks[:, _EYE_CORNERS[0], :2] - landmarks[:, _EYE_CORNERS[1], :2], axis=1)
    gap = np.linalg.norm(landmarks[:, _UPPER, :2] - landmarks[:, _LOWER, :2], axis=2).mean(axis=1)
    return gap / np.maximum(eyes, 1.0)


def _best_lag(reference: np.ndarray, series: np.ndarray, reach: int) -> tuple[float, float]:
    """(lag, correlation) at which `series` follows `reference` best; the lag to a part of a frame, by a parabola."""
    lags = range(-reach, reach + 1)
    scores = np.array([_correlation(reference, series, lag) for lag in lags])
    best = int(scores.argmax())
    shift = 0.0
    if 0 < best < len(scores) - 1:
        left, top, right = scores[best - 1 : best + 2]
        bend = left - 2 * top + right
        shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return lags[best] + shift, float(scores[best])


def _correlation(reference: np.ndarray, series: np.ndarray, lag: int) -> float:
    a, b = (reference[: len(reference) - lag], series[lag:]) if lag >= 0 else (reference[-lag:], series[:lag])
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
