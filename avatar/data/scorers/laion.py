"""LAION's aesthetic score: a linear stack over CLIP's unit image embedding; off unless its head is named.

Source: C. Schuhmann, "improved-aesthetic-predictor" (Apache-2.0), trained on SAC, Logos and AVA ratings 1 to 10.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar.data.clip_media import ClipMedia
from avatar.data.manifest import columns
from avatar.data.scorer import WeightSpec, register
from avatar.data.scorers.model_card import named_weights
from avatar.data.scorers.pretrained import PictureInput, batch_of, frames_of, load_or_say
from avatar.errors import MissingDependencyError, OptionError, WeightsError

if TYPE_CHECKING:
    from torch import nn

CLIP = "openai/clip-vit-large-patch14"
HEAD_FILE = "sac+logos+ava1-l14-linearMSE.pth"
_HEAD_URL = f"github.com/christophschuhmann/improved-aesthetic-predictor: {HEAD_FILE}"
_LAYERS = (0, 2, 4, 6, 7)  # the numbers between are dropout, which does nothing when measuring


@register("laion")
class LaionScorer:
    """Fills aes_score (about 1 to 10) with the mean over frames, and aes_std with their spread.

    Args:
        head: path of the head's state dict.
        clip: hub id or folder of the CLIP model the head was trained on.
        num_frames: frames looked at, evenly spaced; MAGI-1 looks at the first only.
    """

    name = "laion"
    version = "1"
    columns = columns("aes_backend", "aes_score", "aes_std")

    def __init__(self, head: str | Path | None = None, clip: str = CLIP, num_frames: int = 3) -> None:
        if num_frames < 1:
            raise OptionError(f"num_frames must be at least 1, not {num_frames}")
        self.head_path = None if head is None else Path(head)
        self.clip_name, self.num_frames = clip, num_frames
        self.weights: tuple[WeightSpec, ...] = (
            WeightSpec("LAION aesthetic head", _HEAD_URL, "Apache-2.0"),
            named_weights("CLIP image encoder", clip),
        )

    def setup(self) -> None:
        """Loads the head and CLIP's image tower.

        Raises:
            MissingDependencyError: one of them is not there; with where it comes from.
            WeightsError: they do not fit each other.
        """
        from transformers import CLIPVisionModelWithProjection

        if self.head_path is None or not self.head_path.is_file():
            raise MissingDependencyError(f"LAION's aesthetic head is not at {self.head_path}; get it from {_HEAD_URL}")
        self._head = load_head(self.head_path)
        self._input = load_or_say(lambda: PictureInput.read(self.clip_name, crops=True), "CLIP", self.clip_name)
        self._clip = load_or_say(
            lambda: CLIPVisionModelWithProjection.from_pretrained(self.clip_name).eval(), "CLIP", self.clip_name
        )
        wanted, given = self._head[0].in_features, self._clip.config.projection_dim
        if wanted != given:
            raise WeightsError(f"the head takes {wanted} numbers and {self.clip_name} gives {given}; it wants {CLIP}")

    def score(self, clip: ClipMedia) -> dict[str, Any]:
        """aes_backend, aes_score, aes_std."""
        import torch

        with torch.inference_mode():
            pixels = batch_of(frames_of(clip.frames(), self.num_frames), self._input)
            embedding = self._clip(pixel_values=pixels).image_embeds.float()
            scores = self._head(torch.nn.functional.normalize(embedding, dim=-1))[:, 0].double().numpy()
        return {
            "aes_backend": f"laion:{self.clip_name}",
            "aes_score": float(np.mean(scores)),
            "aes_std": float(np.std(scores)),
        }


def load_head(path: Path) -> nn.Sequential:
    """The published state dict as five linear layers, without activations between them, as it was trained.

    Raises:
        WeightsError: the file does not hold it.
    """
    import torch
    from torch import nn

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        head = nn.Sequential()
        for layer in _LAYERS:
            weight, bias = state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"]
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.load_state_dict({"weight": weight, "bias": bias})
            head.append(linear)
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as err:
        raise WeightsError(f"{path} does not hold LAION's aesthetic head: {err!r}; get it from {_HEAD_URL}") from err
    return head.eval()
