"""A clip to compact fingerprints by which near copies are found: of frames, of their motion, and of the sound.

Each survives what copying does: frame hashes a re-encode and a resize, and being mirrored turns known bits of them; hashes
of the middle of the frame meet a cropped copy's; motion by rows knows neither mirror nor, much, crop; sound survives
all that is done to the picture. Two clips of one person in one room share frame hashes, but neither motion nor sound.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from scipy.fft import dctn

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.types import Waveform

HASHED_FRAMES = 8
CROPS = (0.9, 0.8)  # parts of both sides that are kept; a copy cropped by a tenth in all, or on each side
MOTION_HZ = 12.5
MOTION_ROWS = 4
AUDIO_HZ = 31.25  # codes a second
_HASH_SIDE = 32
_MOTION_SIDE = 32
_MOTION_FLOOR = 0.05  # grey levels: under this, compression noise
_MOTION_STEP = 0.1  # of log2
_AUDIO_WINDOW = 4096  # samples at 16 kHz: 0.256 s
_AUDIO_HOP = 512
_AUDIO_BANDS = 33
_AUDIO_RANGE_HZ = (300.0, 3000.0)
_QUIET_DB = -40.0  # under the clip's loud parts: no code


@register("fingerprints")
class FingerprintScorer:
    """Fingerprints without weights: phash8, phash_crops, motion_fp, audio_fp."""

    name = "fingerprints"
    version = "1"
    columns = columns("phash8", "phash_crops", "motion_fp", "audio_fp")
    weights: tuple[WeightSpec, ...] = ()

    def setup(self) -> None:
        """Nothing to load."""

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """All four; audio_fp is null without sound, motion_fp with fewer than two frames."""
        frames = clip.frames()
        chosen = frames[np.linspace(0, len(frames) - 1, HASHED_FRAMES).round().astype(int)]
        waveform = clip.waveform()
        return {
            "phash8": frame_hashes(chosen).tobytes(),
            "phash_crops": np.stack([frame_hashes(chosen, part) for part in CROPS]).tobytes(),
            "motion_fp": motion_print(frames).tobytes() if len(frames) > 1 else None,
            "audio_fp": None if waveform is None else audio_print(waveform).tobytes(),
        }


def frame_hashes(frames: np.ndarray, part: float = 1.0) -> np.ndarray:
    """A 64-bit perceptual hash of each frame: the signs of its lowest 8 x 8 cosine coefficients but the mean.

    Signs instead of the usual comparison with the median, so that a mirrored frame's hash is known from the frame's own
    (`mirrored`): horizontally odd coefficients change sign and the others do not.

    Args:
        frames: (n, H, W, 3) uint8 RGB.
        part: how much of both sides is looked at, about the middle.

    Returns:
        (n,) uint64.

    Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", section 3.2 (pHash)
    """
    height, width = frames.shape[1:3]
    top, left = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    hashes = []
    for frame in frames[:, top : height - top, left : width - left]:
        small = cv2.resize(_grey(frame), (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
        bits = (dctn(small.astype(np.float32), norm="ortho")[:8, :8] > 0).ravel()
        bits[0] = False  # the mean is always above zero
        hashes.append(np.packbits(bits).view(">u8")[0])
    return np.array(hashes, np.uint64)


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """What `frame_hashes` gives for the mirrored frames, up to coefficients that are nearly zero."""
    return hashes ^ _odd_columns()


def motion_print(frames: np.ndarray) -> np.ndarray:
    """How much moves, by rows of the picture and time.

    Args:
        frames: (T, H, W, 3) uint8 RGB at 25 fps, T > 1.

    Returns:
        (n, MOTION_ROWS) int8 at MOTION_HZ: log2 of the mean change of grey levels between frames, in steps of 0.1.
    """
    small = np.stack([cv2.resize(_grey(f), (_MOTION_SIDE, _MOTION_SIDE), interpolation=cv2.INTER_AREA) for f in frames])
    change = np.abs(np.diff(small.astype(np.float32), axis=0))
    rows = change.reshape(len(change), MOTION_ROWS, -1).mean(axis=2)
    # smoothed, since the frames that a 24 fps source repeats fall on other places in a copy
    kernel = np.array([1, 2, 3, 2, 1], np.float32) / 9
    padded = np.pad(rows, ((2, 2), (0, 0)), "edge")
    smooth = np.stack([np.convolve(row, kernel, "valid") for row in padded.T], axis=1)[::2]
    return np.clip(np.round(np.log2(smooth + _MOTION_FLOOR) / _MOTION_STEP), -127, 127).astype(np.int8)


def audio_print(waveform: Waveform) -> np.ndarray:
    """A 32-bit code 31.25 times a second: the signs of how energy differs between bands, and how that changes.

    Args:
        waveform: 16 kHz.

    Returns:
        (n,) uint32; 0 where it is quiet.

    Source: Haitsma and Kalker 2002, "A highly robust audio fingerprinting system", eq. 1; windows and hops are longer here
    """
    samples = np.pad(waveform.samples, (0, max(0, _AUDIO_WINDOW + _AUDIO_HOP - len(waveform.samples))))
    windows = np.lib.stride_tricks.sliding_window_view(samples, _AUDIO_WINDOW)[::_AUDIO_HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_AUDIO_WINDOW), axis=1)) ** 2
    edges = np.geomspace(*_AUDIO_RANGE_HZ, _AUDIO_BANDS + 1) / waveform.sample_rate_hz * _AUDIO_WINDOW
    bounds = edges.round().astype(int)
    energy = np.add.reduceat(power[:, : bounds[-1]], bounds[:-1], axis=1)
    tilt = energy[:, :-1] - energy[:, 1:]
    bits = (tilt[1:] - tilt[:-1]) > 0
    codes = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    level_db = 10 * np.log10(energy.sum(axis=1)[1:] + 1e-12)
    codes[level_db < np.percentile(level_db, 95) + _QUIET_DB] = 0
    return codes if float(np.abs(samples).max(initial=0.0)) > 1e-4 else np.zeros_like(codes)


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


@cache
def _odd_columns() -> np.uint64:
    bits = np.zeros((8, 8), bool)
    bits[:, 1::2] = True
    return np.packbits(bits.ravel()).view(">u8")[0].astype(np.uint64)
