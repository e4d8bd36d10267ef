"""Sound and pictures together, slower or faster, the pitch kept, so that lips and voice still agree.

Source: W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA)", ICASSP 1993.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.errors import OptionError
from avatar.types import Waveform

FACTORS = (0.85, 1.15)  # beyond, people no longer speak like that, and the ear hears it
_WINDOW_S = 0.030
_SEARCH_S = 0.010
_SAME = 0.05  # of a frame: what is nearer in time than this is shown as it is


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
    """Pictures at the same rate, `factor` times as many, moved along the optical flow to their moment.

    To show the nearest picture instead would hold or skip one several times a second, and lips would be up to 20 ms off.

    Args:
        frames: (T, H, W, 3) uint8.
        factor: of the length.

    Returns:
        (round(factor * T), H, W, 3) uint8, at least one.

    Source: T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    low, high, share = _places(len(frames), factor)
    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    y, x = np.indices(frames.shape[1:3], np.float32)
    made = np.empty((len(low), *frames.shape[1:]), np.uint8)
    for k, (first, second, part) in enumerate(zip(low, high, share, strict=True)):
        if min(part, 1 - part) < _SAME or first == second:
            made[k] = frames[second if part > 0.5 else first]
            continue
        grey = [cv2.cvtColor(frames[j], cv2.COLOR_RGB2GRAY) for j in (first, second)]
        flow = flow_of.calc(grey[0], grey[1], None)
        pictures = [
            cv2.remap(
                frames[j],
                x + step * flow[..., 0],
                y + step * flow[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            ).astype(np.float32)
            for j, step in ((first, -np.float32(part)), (second, np.float32(1 - part)))
        ]
        made[k] = ((1 - part) * pictures[0] + part * pictures[1]).round().astype(np.uint8)
    return made


def stretch_series(values: np.ndarray, factor: float) -> np.ndarray:
    """A motion (T, …) at the same rate, `factor` times as long, interpolated in time."""
    low, high, share = _places(len(values), factor)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return ((1 - share) * values[low] + share * values[high]).astype(values.dtype)


def _places(count: int, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each frame of the stretched clip the original's frames before and after its moment, and how far it is between them."""
    place = np.minimum(np.arange(max(1, round(count * factor))) / factor, count - 1)
    low = np.floor(place).astype(int)
    return low, np.minimum(low + 1, count - 1), place - low


def _best_shift(around: np.ndarray, wanted: np.ndarray) -> int:
    """Where in `around` a piece like `wanted` begins, by normalised correlation."""
    size = len(wanted)
    products = np.correlate(around, wanted, "valid")
    energy = np.cumsum(np.concatenate([[0.0], around**2]))
    scale = np.sqrt(np.maximum(energy[size:] - energy[:-size], 1e-12))
    return int(np.argmax(products / scale))


def _resized(samples: np.ndarray, length: int) -> np.ndarray:
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)
