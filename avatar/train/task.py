"""What a kind of model has to offer to be trained: samples, a loss, and a file that the pipeline reads."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from avatar.data.clip_dataset import ClipEntry

Sample = dict[str, Tensor]  # what `networks` is given, without the batch axis


class Task(Protocol):
    """One kind of model and its clips.

    Attributes:
        networks: everything that is trained, with what it is trained through; called with a batch of samples, it gives figures
            by name, (B,) each, of which `loss` is minimised. Weights that are not trained do not require gradients.
        entries: the clips, in the order of the sampler's numbers.
    """

    entries: list[ClipEntry]

    @property
    def networks(self) -> nn.Module: ...

    def sample(self, clip: int, rng: np.random.Generator, *, training: bool) -> Sample:
        """A sample of a clip with its noise and its dropped conditions; the same state of `rng` gives the same one.

        Args:
            clip: index into `entries`.
            rng: source of all chance.
            training: whether conditions may be dropped and sound be augmented.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes the networks as they are now, so that `AvatarPipeline.from_pretrained` can use them."""
        ...

    def video(self, portrait: Path, speech: Path, out: Path) -> Path:
        """Makes a sample video with the networks as they are now."""
        ...


def rng_of(seed: int, epoch: int, position: int, purpose: int = 0) -> np.random.Generator:
    """The source of chance of one draw, whichever process makes it."""
    return np.random.default_rng((seed, 23 + purpose, epoch, position))
