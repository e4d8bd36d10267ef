"""Whether a changed clip may still be trained on: the face is found where it was, moves as it did, and is the same person's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar.data.sync.lag_curve import SyncResult
from avatar.face_mesh import INNER_LIP_PAIRS
from avatar.types import Waveform

_UPPER, _LOWER = (list(side) for side in zip(*INNER_LIP_PAIRS, strict=True))
_EYE_CORNERS = (33, 263)
MIN_COMPARED_FRAMES = 12


@dataclass(frozen=True)
class GuardLimits:
    """What a changed clip must keep.

    Attributes:
        found_share: of the frames with a face.
        landmark_error: mean distance of landmarks, parts of the distance between the outer eye corners.
        lip_r: correlation of the lips' opening with the original's.
        offset_s: how far the opening may lie from its place in time.
        sync_frames: by how much the sync scorer's offset may change.
        sync_share: of the sync scorer's confidence.
        sync_conf: of an original, below which its sync says nothing, and nothing is asked of the changed clip.
    """

    found_share: float = 0.95
    landmark_error: float = 0.06
    lip_r: float = 0.85
    offset_s: float = 0.06
    sync_frames: float = 1.5
    sync_share: float = 0.5
    sync_conf: float = 0.14


@dataclass(frozen=True)
class GuardReport:
    """What was measured, and what speaks against the clip; empty where nothing does. `sync` is of the clip before and after."""

    found_share: float
    landmark_error: float
    lip_r: float
    offset_s: float
    reasons: tuple[str, ...]
    sync: tuple[SyncResult | None, SyncResult | None] = (None, None)

    @property
    def passes(self) -> bool:
        return not self.reasons


def check_changed(
    original: np.ndarray,
    changed: np.ndarray,
    found: np.ndarray,
    *,
    known: np.ndarray | None = None,
    fps: float = 25.0,
    limits: GuardLimits | None = None,
    sync: tuple[SyncResult | None, SyncResult | None] = (None, None),
    stretch: float = 1.0,
) -> GuardReport:
    """Compares a clip before and after: the tracked faces, and what the sync scorer says of lips and sound.

    Args:
        original: (T, 478, 3) landmarks, px, brought to the changed clip's frames where it was stretched.
        changed: (T, 478, 3) landmarks of the changed clip, px of the same picture.
        found: (T,) whether there was a face in the changed clip.
        known: (T,) whether there was one in the original; None for throughout. Only these frames are compared.
        fps: frames per second.
        limits: None for the usual ones.
        sync: the sync scorer's judgement of the original and of the changed clip, each with its own sound.
        stretch: of the length; an original's offset grows with it.

    Returns:
        Figures and reasons.
    """
    limits = limits or GuardLimits()
    known = np.ones(len(found), bool) if known is None else known
    share, both = float(found[known].mean()) if known.any() else 0.0, found & known
    if both.sum() < MIN_COMPARED_FRAMES:
        return GuardReport(share, float("inf"), 0.0, 0.0, ("no face",), sync)
    original, changed = original[both], changed[both]
    eyes = np.linalg.norm(original[:, _EYE_CORNERS[0], :2] - original[:, _EYE_CORNERS[1], :2], axis=1)
    distance = np.linalg.norm(original[:, :, :2] - changed[:, :, :2], axis=2).mean(axis=1)
    error = float((distance / np.maximum(eyes, 1.0)).mean())
    before, after = (_opening(points) for points in (original, changed))
    lag, r = _best_lag(before, after, round(0.4 * fps))
    offset = lag / fps
    still = before.std() < 0.004  # a mouth that hardly moves has no correlation
    reasons = [
        reason
        for reason, bad in (
            ("face lost", share < limits.found_share),
            ("face changed", error > limits.landmark_error),
            ("lips changed", not still and r < limits.lip_r),
            ("lips early or late", not still and abs(offset) > limits.offset_s),
            ("out of sync", _sync_lost(sync, stretch, limits)),
        )
        if bad
    ]
    return GuardReport(share, error, r, offset, tuple(reasons), sync)


def _sync_lost(sync: tuple[SyncResult | None, SyncResult | None], stretch: float, limits: GuardLimits) -> bool:
    before, after = sync
    if before is None or before.confidence < limits.sync_conf:
        return False
    if after is None or after.confidence < limits.sync_share * before.confidence:
        return True
    return abs(after.offset_frames - stretch * before.offset_frames) > limits.sync_frames


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
