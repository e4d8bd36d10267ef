"""What the caller said about emotion (a label, a picture, "auto") to what the emotion encoder takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avatar.emotion.labels import EMOTIONS, EXPRESSIONS, EmotionMix
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


def parse_emotion(emotion: str | Path, speech: Waveform) -> EmotionMix | Path:
    """Understands the three ways of saying an emotion.

    Args:
        emotion: `"happy"`, `"happy:0.6"`, `"auto"`, or the path of a picture.
        speech: the voice, for `"auto"`.

    Returns:
        A mix of the labels, what is missing to 1 being neutral; or the picture.

    Raises:
        OptionError: neither a label nor a file.
    """
    text = str(emotion)
    if text == AUTO:
        return emotion_of_voice(speech)
    label = text.partition(":")[0].partition(",")[0].strip()
    if not isinstance(emotion, Path) and label in EMOTIONS:
        return _with_neutral(EmotionMix.parse(text))
    if not text or not os.path.exists(text):
        raise OptionError(
            f"{text!r} is neither an emotion nor a picture; accepted: {', '.join(EMOTIONS)}, each with a strength if wanted "
            "(happy:0.6), the path of a picture of an expression, or auto"
        )
    return Path(text)


def read_emotion(
    emotion: str | Path, speech: Waveform, expression_of: Callable[[Path], np.ndarray]
) -> EmotionReference:
    """As `parse_emotion`, a picture's expression taken from it.

    Args:
        emotion, speech: as for `parse_emotion`.
        expression_of: the felt expression of the face in a picture, see `felt_expression`.

    Raises:
        OptionError: neither a label nor a file.
        FaceError, MediaError: the picture cannot be used.
    """
    said = parse_emotion(emotion, speech)
    return EmotionReference(None, expression_of(said)) if isinstance(said, Path) else EmotionReference(said, None)


def _with_neutral(mix: EmotionMix) -> EmotionMix:
    rest = 1 - sum(mix.weights)
    return EmotionMix((mix.weights[0] + rest, *mix.weights[1:]))


# What ordinary faces at rest already seem to show against the mean mesh, whose lids are half as far apart as an adult's
# (10.8 mm: L. G. Farkas, "Anthropometry of the Head and Face", 1994); the rest of a shape's range is scaled to 1.
_AT_REST = {"eye_wide": 0.9, "brow_inner_up": 0.35, "brow_outer_up": 0.35, "mouth_smile": 0.25}
_AT_REST_ELSEWHERE = 0.2
_FELT = {name.removesuffix("_l").removesuffix("_r") for shapes in EXPRESSIONS.values() for name in shapes} - {
    "jaw_open"
}


def felt_expression(expression: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """What of a fitted expression is feeling: without what differs between people at rest, and without speech.

    Args:
        expression: (P,) weights of the rig's named shapes.
        names: of the shapes.

    Returns:
        (P,) float32 in [0, 1].
    """
    stems = [name.removesuffix("_l").removesuffix("_r") for name in names]
    rest = np.array([_AT_REST.get(stem, _AT_REST_ELSEWHERE) for stem in stems])
    felt = np.array([stem in _FELT for stem in stems])
    return (felt * ((expression - rest) / (1 - rest)).clip(0, 1)).astype(np.float32)
