"""Turns a tracked face and its sound into figures: does the mouth follow the speech as the person's own mouth did?

The truth is the same person's real mouth for the same sound, tracked by the same tracker. The correlation of a plain
sound envelope with that truth is the figure to beat: it is what a loudness-driven puppet would reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from avatar import face_mesh
from avatar.errors import OptionError
from avatar.types import Waveform

MAX_LAG_FRAMES = 3  # 120 ms at 25 fps: about what viewers forgive (ITU-R BT.1359: -125 to +45 ms is detectable)
VOICE_BAND_HZ = (300.0, 1000.0)  # around the first formant, which follows the jaw more closely than loudness does
SILENCE_BELOW_DB = -35.0  # relative to the loud parts of the same clip
SILENCE_MARGIN_FRAMES = 3  # the mouth may close and open around a pause
MIN_SILENT_FRAMES = 10

_CENTRAL_LIP_PAIRS = ((82, 87), (13, 14), (312, 317))  # upper, lower
_LID_PAIRS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))  # upper, lower
_LID_CORNERS = ((33, 133), (362, 263))


@dataclass(frozen=True)
class FaceTrack:
    """What is measured of a face over T frames, in the head's own axes, so that turning the head changes nothing.

    Attributes:
        opening: (T,) gap of the inner lips, parts of the outer-eye distance; NaN where no face was found.
        width: (T,) distance of the mouth corners, same unit.
        eyes: (T,) gap of the lids over the width of the eye, mean of both.
        head_deg: (T, 3) yaw, pitch, roll.
        fps: frames per second.
    """

    opening: np.ndarray
    width: np.ndarray
    eyes: np.ndarray
    head_deg: np.ndarray
    fps: float

    @classmethod
    def from_landmarks(cls, landmarks: np.ndarray, found: np.ndarray, fps: float) -> FaceTrack:
        """Measures tracked landmarks.

        Args:
            landmarks: (T, 478, 3) px, as the tracker gives them.
            found: (T,) bool.
            fps: frames per second.
        """
        opening, width, eyes = (np.full(len(landmarks), np.nan) for _ in range(3))
        head_deg = np.full((len(landmarks), 3), np.nan)
        for t in np.flatnonzero(found):
            fit = face_mesh.fit_head(landmarks[t])
            points = fit.invert(face_mesh.to_canonical_axes(landmarks[t].astype(np.float64)))
            eye_distance = float(face_mesh.outer_eye_distance(points))
            opening[t] = np.mean([points[up, 1] - points[low, 1] for up, low in _CENTRAL_LIP_PAIRS]) / eye_distance
            width[t] = _distance(points, *face_mesh.MOUTH_CORNERS) / eye_distance
            lid_gap = np.mean([points[up, 1] - points[low, 1] for up, low in _LID_PAIRS])
            eyes[t] = lid_gap / np.mean([_distance(points, a, b) for a, b in _LID_CORNERS])
            pose = face_mesh.head_pose(fit.rotation)
            head_deg[t] = pose.yaw_deg, pose.pitch_deg, pose.roll_deg
        return cls(opening, width, eyes, head_deg, fps)

    @property
    def num_frames(self) -> int:
        return len(self.opening)

    def first(self, num_frames: int) -> FaceTrack:
        """The first frames only."""
        cut = slice(num_frames)
        return FaceTrack(self.opening[cut], self.width[cut], self.eyes[cut], self.head_deg[cut], self.fps)


@dataclass(frozen=True)
class LagCorrelation:
    """Pearson correlation of a signal with the truth.

    Attributes:
        at_zero: as they stand; NaN where either is constant.
        best: the highest within the allowed lags.
        lag_frames: the lag of `best`; positive: the signal comes after the truth.
    """

    at_zero: float
    best: float
    lag_frames: int


@dataclass(frozen=True)
class LipSyncScore:
    """One clip's figures; `truth_` is the same measure of the real clip. Spreads are standard deviations.

    Attributes:
        num_frames: frames compared.
        opening: generated against true lip opening.
        width: generated against true mouth width.
        sound_rms: the sound's RMS envelope against true lip opening, the figure to beat.
        sound_band: the envelope between 300 and 1000 Hz against true lip opening.
        range_ratio: generated over true range of the opening (5th to 95th percentile); 1 is right.
        silence_motion, truth_silence_motion: spread of the opening in pauses, parts of the outer-eye distance; NaN
            where the clip has no pause.
        jitter, truth_jitter: RMS second difference of the opening per frame², parts of the outer-eye distance.
        head_spread_deg, truth_head_spread_deg: yaw, pitch and roll together.
        blinks_per_min, truth_blinks_per_min: as named.
    """

    num_frames: int
    opening: LagCorrelation
    width: LagCorrelation
    sound_rms: LagCorrelation
    sound_band: LagCorrelation
    range_ratio: float
    silence_motion: float
    truth_silence_motion: float
    jitter: float
    truth_jitter: float
    head_spread_deg: float
    truth_head_spread_deg: float
    blinks_per_min: float
    truth_blinks_per_min: float


def score_lip_sync(generated: FaceTrack, truth: FaceTrack, speech: Waveform) -> LipSyncScore:
    """All figures of one clip.

    Args:
        generated: the face in the finished video.
        truth: the person's own face saying the same; both are cut to the shorter one.
        speech: the sound both belong to.

    Raises:
        OptionError: the two have different frame rates.
    """
    if generated.fps != truth.fps:
        raise OptionError(f"the tracks have {generated.fps} and {truth.fps} frames per second; resample one first")
    num_frames = min(generated.num_frames, truth.num_frames)
    generated, truth = generated.first(num_frames), truth.first(num_frames)
    rms = sound_envelope(speech, num_frames, truth.fps)
    band = sound_envelope(speech, num_frames, truth.fps, VOICE_BAND_HZ)
    silent = silent_frames(rms)
    return LipSyncScore(
        num_frames=num_frames,
        opening=lag_correlation(generated.opening, truth.opening),
        width=lag_correlation(generated.width, truth.width),
        sound_rms=lag_correlation(rms, truth.opening),
        sound_band=lag_correlation(band, truth.opening),
        range_ratio=signal_range(generated.opening) / signal_range(truth.opening),
        silence_motion=_spread_where(generated.opening, silent),
        truth_silence_motion=_spread_where(truth.opening, silent),
        jitter=jitter(generated.opening),
        truth_jitter=jitter(truth.opening),
        head_spread_deg=head_spread_deg(generated.head_deg),
        truth_head_spread_deg=head_spread_deg(truth.head_deg),
        blinks_per_min=blinks_per_minute(generated.eyes, generated.fps),
        truth_blinks_per_min=blinks_per_minute(truth.eyes, truth.fps),
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two signals (T,), over the frames where both are finite; NaN where one does not vary."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3:
        return math.nan
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 1e-12 else math.nan


def lag_correlation(signal: np.ndarray, truth: np.ndarray, max_lag_frames: int = MAX_LAG_FRAMES) -> LagCorrelation:
    """Correlation at no lag and at the best lag within ±max_lag_frames; both signals are (T,)."""
    length = len(truth)
    by_lag = {
        lag: correlation(signal[max(lag, 0) : length + min(lag, 0)], truth[max(-lag, 0) : length - max(lag, 0)])
        for lag in range(-max_lag_frames, max_lag_frames + 1)
    }
    finite = {lag: r for lag, r in by_lag.items() if not math.isnan(r)}
    if not finite:
        return LagCorrelation(math.nan, math.nan, 0)
    best = max(finite, key=lambda lag: (finite[lag], -abs(lag)))
    return LagCorrelation(by_lag[0], finite[best], best)


def sound_envelope(
    speech: Waveform, num_frames: int, fps: float, band_hz: tuple[float, float] | None = None
) -> np.ndarray:
    """RMS of the sound within each video frame, (T,), of the whole sound or of a band cut out sharply.

    Frame t covers [t, t + 1) / fps seconds; beyond the sound's end the envelope is zero.
    """
    samples = speech.samples.astype(np.float64)
    if band_hz is not None and len(samples):
        spectrum = np.fft.rfft(samples)
        frequency_hz = np.fft.rfftfreq(len(samples), 1 / speech.sample_rate_hz)
        spectrum[(frequency_hz < band_hz[0]) | (frequency_hz > band_hz[1])] = 0
        samples = np.fft.irfft(spectrum, len(samples))
    edges = np.round(np.arange(num_frames + 1) * speech.sample_rate_hz / fps).astype(int).clip(max=len(samples))
    energy = np.concatenate(([0.0], np.cumsum(samples**2)))
    counts = np.maximum(np.diff(edges), 1)
    return np.sqrt(np.maximum(np.diff(energy[edges]), 0.0) / counts)


def silent_frames(envelope: np.ndarray) -> np.ndarray:
    """Which frames (T,) lie inside a pause, three frames away from any sound.

    A frame is quiet if it is 35 dB below the clip's loud parts (the 95th percentile of the envelope).
    """
    loud = np.percentile(envelope, 95) if len(envelope) else 0.0
    quiet = envelope <= loud * 10 ** (SILENCE_BELOW_DB / 20)
    near_sound = np.convolve(~quiet, np.ones(2 * SILENCE_MARGIN_FRAMES + 1), mode="same") > 0.5
    return ~near_sound[: len(envelope)]


def signal_range(signal: np.ndarray) -> float:
    """From the 5th to the 95th percentile of the finite values; NaN if there are none."""
    finite = signal[np.isfinite(signal)]
    return float(np.percentile(finite, 95) - np.percentile(finite, 5)) if len(finite) else math.nan


def jitter(signal: np.ndarray) -> float:
    """Root mean square of the second difference of a signal (T,): zero for steady motion, large for trembling."""
    second = np.diff(signal, 2)
    second = second[np.isfinite(second)]
    return float(np.sqrt(np.mean(second**2))) if len(second) else math.nan


def head_spread_deg(head_deg: np.ndarray) -> float:
    """Standard deviation of yaw, pitch and roll (T, 3), together: the root of the summed variances."""
    finite = head_deg[np.isfinite(head_deg).all(axis=1)]
    return float(np.sqrt(finite.var(axis=0).sum())) if len(finite) else math.nan


def blinks_per_minute(eyes: np.ndarray, fps: float, close_below: float = 0.6, open_above: float = 0.75) -> float:
    """How often the lids (T,) fall below `close_below` of their usual gap and come back above `open_above`.

    The usual gap is the 75th percentile, so that a clip with many blinks is measured alike.
    """
    finite = eyes[np.isfinite(eyes)]
    if not len(finite):
        return math.nan
    share = finite / np.percentile(finite, 75)
    blinks, closed = 0, False
    for value in share:
        if not closed and value < close_below:
            closed = True
        elif closed and value > open_above:
            blinks, closed = blinks + 1, False
    return blinks / (len(finite) / fps) * 60


def _distance(points: np.ndarray, a: int, b: int) -> float:
    return float(np.linalg.norm(points[a] - points[b]))


def _spread_where(signal: np.ndarray, chosen: np.ndarray) -> float:
    values = signal[chosen & np.isfinite(signal)]
    return float(values.std()) if len(values) >= MIN_SILENT_FRAMES else math.nan
