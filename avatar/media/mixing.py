"""Waveforms that the caller brings: checked, resampled, mixed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr

from avatar.errors import MediaError
from avatar.media.sound import read_waveform
from avatar.types import MODEL_SAMPLE_RATE_HZ, Speech, Waveform

MIX_SAMPLE_RATE_HZ = 48_000


def read_speech(speech: Speech) -> Waveform:
    """What the model hears, at 16 kHz.

    Raises:
        MediaError: see `read_waveform` and `check_waveform`.
    """
    return check_waveform(speech) if isinstance(speech, Waveform) else read_waveform(speech)


def sound_of_video(sounds: Sequence[Speech]) -> Path | Waveform:
    """What a video sounds like: one file at its own quality, or everybody mixed.

    Raises:
        MediaError: one of several cannot be read.
    """
    if len(sounds) > 1:
        return mix_speech(sounds)
    return sounds[0] if isinstance(sounds[0], Waveform) else Path(sounds[0])


def check_waveform(speech: Waveform) -> Waveform:
    """A caller's waveform as the model wants it: finite float32 at 16 kHz.

    Raises:
        MediaError: it is empty, of integers, or holds NaN or infinite samples.
    """
    if not np.issubdtype(speech.samples.dtype, np.floating):
        raise MediaError(f"a waveform holds float samples in [-1, 1], not {speech.samples.dtype}; scale it first")
    samples = np.asarray(speech.samples, np.float32)
    if len(samples) == 0:
        raise MediaError("the waveform is empty; it needs at least one sample")
    if not np.isfinite(samples).all():
        raise MediaError("the waveform holds NaN or infinite samples; clean it first")
    return resampled(Waveform(samples, speech.sample_rate_hz), MODEL_SAMPLE_RATE_HZ)


def resampled(speech: Waveform, sample_rate_hz: int) -> Waveform:
    """The same sound at another rate."""
    if speech.sample_rate_hz == sample_rate_hz:
        return speech
    return Waveform(soxr.resample(speech.samples, speech.sample_rate_hz, sample_rate_hz), sample_rate_hz)


def mix_speech(sounds: Sequence[Speech]) -> Waveform:
    """Several people at once: the sum at 48 kHz, turned down as a whole where it would clip."""
    parts = [
        resampled(sound, MIX_SAMPLE_RATE_HZ)
        if isinstance(sound, Waveform)
        else read_waveform(sound, MIX_SAMPLE_RATE_HZ)
        for sound in sounds
    ]
    mix = np.zeros(max(len(part.samples) for part in parts), np.float32)
    for part in parts:
        mix[: len(part.samples)] += part.samples
    return Waveform(mix / max(1.0, float(np.abs(mix).max(initial=0.0))), MIX_SAMPLE_RATE_HZ)
