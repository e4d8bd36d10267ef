"""Frames given the colours of a reference picture, against the drift of long videos.

Source: E. Reinhard et al., "Color Transfer between Images", 2001, eq. 10-11, in CIELAB.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar.errors import OptionError


def match_colours(frames: np.ndarray, reference: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Gives frames the mean and the spread of a reference's colours.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        reference: (H', W', 3) uint8 RGB.
        strength: 0 for unchanged to 1 for fully matched.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        OptionError: a strength outside [0, 1].
    """
    check_strength(strength)
    if strength == 0:
        return frames
    wanted_mean, wanted_spread = _statistics(_lab(reference))
    return np.stack([_matched(frame, wanted_mean, wanted_spread, strength) for frame in frames])


def check_strength(strength: float) -> None:
    """Refuses what is no strength.

    Raises:
        OptionError: it is outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise OptionError(f"the strength of colour matching is a number from 0 to 1, not {strength}")


def _matched(frame: np.ndarray, mean: np.ndarray, spread: np.ndarray, strength: float) -> np.ndarray:
    own = _lab(frame)
    own_mean, own_spread = _statistics(own)
    matched = (own - own_mean) * (spread / np.maximum(own_spread, 1e-6)) + mean
    rgb = cv2.cvtColor((own + strength * (matched - own)).astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.clip(np.round(rgb * 255), 0, 255).astype(np.uint8)


def _lab(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _statistics(lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return lab.mean((0, 1)), lab.std((0, 1))
