"""The training loop: repeatable, resumable bit for bit, the same on two processes, and it learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from avatar.data.clip_dataset import ClipEntry, ClipStore
from avatar.data.sampling.report import read_reports
from avatar.errors import OptionError
from avatar.pipeline import AvatarPipeline, debug_pipeline
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping
from avatar.train.loop import Trainer
from avatar.train.mesh_task import MeshTask
from avatar.train.run_folder import RunFolder
from avatar.train.task import Sample

SMALL: dict[str, Any] = {
    "data": {"latent_frames": 5, "context_frames": 2},
    "loop": {
        "steps": 6, "batch_size": 4, "workers": 0, "checkpoint_steps": 2, "held_out_steps": 3, "log_steps": 1,
        "held_out_clips": 2, "mixed_precision": "no",
    },
    "optimiser": {"warmup_steps": 2},
    "balance": {"by": ["emotion"], "dynamic_rate": 0.5, "anneal": [0.0, 0.5]},
    "log": {"trackers": []},
}  # fmt: skip


def config_of(out: Path, **sections: dict[str, Any]) -> TrainConfig:
    values = {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in {*SMALL, *sections}}
    return from_mapping({"out": str(out), **values})


def trainer_of(config: TrainConfig, store: Path, *, held_out: bool = True, num_clips: int = 6) -> Trainer:
    clips = ClipStore(store)
    task = MeshTask(debug_pipeline(), clips, range(num_clips), config)
    other = MeshTask(task._pipeline, clips, [6, 7], config, task.networks) if held_out else None
    return Trainer(task, other, config)


def weights_in(model: Path) -> dict[str, torch.Tensor]:
    pipeline = AvatarPipeline.from_pretrained(model)
    return {
        f"{name}.{key}": value
        for name in ("transformer", "audio_projector", "identity_encoder", "emotion_encoder")
        for key, value in getattr(pipeline, name).state_dict().items()
    }


def losses_of(run: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "loss" in line]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("stop", [2, 3, 5])  # in mid-epoch, at its end; between checkpoints
def test_a_run_that_was_cut_short_goes_on_bit_for_bit(clip_store: Path, tmp_path: Path, stop: int) -> None:
    more: dict[str, dict[str, Any]] = {"balance": {"epoch_draws": 12}, "optimiser": {"towards_start": 0.25}}
    whole = weights_in(trainer_of(config_of(tmp_path / "whole", **more), clip_store).run())
    config = config_of(tmp_path / "cut", **more)
    trainer_of(config, clip_store).run(stop_after=stop)
    resumed = weights_in(trainer_of(config, clip_store).run(resume=True))
    assert_same(whole, resumed)
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "cut")
    assert read_reports(tmp_path / "whole/balance.jsonl") == read_reports(tmp_path / "cut/balance.jsonl")


def test_a_changed_config_is_refused_with_the_keys_that_differ(clip_store: Path, tmp_path: Path) -> None:
    trainer_of(config_of(tmp_path), clip_store).run(stop_after=2)
    changed = config_of(tmp_path, optimiser={"learning_rate": 0.5}, loss={"lip_weight": 1.0}, loop={"workers": 1})
    with pytest.raises(
        OptionError, match=r"loss.lip_weight \(was 0.5, is 1.0\); optimiser.learning_rate \(was 0.001, is 0.5\)"
    ):
        trainer_of(changed, clip_store).run(resume=True)
    with pytest.raises(OptionError, match="holds a run of 2 steps; go on with it"):
        trainer_of(config_of(tmp_path), clip_store).run()


def test_accumulated_batches_are_one_large_batch(clip_store: Path, tmp_path: Path) -> None:
    one = weights_in(trainer_of(config_of(tmp_path / "1", loop={"batch_size": 4}), clip_store).run())
    two = weights_in(trainer_of(config_of(tmp_path / "2", loop={"batch_size": 2, "accumulate": 2}), clip_store).run())
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name


def test_one_clip_is_learned_by_everything_and_by_adapters_alone_with_the_rest_untouched(
    clip_store: Path, tmp_path: Path
) -> None:
    drop = dict.fromkeys(("audio", "identity", "emotion"), 0.0)
    for train, wanted in (("all", 0.35), ("adapters", 0.75)):
        config = config_of(
            tmp_path / train,
            model={"train": train},
            loop={"steps": 150, "batch_size": 8, "log_steps": 10, "checkpoint_steps": 1000},
            optimiser={"learning_rate": 3e-3, "ema_decay": 0.0, "warmup_steps": 10},
            drop=drop,
        )
        trainer = trainer_of(config, clip_store, held_out=False, num_clips=1)
        frozen = {n: p.detach().clone() for n, p in trainer.networks.named_parameters() if not p.requires_grad}
        trained = {n: p.detach().clone() for n, p in trainer.networks.named_parameters() if p.requires_grad}
        trainer.run()
        losses = losses_of(tmp_path / train)
        assert losses[-1] < wanted * losses[0], (train, losses)
        now = dict(trainer.networks.named_parameters())
        assert_same(frozen, {name: now[name] for name in frozen})
        assert (train == "adapters") == bool(frozen)
        assert not any(
            torch.equal(value, now[name]) for name, value in trained.items() if "blocks.0.adapters.audio" in name
        )


class OfTwoShapes(nn.Module):
    """A task whose clips are of two shapes, and have no labels where they are held out."""

    def __init__(self, shapes: list[int], labels: dict[str, str | dict[str, float]]) -> None:
        super().__init__()
        self.entries = [ClipEntry(f"c{k}", 9, shape=(1, n, n), labels=labels) for k, n in enumerate(shapes)]
        self.weight = nn.Parameter(torch.zeros(1))

    networks = property(lambda self: self)

    def sample(self, clip: int, rng: np.random.Generator, *, training: bool) -> Sample:
        return {"picture": torch.full(self.entries[clip].shape, float(self.entries[clip].shape[1]))}

    def forward(self, batch: Sample) -> Sample:
        return {"loss": batch["picture"].mean((1, 2, 3)) + self.weight**2}

    def save(self, folder: Path) -> None:
        folder.mkdir()

    def video(self, portrait: Path, speech: Path, out: Path) -> Path:
        raise NotImplementedError


def test_held_out_clips_may_be_of_several_shapes_and_without_labels(tmp_path: Path) -> None:
    task = OfTwoShapes([2, 2, 2, 2, 3, 3], {"emotion": "happy"})
    held_out = OfTwoShapes([2, 3, 2, 3], {})
    trainer = Trainer(task, held_out, config_of(tmp_path, loop={"steps": 3, "held_out_clips": 8}))
    trainer.run()
    cells, _, figures = trainer.held_out_figures()
    assert len(cells) == 1 and figures["loss"].tolist() == pytest.approx([2, 3, 2, 3], abs=1e-3)


def test_the_cells_of_validation_have_the_same_luck(clip_store: Path, tmp_path: Path) -> None:
    """A loss that is chance alone is the same in every cell, or `dynamic` would follow the noise levels that were drawn."""
    config = config_of(tmp_path, loop={"held_out_clips": 6})
    trainer = trainer_of(config, clip_store)
    held_out = OfTwoShapes([2] * 6, {})
    held_out.entries = [replace(entry, labels={"emotion": "ab"[k % 2]}) for k, entry in enumerate(held_out.entries)]
    held_out.sample = lambda clip, rng, training: {"picture": torch.full((1, 2, 2), float(rng.random()))}  # type: ignore
    trainer.held_out = trainer.networks = held_out  # type: ignore[assignment]
    cells, clips, figures = trainer.held_out_figures()
    one, other = (figures["loss"][cells.home[clips] == cell] for cell in (0, 1))
    assert one.tolist() == other.tolist() and len(set(one.tolist())) == 3


def test_the_loss_of_cells_is_weighted_around_one(clip_store: Path, tmp_path: Path) -> None:
    trainer = trainer_of(config_of(tmp_path, balance={"loss": True}), clip_store)
    weights = trainer._loss_weights()
    assert float((weights * trainer.sampler.probabilities()).sum()) == pytest.approx(1)
    trainer.run(stop_after=1)


def test_a_kill_while_saving_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save(2, {"step": 2}, lambda path: path.mkdir(), keep=2)
    child = os.fork()
    if child == 0:
        folder.save(4, {"step": 4}, lambda path: os.kill(os.getpid(), signal.SIGKILL), keep=2)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert list(folder.checkpoints.glob(".step-*")), "the kill came too late to show anything"
    again = RunFolder(tmp_path)
    assert again.load() == {"step": 2} and again.steps() == [2]
    assert not list(folder.checkpoints.glob(".step-*"))
    assert (tmp_path / "latest").resolve().name == "step-00000002"


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.save(step, {"step": step}, lambda path: path.mkdir(), keep=2)
    assert folder.steps() == [2, 3]


_ONE_OF_TWO = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from avatar.data.clip_dataset import ClipStore
from avatar.pipeline import debug_pipeline
from avatar.train.config_file import from_mapping
from avatar.train.loop import Trainer
from avatar.train.mesh_task import MeshTask
config = from_mapping(json.loads(sys.argv[1]))
clips, pipeline = ClipStore(sys.argv[2]), debug_pipeline()
task = MeshTask(pipeline, clips, range(6), config)
trainer = Trainer(task, MeshTask(pipeline, clips, [6, 7], config, task.networks), config)
assert trainer.accelerator.num_processes == 2
trainer.run(stop_after=int(sys.argv[3]), resume=sys.argv[4] == "resume")
trainer.accelerator.end_training()
"""


# accelerate 1.15 takes FSDP on accelerators only and says nothing on a CPU; told that it is wanted, its FSDP2 works over gloo
_IN_PARTS = (
    _ONE_OF_TWO.replace(
        "clips, pipeline =",
        """
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor
from avatar.train.loop import make_accelerator
accelerator = make_accelerator(config)
accelerator.state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
    fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=["AvatarBlock"],
    reshard_after_forward=True, cpu_ram_efficient_loading=False, state_dict_type="SHARDED_STATE_DICT",
)
clips, pipeline =""",
    )
    .replace("config, task.networks), config)", "config, task.networks), config, accelerator=accelerator)")
    .replace("trainer.run(", "assert all(isinstance(p, DTensor) for p in trainer.networks.parameters())\ntrainer.run(")
)


def _run_two(values: dict[str, Any], store: Path, stop: int, how: str, port: int, script: str = _ONE_OF_TWO) -> None:
    environment = {
        **os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true", "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip
    command = [sys.executable, "-c", script, json.dumps(values), str(store), str(stop), how]
    ranks = [
        subprocess.Popen(
            command, env={**environment, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=280)
        assert rank.returncode == 0, errors[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("script", [_ONE_OF_TWO, _IN_PARTS], ids=["copies", "parts"])
def test_two_processes_are_one_with_the_same_batch(clip_store: Path, tmp_path: Path, script: str) -> None:
    """With a copy of the weights each (DDP), and with the weights in parts (FSDP2); stopped and gone on with."""
    one = weights_in(trainer_of(config_of(tmp_path / "one"), clip_store).run())
    values = {"out": str(tmp_path / "two"), **SMALL, "loop": {**SMALL["loop"], "batch_size": 2}}
    port = 20_000 + os.getpid() % 20_000
    _run_two(values, clip_store, 4, "new", port, script)
    _run_two(values, clip_store, 6, "resume", port + 1, script)
    two = weights_in(tmp_path / "two/latest/model")
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), (name, (value - two[name]).abs().max())
    assert losses_of(tmp_path / "one") == pytest.approx(losses_of(tmp_path / "two"), abs=1e-5)
    reports = [read_reports(tmp_path / run / "balance.jsonl") for run in ("one", "two")]
    shares = [[cell["drawn_share"] for report in each for cell in report["cells"]] for each in reports]
    assert shares[0] == pytest.approx(shares[1])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes of these tests: a sum over several threads has other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_process_killed_at_random_goes_on_bit_for_bit(clip_store: Path, tmp_path: Path) -> None:
    values = {"out": str(tmp_path / "killed"), **SMALL, "loop": {**SMALL["loop"], "checkpoint_steps": 1, "steps": 30}}
    config = from_mapping(values)
    script = _ONE_OF_TWO.replace("num_processes == 2", "num_processes == 1")
    child = subprocess.Popen([sys.executable, "-c", script, json.dumps(values), str(clip_store), "30", "new"])
    while len(list((tmp_path / "killed").glob("checkpoints/step-*"))) < 2:
        time.sleep(0.01)
    time.sleep(0.05)
    child.kill()
    child.wait()
    resumed = weights_in(trainer_of(config, clip_store).run(resume=True))
    values["out"] = str(tmp_path / "whole")
    assert_same(weights_in(trainer_of(from_mapping(values), clip_store).run()), resumed)
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "killed")
