"""Weights and optimiser states as whole tensors, also where they are sharded over processes (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from avatar.train.average import trained


class Sharding:
    """Gathers and restores what is trained.

    Args:
        accelerator: of the run.
        networks: prepared.
        optimiser: over the networks' trained weights, in their order.
    """

    def __init__(self, accelerator: Accelerator, networks: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self._is_sharded = accelerator.distributed_type == DistributedType.FSDP
        self._networks, self._optimiser = networks, optimiser

    def whole(self, value: Tensor) -> Tensor:
        """A tensor with all its parts, on the CPU; every process has to ask."""
        full = value.full_tensor() if hasattr(value, "full_tensor") else value
        return full.detach().cpu().clone()

    def gathered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Trained weights by name, and the optimiser's state; every process has to ask."""
        weights = {name: self.whole(value) for name, value in trained(self._networks)}
        state = self._optimiser.state_dict()
        moments = {
            key: {k: self.whole(v) if isinstance(v, Tensor) else v for k, v in values.items()}
            for key, values in state["state"].items()
        }
        return weights, {"state": moments, "param_groups": state["param_groups"]}

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor], optimiser: Mapping[str, Any]) -> None:
        """Puts back what `gathered` gave."""
        own = dict(trained(self._networks))
        for name, value in self.like(own, weights).items():
            own[name].copy_(value)
        parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
        moments = {
            key: {
                k: self._part(v, parameters[int(key)]) if isinstance(v, Tensor) and v.ndim else v
                for k, v in values.items()
            }
            for key, values in optimiser["state"].items()
        }
        self._optimiser.load_state_dict({"state": moments, "param_groups": optimiser["param_groups"]})

    def like(self, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors, sharded as the tensors of the same names are."""
        return {name: self._part(weights[name], value) for name, value in own.items()}

    @contextmanager
    def plain(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """The networks have these whole weights in ordinary parameters while this is open, so that they can be written."""
        kept: dict[str, nn.Parameter] = dict(trained(self._networks))
        for name, value in kept.items():
            _set(self._networks, name, nn.Parameter(weights[name].to(value.dtype)))
        try:
            yield
        finally:
            for name, value in kept.items():
                _set(self._networks, name, value)

    def _part(self, value: Tensor, like: Tensor) -> Tensor:
        if not self._is_sharded:
            return value.to(like.device)
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(like, DTensor):
            return value.to(like.device)
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def _set(module: nn.Module, name: str, value: nn.Parameter) -> None:
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, value)
