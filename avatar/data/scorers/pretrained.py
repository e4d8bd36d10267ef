"""What scorers with published picture networks share: how such a network wants its pictures, and loading one or saying why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np

from avatar.errors import MissingDependencyError

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class PictureInput:
    """How a network wants its pictures, from its preprocessor_config.json.

    Attributes:
        side_px: of the square it sees.
        mean, std: (3,) of the values in [0, 1].
        crops: whether the middle is cut out at the shorter side's size, or the whole picture squeezed into the square.
    """

    side_px: int
    mean: np.ndarray
    std: np.ndarray
    crops: bool

    @classmethod
    def read(cls, model: str, *, crops: bool) -> PictureInput:
        """From a folder or hub id."""
        from transformers.image_processing_base import ImageProcessingMixin

        given, _ = ImageProcessingMixin.get_image_processor_dict(model)
        size = given.get("crop_size") or given.get("size") or 224
        side = int(size if isinstance(size, int) else size.get("height") or size.get("shortest_edge"))
        mean, std = given.get("image_mean") or _IMAGENET_MEAN, given.get("image_std") or _IMAGENET_STD
        return cls(side, np.array(mean, np.float32), np.array(std, np.float32), crops)

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB to (3, side, side) float32."""
        if self.crops:
            height, width = frame.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            frame = frame[top : top + side, left : left + side]
        interpolation = cv2.INTER_AREA if min(frame.shape[:2]) > self.side_px else cv2.INTER_CUBIC
        square = cv2.resize(frame, (self.side_px, self.side_px), interpolation=interpolation)
        return ((square.astype(np.float32) / 255 - self.mean) / self.std).transpose(2, 0, 1)


def load_or_say(load: Callable[[], Loaded], what: str, model: str, hint: str = "") -> Loaded:
    """Calls `load`; an absent or unreadable model becomes one error that says what to fetch.

    Raises:
        MissingDependencyError: with the command.
    """
    try:
        return load()
    except (OSError, ValueError, ImportError) as err:
        raise MissingDependencyError(
            f"{what} {model!r} cannot be loaded ({err}); give a folder with config.json, weights and "
            f"preprocessor_config.json, or fetch it: hf download {model}{hint}"
        ) from err


def frames_of(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` frames, evenly spaced, first and last among them; the first alone for 1."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))] if count > 1 else frames[:1]


def batch_of(frames: np.ndarray, wanted: PictureInput) -> Any:
    """(n, H, W, 3) uint8 RGB to a tensor (n, 3, side, side)."""
    import torch

    return torch.from_numpy(np.stack([wanted.prepare(frame) for frame in frames]))
