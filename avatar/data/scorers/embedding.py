"""A clip to one vector of what it shows, by a published image encoder (DINOv2, CLIP, SigLIP …): off unless named.

Deduplication takes a high cosine as "can be the same picture" beside the frame hashes; what decides is motion and sound.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.model_card import named_weights
from avatar.errors import MissingDependencyError, OptionError

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@register("embedding")
class EmbeddingScorer:
    """Mean of the unit vectors of a few frames, itself of unit length.

    Args:
        model: hub id or folder of any transformers image encoder, e.g. facebook/dinov2-base.
        num_frames: frames looked at, evenly spaced.
        device: torch's name.
    """

    name = "embedding"
    version = "1"
    columns = columns("emb_backend", "embedding")

    def __init__(self, model: str, num_frames: int = 4, device: str = "cpu") -> None:
        if num_frames < 1:
            raise OptionError(f"num_frames must be at least 1, not {num_frames}")
        self.model_name, self.num_frames, self.device = model, num_frames, device
        self.weights: tuple[WeightSpec, ...] = (named_weights("image encoder", model),)

    def setup(self) -> None:
        """Loads the encoder.

        Raises:
            MissingDependencyError: it is neither on disk nor at the hub.
        """
        import torch
        from transformers import AutoModel
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            given, _ = ImageProcessingMixin.get_image_processor_dict(self.model_name)
            self._model = AutoModel.from_pretrained(self.model_name).eval().to(self.device)
        except (OSError, ValueError) as err:
            raise MissingDependencyError(
                f"the image encoder {self.model_name!r} cannot be loaded ({err}); give a folder with its config.json, "
                f"weights and preprocessor_config.json, or fetch it: hf download {self.model_name}"
            ) from err
        size = given.get("crop_size") or given.get("size") or 224
        self._side = int(size if isinstance(size, int) else size.get("height") or size.get("shortest_edge"))
        self._mean = np.array(given.get("image_mean") or _IMAGENET_MEAN, np.float32)
        self._std = np.array(given.get("image_std") or _IMAGENET_STD, np.float32)
        self._torch = torch

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """emb_backend and embedding."""
        frames = clip.frames()
        chosen = frames[np.unique(np.linspace(0, len(frames) - 1, self.num_frames).round().astype(int))]
        pixels = self._torch.from_numpy(np.stack([self._prepared(frame) for frame in chosen])).to(self.device)
        with self._torch.inference_mode():
            vectors = self._features(pixels).float().cpu().numpy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        mean = vectors.mean(axis=0)
        return {"emb_backend": self.model_name, "embedding": (mean / np.linalg.norm(mean)).tolist()}

    def _features(self, pixels: Any) -> Any:
        """(n, d): the projected image features of a two-tower model, else the class token or pooled output."""
        if hasattr(self._model, "get_image_features"):
            out = self._model.get_image_features(pixel_values=pixels)
            return out if isinstance(out, self._torch.Tensor) else out.pooler_output
        out = self._model(pixel_values=pixels)
        pooled = getattr(out, "pooler_output", None)
        return (out.last_hidden_state[:, 0] if pooled is None else pooled).flatten(1)

    def _prepared(self, frame: np.ndarray) -> np.ndarray:
        """The whole frame as a square (3, side, side) float32: nothing is cut off, copies may differ at the edges."""
        interpolation = cv2.INTER_AREA if min(frame.shape[:2]) > self._side else cv2.INTER_CUBIC
        square = cv2.resize(frame, (self._side, self._side), interpolation=interpolation)
        return ((square.astype(np.float32) / 255 - self._mean) / self._std).transpose(2, 0, 1)
