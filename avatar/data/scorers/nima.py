"""NIMA: ten-way distribution of people's ratings from an image classifier; off unless a model is named.

Source: H. Talebi and P. Milanfar, "NIMA: Neural Image Assessment", 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.model_card import UNKNOWN, card_license, forbids_business
from avatar.data.scorers.pretrained import PictureInput, batch_of, frames_of, load_or_say
from avatar.errors import OptionError, WeightsError

NUM_RATINGS = 10


@register("nima")
class NimaScorer:
    """Fills aes_score (1 to 10) with the mean rating, and aes_std with the ratings' own spread, averaged over frames.

    Args:
        model: hub id or folder of a transformers image classifier with ten classes, rating 1 to 10, e.g. a
            MobileNetV1ForImageClassification with the weights of idealo/image-quality-assessment (Apache-2.0).
        num_frames: frames looked at, evenly spaced.
        license: of the weights, as whoever gives them says; None: as the model's card says, where it is at hand.
        is_noncommercial: whether it allows non-commercial use only, where its words do not say so; such weights are refused
            unless accepted.
    """

    name = "nima"
    version = "1"
    columns = columns("aes_backend", "aes_score", "aes_std")

    def __init__(
        self, model: str, num_frames: int = 3, license: str | None = None, is_noncommercial: bool = False
    ) -> None:
        if num_frames < 1:
            raise OptionError(f"num_frames must be at least 1, not {num_frames}")
        self.model_name, self.num_frames = model, num_frames
        license = license or card_license(model) or UNKNOWN
        is_noncommercial = is_noncommercial or forbids_business(license)
        self.weights: tuple[WeightSpec, ...] = (
            WeightSpec("NIMA classifier", model, license, is_noncommercial=is_noncommercial),
        )

    def setup(self) -> None:
        """Loads the classifier.

        Raises:
            MissingDependencyError: it is neither on disk nor at the hub.
            WeightsError: it does not have ten classes, or its head is not in the weights.
        """
        from transformers import AutoModelForImageClassification

        self._input = load_or_say(lambda: PictureInput.read(self.model_name, crops=False), "NIMA", self.model_name)
        model, report = load_or_say(
            lambda: AutoModelForImageClassification.from_pretrained(self.model_name, output_loading_info=True),
            "NIMA",
            self.model_name,
        )
        if model.config.num_labels != NUM_RATINGS or report["missing_keys"]:
            raise WeightsError(
                f"{self.model_name} has {model.config.num_labels} classes and lacks {sorted(report['missing_keys'])}; "
                "NIMA needs ten classes (ratings 1 to 10) with their trained head"
            )
        self._model = model.eval()

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """aes_backend, aes_score, aes_std."""
        import torch

        with torch.inference_mode():
            logits = self._model(pixel_values=batch_of(frames_of(clip.frames(), self.num_frames), self._input)).logits
        mean, spread = mean_rating(logits.softmax(dim=-1).double().numpy())
        return {
            "aes_backend": f"nima:{self.model_name}",
            "aes_score": float(mean.mean()),
            "aes_std": float(spread.mean()),
        }


def mean_rating(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, (n,) each, of rating distributions (n, 10).

    Source: Talebi and Milanfar 2018, section III-B.
    """
    ratings = np.arange(1, NUM_RATINGS + 1)
    mean = shares @ ratings
    return mean, np.sqrt(np.maximum(shares @ ratings**2 - mean**2, 0.0))
