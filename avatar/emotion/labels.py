"""The emotion labels, how they are written, and the facial expression each stands for.

Expressions follow the prototypes of the Facial Action Coding System (P. Ekman, W. Friesen and J. Hager, "FACS: The
Manual", 2002, and EMFACS), given as weights of the rig's shapes at full intensity while speaking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avatar.errors import OptionError

EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt")

# Shape weights at intensity 1. `_l`/`_r` are given only where the two sides differ.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {"mouth_smile": 0.62, "cheek_squint": 0.55, "eye_squint": 0.28, "mouth_upper_up": 0.08, "brow_outer_up": 0.08},
    "sad": {"brow_inner_up": 0.75, "mouth_frown": 0.55, "mouth_shrug_lower": 0.25, "eye_blink": 0.16, "brow_down": 0.10},
    "angry": {"brow_down": 0.85, "nose_sneer": 0.25, "eye_squint": 0.35, "mouth_press": 0.25, "mouth_frown": 0.20, "eye_wide": 0.1},
    "surprised": {"brow_inner_up": 0.75, "brow_outer_up": 0.75, "eye_wide": 0.65, "jaw_open": 0.10},
    "fearful": {"brow_inner_up": 0.80, "brow_outer_up": 0.25, "brow_down": 0.30, "eye_wide": 0.60, "mouth_stretch": 0.45},
    "disgusted": {"nose_sneer": 0.80, "mouth_upper_up": 0.30, "brow_down": 0.45, "cheek_squint": 0.25, "mouth_frown": 0.25,
                  "mouth_shrug_lower": 0.20},
    "contempt": {"mouth_smile_l": 0.50, "mouth_dimple_l": 0.40, "cheek_squint_l": 0.20, "brow_outer_up_r": 0.15,
                 "eye_squint": 0.12},
}  # fmt: skip


@dataclass(frozen=True)
class EmotionMix:
    """How much of each emotion, summing to at most 1; what is missing to 1 is neutral.

    Attributes:
        weights: one per label in `EMOTIONS`.
    """

    weights: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> EmotionMix:
        """`"happy"`, `"happy:0.6"`, or several: `"happy:0.5,surprised:0.3"`.

        Raises:
            OptionError: an unknown label, or an intensity outside [0, 1].
        """
        weights = dict.fromkeys(EMOTIONS, 0.0)
        for part in text.split(","):
            label, _, strength = part.strip().partition(":")
            if label not in weights:
                raise OptionError(
                    f"unknown emotion {label!r}; accepted: {', '.join(EMOTIONS)}, each with a strength if wanted (happy:0.6), "
                    "the path of a picture, or auto"
                )
            weights[label] += _strength(part, strength)
        total = sum(weights.values())
        if total > 1 + 1e-6:
            raise OptionError(f"the strengths in {text!r} add up to {total:g}; together they may be 1 at most")
        return cls(tuple(weights.values()))


def shapes_of(weights: Sequence[float]) -> dict[str, float]:
    """The shape weights of a mix of emotions (one weight per label in `EMOTIONS`)."""
    shapes: dict[str, float] = {}
    for emotion, weight in zip(EMOTIONS, weights, strict=True):
        for name, strength in EXPRESSIONS[emotion].items():
            shapes[name] = shapes.get(name, 0.0) + weight * strength
    return shapes


def _strength(part: str, text: str) -> float:
    if not text:
        return 1.0
    try:
        value = float(text)
    except ValueError as err:
        raise OptionError(f"the strength in {part.strip()!r} is not a number between 0 and 1") from err
    if not 0 <= value <= 1:
        raise OptionError(f"the strength in {part.strip()!r} must lie between 0 and 1")
    return value
