"""Turns a tracked face and its sound into figures: does the mouth follow the speech as the person's own mouth did?

The truth is the same person's real mouth for the same sound, tracked by the same tracker. The correlation of a plain
sound envelope with that truth is the figure to beat: it is what a loudness-driven puppet would reach.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from avatar.errors import OptionError
from avatar.evaluate.closures import closures, closures_hit, closures_hit_by_chance
from avatar.evaluate.correlation import LagCorrelation, delayed, lag_correlation, shift_rank
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.movement import blinks_per_minute, gaze_spread, head_spread_deg, jitter, signal_range
from avatar.evaluate.sound import VOICE_BAND_HZ, silent_frames, sound_envelope
from avatar.types import Waveform

MIN_SILENT_FRAMES = 10
MIN_SHIFT_S = 1.0  # speech a second away is about something else


@dataclass(frozen=True)
class LipSyncScore:
    """One clip's figures; `truth_` is the same measure of the real clip. Spreads are standard deviations.

    Attributes:
        num_frames: frames compared.
        opening: generated against true lip opening.
        width: generated against true mouth width.
        sound_rms: the sound's RMS envelope against true lip opening, the figure to beat.
        sound_band: the envelope between 300 and 1000 Hz against true lip opening.
        best_envelope: the better of the two, each at its best lag.
        above_envelope: 1 where `opening.best` is above that, else 0; its mean is the share of clips.
        own_offset_frames: how many frames too early the clip's own sound is; what its opening is compared with below is
            delayed by so much first.
        opening_in_step, envelope_in_step, above_in_step: `opening`, `best_envelope`, `above_envelope` with that offset out of
            the way.
        shift_rank: share of shifts of a second or more at which the opening fits worse; 1 is right.
        closures_hit: share of the person's closures that the generated mouth makes too; NaN where there are none.
        closures_hit_by_chance: the same with the generated mouth out of place.
        num_closures: how many the person makes.
        range_ratio: generated over true range of the opening (5th to 95th percentile); 1 is right.
        silence_motion, truth_silence_motion: spread of the opening in pauses, parts of the outer-eye distance; NaN
            where the clip has no pause.
        jitter, truth_jitter: RMS second difference of the opening per frame², parts of the outer-eye distance.
        head_spread_deg, truth_head_spread_deg: yaw, pitch and roll together.
        gaze_spread, truth_gaze_spread: both directions together, parts of the outer-eye distance.
        blinks_per_min, truth_blinks_per_min: as named.
    """

    num_frames: int
    opening: LagCorrelation
    width: LagCorrelation
    sound_rms: LagCorrelation
    sound_band: LagCorrelation
    best_envelope: float
    above_envelope: int
    own_offset_frames: int
    opening_in_step: LagCorrelation
    envelope_in_step: float
    above_in_step: int
    shift_rank: float
    closures_hit: float
    closures_hit_by_chance: float
    num_closures: int
    range_ratio: float
    silence_motion: float
    truth_silence_motion: float
    jitter: float
    truth_jitter: float
    head_spread_deg: float
    truth_head_spread_deg: float
    gaze_spread: float
    truth_gaze_spread: float
    blinks_per_min: float
    truth_blinks_per_min: float

    def flat(self) -> dict[str, float]:
        """All numbers by name, those of a correlation as `opening.best` and so on."""
        numbers: dict[str, float] = {}
        for key, value in asdict(self).items():
            if isinstance(value, dict):
                numbers.update({f"{key}.{inner}": number for inner, number in value.items()})
            else:
                numbers[key] = value
        return numbers


def score_lip_sync(
    generated: FaceTrack, truth: FaceTrack, speech: Waveform, own_offset_frames: int = 0
) -> LipSyncScore:
    """All figures of one clip.

    Args:
        generated: the face in the finished video.
        truth: the person's own face saying the same; both are cut to the shorter one.
        speech: the sound both belong to.
        own_offset_frames: by how much the real clip's sound has to be delayed to be in step with its picture. Footage is
            often off by more than the lags that are tried; what follows its sound then cannot agree with the picture.

    Raises:
        OptionError: the two have different frame rates.
    """
    if generated.fps != truth.fps:
        raise OptionError(f"the tracks have {generated.fps} and {truth.fps} frames per second; resample one first")
    num_frames = min(generated.num_frames, truth.num_frames)
    generated, truth = generated[:num_frames], truth[:num_frames]
    rms = sound_envelope(speech, num_frames, truth.fps)
    silent = silent_frames(rms)
    opening = lag_correlation(generated.opening, truth.opening)
    band = sound_envelope(speech, num_frames, truth.fps, VOICE_BAND_HZ)
    sound_rms, sound_band = lag_correlation(rms, truth.opening), lag_correlation(band, truth.opening)
    best_envelope = float(np.fmax(sound_rms.best, sound_band.best))
    opening_in_step, rms_in_step, band_in_step = (
        lag_correlation(delayed(signal, own_offset_frames), truth.opening) for signal in (generated.opening, rms, band)
    )
    envelope_in_step = float(np.fmax(rms_in_step.best, band_in_step.best))
    min_shift = round(MIN_SHIFT_S * truth.fps)
    return LipSyncScore(
        num_frames=num_frames,
        opening=opening,
        width=lag_correlation(generated.width, truth.width),
        sound_rms=sound_rms,
        sound_band=sound_band,
        best_envelope=best_envelope,
        above_envelope=int(opening.best > best_envelope),
        own_offset_frames=own_offset_frames,
        opening_in_step=opening_in_step,
        envelope_in_step=envelope_in_step,
        above_in_step=int(opening_in_step.best > envelope_in_step),
        shift_rank=shift_rank(generated.opening, truth.opening, min_shift),
        closures_hit=closures_hit(generated.opening, truth.opening),
        closures_hit_by_chance=closures_hit_by_chance(generated.opening, truth.opening, min_shift),
        num_closures=len(closures(truth.opening)),
        range_ratio=signal_range(generated.opening) / signal_range(truth.opening),
        silence_motion=_spread_where(generated.opening, silent),
        truth_silence_motion=_spread_where(truth.opening, silent),
        jitter=jitter(generated.opening),
        truth_jitter=jitter(truth.opening),
        head_spread_deg=head_spread_deg(generated.head_deg),
        truth_head_spread_deg=head_spread_deg(truth.head_deg),
        gaze_spread=gaze_spread(generated.gaze),
        truth_gaze_spread=gaze_spread(truth.gaze),
        blinks_per_min=blinks_per_minute(generated.eyes, generated.fps),
        truth_blinks_per_min=blinks_per_minute(truth.eyes, truth.fps),
    )


def _spread_where(signal: np.ndarray, chosen: np.ndarray) -> float:
    values = signal[chosen & np.isfinite(signal)]
    return float(values.std()) if len(values) >= MIN_SILENT_FRAMES else math.nan
