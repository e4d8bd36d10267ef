"""What the caller said about emotion (a label, a picture, "auto") to what the emotion encoder takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avatar.emotion.labels import EMOTIONS, EmotionMix
from avatar.emotion.voice import emotion_of_voice
from avatar.errors import OptionError
from avatar.types import Waveform

AUTO = "auto"


@dataclass(frozen=True)
class EmotionReference:
    """One emotion for a whole clip; None is unknown.

    Attributes:
        labels: a mix of the labels.
        expression: (P,) weights of the rig's named shapes, as a picture showed them.
    """

    labels: EmotionMix | None
    expression: np.ndarray | None

    def as_tensors(self, device: torch.device | str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Labels (1, 1, 8) and expression (1, 1, P) for `EmotionEncoder`."""
        labels = None if self.labels is None else torch.tensor(self.labels.weights, device=device)[None, None]
        expression = None if self.expression is None else torch.from_numpy(self.expression).to(device)[None, None]
        return labels, expression


def read_emotion(
    emotion: str | Path, speech: Waveform, expression_of: Callable[[Path], np.ndarray]
) -> EmotionReference:
    """Understands the three ways of saying an emotion.

    Args:
        emotion: `"happy"`, `"happy:0.6"`, `"auto"`, or the path of a picture.
        speech: the voice, for `"auto"`.
        expression_of: fits the expression weights of the face in a picture.

    Raises:
        OptionError: neither a label nor a file.
        FaceError, MediaError: the picture cannot be used.
    """
    text = str(emotion)
    if text == AUTO:
        return EmotionReference(emotion_of_voice(speech), None)
    label = text.partition(":")[0].partition(",")[0].strip()
    if not isinstance(emotion, Path) and label in EMOTIONS:
        return EmotionReference(_with_neutral(EmotionMix.parse(text)), None)
    path = Path(text)
    if not path.exists():
        raise OptionError(
            f"{text!r} is neither an emotion nor a picture; accepted: {', '.join(EMOTIONS)}, each with a strength if wanted "
            "(happy:0.6), the path of a picture of an expression, or auto"
        )
    return EmotionReference(None, _without_small(expression_of(path)))


def _with_neutral(mix: EmotionMix) -> EmotionMix:
    rest = 1 - sum(mix.weights)
    return EmotionMix((mix.weights[0] + rest, *mix.weights[1:]))


_IDENTITY_SPREAD = 0.15  # how much of a shape ordinary faces already seem to show at rest


def _without_small(expression: np.ndarray) -> np.ndarray:
    """Takes off what differs between people rather than between feelings."""
    return (np.sign(expression) * np.maximum(np.abs(expression) - _IDENTITY_SPREAD, 0) / (1 - _IDENTITY_SPREAD)).astype(
        np.float32
    )
