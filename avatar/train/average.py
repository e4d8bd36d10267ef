"""The moving average of weights, which is what is saved and validated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages the weights of a model that are trained.

    Args:
        model: whose weights.
        decay: of the average; less at first. 0 keeps no average, and the weights themselves are used.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.weights = {name: value.detach().clone() for name, value in trained(model)} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after a step, counted from 0, into the average."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in trained(self._model) if self.weights else ():
            self.weights[name].lerp_(value.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights while this is open."""
        if not self.weights:
            yield
            return
        own = {name: value.detach().clone() for name, value in trained(self._model)}
        self._copy(self.weights)
        try:
            yield
        finally:
            resharded(self._model)
            self._copy(own)

    @torch.no_grad()
    def _copy(self, weights: dict[str, Tensor]) -> None:
        for name, value in trained(self._model):
            value.copy_(weights[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.weights

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(state[name])


def resharded(model: nn.Module) -> None:
    """Gives back what a forward pass has gathered of sharded weights (FSDP2 keeps the outermost ones for a backward pass)."""
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if callable(reshard):
            reshard()


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights that require gradients."""
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]
