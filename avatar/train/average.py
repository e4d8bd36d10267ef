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
        towards_start: how far what is used lies back towards the weights as they are now, 0 to 1.

    Source: for `towards_start`, M. Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903.
    """

    def __init__(self, model: nn.Module, decay: float, towards_start: float = 0.0) -> None:
        self._model, self._decay, self._towards_start = model, decay, towards_start
        self.weights = _copied(model) if decay else {}
        self._start = _copied(model) if towards_start else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after a step, counted from 0, into the average."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in trained(self._model) if self.weights else ():
            self.weights[name].lerp_(value.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the weights that are used while this is open."""
        if not (self.weights or self._start):
            yield
            return
        own = _copied(self._model)
        self._copy(self.used())
        try:
            yield
        finally:
            resharded(self._model)
            self._copy(own)

    @torch.no_grad()
    def used(self) -> dict[str, Tensor]:
        """The weights that are saved and validated, by name."""
        used = self.weights or {name: value.detach() for name, value in trained(self._model)}
        return {name: torch.lerp(used[name], value, self._towards_start) for name, value in self._start.items()} or used

    @torch.no_grad()
    def _copy(self, weights: dict[str, Tensor]) -> None:
        for name, value in trained(self._model):
            value.copy_(weights[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.weights

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.weights.items():
            value.copy_(state[name])


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trained(model)}


def resharded(model: nn.Module) -> None:
    """Gives back what a forward pass has gathered of sharded weights (FSDP2 keeps the outermost ones for a backward pass)."""
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if callable(reshard):
            reshard()


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights that require gradients."""
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]
