"""A sound to what can be read off it without a model: its loudness per video frame, and where it pauses."""

from __future__ import annotations

import numpy as np

from avatar.audio.loudness import loudness_per_frame
from avatar.types import Waveform

VOICE_BAND_HZ = (300.0, 1000.0)  # around the first formant, which follows the jaw more closely than loudness does
SILENCE_BELOW_DB = -35.0  # relative to the loud parts of the same clip
SILENCE_MARGIN_FRAMES = 3  # the mouth may close and open around a pause


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
    return loudness_per_frame(Waveform(samples, speech.sample_rate_hz), num_frames, fps)


def silent_frames(envelope: np.ndarray) -> np.ndarray:
    """Which frames (T,) lie inside a pause, three frames away from any sound.

    A frame is quiet if it is 35 dB below the clip's loud parts (the 95th percentile of the envelope).
    """
    loud = np.percentile(envelope, 95) if len(envelope) else 0.0
    quiet = envelope <= loud * 10 ** (SILENCE_BELOW_DB / 20)
    near_sound = np.convolve(~quiet, np.ones(2 * SILENCE_MARGIN_FRAMES + 1), mode="same") > 0.5
    return ~near_sound[: len(envelope)]
