"""Sound and pictures together, slower or faster, the pitch kept, so that lips and voice still agree.

Source: W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA)", ICASSP 1993.
"""

from __future__ import annotations

import numpy as np

from avatar.errors import OptionError
from avatar.types import Waveform

FACTORS = (0.85, 1.15)  # beyond, people no longer speak like that, and the ear hears it
_WINDOW_S = 0.030
_SEARCH_S = 0.010


def stretch_sound(speech: Waveform, factor: float) -> Waveform:
    """Speech at another tempo and the same pitch.

    Args:
        speech: any rate.
        factor: of the length: 1.1 is slower by a tenth.

    Returns:
        Sound whose moment `factor * t` is moment t of the original, to within `_SEARCH_S`.

    Raises:
        OptionError: a factor beyond a half and two.
    """
    if not 0.5 <= factor <= 2:
        raise OptionError(f"sound can be stretched by 0.5 to 2, not by {factor:g}")
    rate = speech.sample_rate_hz
    half, search = round(_WINDOW_S * rate / 2), round(_SEARCH_S * rate)
    length = round(len(speech.samples) * factor)
    if factor == 1 or len(speech.samples) < 4 * half:
        return Waveform(_resized(speech.samples, length), rate)
    # a frame of 2 * half samples lands at every `half`; padded so that frames at the very ends exist
    padded = np.pad(speech.samples.astype(np.float64), (half + search, 3 * half + search))
    window = np.hanning(2 * half + 1)[:-1]
    count = -(-length // half) + 1
    out = np.zeros((count + 1) * half)
    total = np.zeros_like(out)
    start = half + search - half  # of the first frame, whose middle is the original's beginning
    for k in range(count):
        if k:
            ideal = round(k * half / factor) + search
            follows = padded[start + half : start + 3 * half]  # what would come next, unstretched
            start = ideal - search + _best_shift(padded[ideal - search : ideal + search + 2 * half], follows)
        frame = padded[start : start + 2 * half]
        out[k * half : (k + 2) * half] += window[: len(frame)] * frame
        total[k * half : (k + 2) * half] += window[: len(frame)]
    samples = (out / np.maximum(total, 1e-3))[half : half + length]
    return Waveform(samples.astype(np.float32), rate)


def stretch_frames(frames: np.ndarray, factor: float) -> np.ndarray:
    """Frames (T, …) at the same rate, `factor` times as many, each the nearest of the original in time."""
    count = max(1, round(len(frames) * factor))
    return frames[stretched_indices(len(frames), count, factor)]


def stretched_indices(num_frames: int, count: int, factor: float) -> np.ndarray:
    """Which of `num_frames` frames is shown at each of `count` frames of the stretched clip, (count,)."""
    return np.minimum(np.round(np.arange(count) / factor).astype(int), num_frames - 1)


def stretch_series(values: np.ndarray, factor: float) -> np.ndarray:
    """A motion (T, …) at the same rate, `factor` times as long, interpolated in time: better than frames, where there is one."""
    count = max(1, round(len(values) * factor))
    place = np.minimum(np.arange(count) / factor, len(values) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    share = (place - low).reshape(-1, *[1] * (values.ndim - 1))
    return ((1 - share) * values[low] + share * values[high]).astype(values.dtype)


def _best_shift(around: np.ndarray, wanted: np.ndarray) -> int:
    """Where in `around` a piece like `wanted` begins, by normalised correlation."""
    size = len(wanted)
    products = np.correlate(around, wanted, "valid")
    energy = np.cumsum(np.concatenate([[0.0], around**2]))
    scale = np.sqrt(np.maximum(energy[size:] - energy[:-size], 1e-12))
    return int(np.argmax(products / scale))


def _resized(samples: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)
