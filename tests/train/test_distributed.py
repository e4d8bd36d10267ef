"""Weights in parts over two processes (FSDP2 over gloo): gathered, written, and put back as if they were whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# accelerate offers FSDP on accelerators only, so torch's own `fully_shard` is applied here, and the class that saves is told
_ONE_OF_TWO = """
import os, sys
from types import SimpleNamespace
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import fully_shard
from avatar.train.average import WeightAverage, trained
from avatar.train.distributed import Sharding

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))

def made():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    model[0].bias.requires_grad_(False)
    return model

def stepped(model, batch, optimiser):
    model(batch).square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()

def sharded():
    model = made()
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimiser = torch.optim.AdamW([value for _, value in trained(model)], 1e-2)
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP)
    return model, optimiser, Sharding(accelerator, model, optimiser)

data = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1))
whole = made()
plain_optimiser = torch.optim.AdamW([value for _, value in trained(whole)], 1e-2)
model, optimiser, sharding = sharded()
average = WeightAverage(model, 0.9)
for k in range(2):
    stepped(whole, data[k], plain_optimiser)
    stepped(model, data[k][rank::2], optimiser)
    average.update(k)
weights, state = sharding.gathered()
assert set(weights) == {name for name, _ in trained(whole)}
for name, value in trained(whole):
    assert torch.allclose(value, weights[name], atol=1e-6), name
    assert type(weights[name]) is torch.Tensor and weights[name].shape == value.shape
with sharding.plain(weights):
    assert all(type(value) is nn.Parameter and value.shape == weights[name].shape for name, value in trained(model))
assert all(hasattr(value, "device_mesh") for _, value in trained(model))
with average.applied():
    pass
other, other_optimiser, other_sharding = sharded()
stepped(other, data[3][rank::2], other_optimiser)
other_sharding.restore(weights, state)
for k in (2, 3):
    stepped(whole, data[k], plain_optimiser)
    stepped(other, data[k][rank::2], other_optimiser)
for name, value in other_sharding.gathered()[0].items():
    assert torch.allclose(value, dict(trained(whole))[name], atol=1e-6), name
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_sharded_weights_are_saved_and_restored_as_whole_ones(tmp_path: Path) -> None:
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    environment["MASTER_PORT"] = str(20_000 + (os.getpid() + 7) % 20_000)
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_OF_TWO], env={**environment, "RANK": str(r)}, stderr=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=280)
        assert rank.returncode == 0, errors[-3000:]
