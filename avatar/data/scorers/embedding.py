"""A clip to one vector of what it shows, by a published image encoder (DINOv2, CLIP, SigLIP …): off unless named.

Deduplication takes a high cosine as "can be the same picture" beside the frame hashes; what decides is motion and sound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.model_card import named_weights
from avatar.data.scorers.pretrained import PictureInput, batch_of, frames_of, load_or_say
from avatar.errors import OptionError


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

        what = "the image encoder"  # sees the whole frame as a square: copies may differ at the edges
        self._input = load_or_say(lambda: PictureInput.read(self.model_name, crops=False), what, self.model_name)
        model = load_or_say(lambda: AutoModel.from_pretrained(self.model_name), what, self.model_name)
        self._model = model.eval().to(self.device)
        self._torch = torch

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """emb_backend and embedding."""
        pixels = batch_of(frames_of(clip.frames(), self.num_frames), self._input).to(self.device)
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
