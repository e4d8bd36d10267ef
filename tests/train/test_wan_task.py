"""Training on a Wan backbone, tiny and random: what is frozen stays, what is trained learns, and the pipeline reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatar.data.clip_dataset import ClipStore
from avatar.data.clip_sources import SourceClip
from avatar.errors import OptionError, WeightsError
from avatar.media import read_picture, write_video
from avatar.pipeline import AvatarPipeline
from avatar.train.assemble import wan_pipeline
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping
from avatar.train.loop import Trainer
from avatar.train.prepare_wan import WanPreparer
from avatar.train.wan_task import WanTask
from avatar.types import Waveform
from avatar.wan.trained_file import load_trained

PORTRAIT = Path(__file__).resolve().parents[2] / "examples/astronaut.png"
SYSTEM = "debug:fantasytalking"


def config_of(out: Path, **model: Any) -> TrainConfig:
    return from_mapping({
        "out": str(out),
        "model": {"kind": "wan", "init": SYSTEM, "train": "adapters", "adapters": ["audio", "identity", "emotion"], **model},
        "data": {"latent_frames": 3, "context_frames": 2, "size_px": 64, "start_share": 0.5},
        "balance": {"by": []},
        "loss": {"min_sigma": 0.0, "lip_weight": 1.0, "face_weight": 1.0},
        "drop": {"audio": 0, "identity": 0, "emotion": 0, "text": 0},
        "optimiser": {"learning_rate": 1e-2, "warmup_steps": 3, "ema_decay": 0.0},
        "loop": {"steps": 30, "batch_size": 2, "workers": 0, "log_steps": 5, "checkpoint_steps": 100, "mixed_precision": "no"},
        "log": {"trackers": []},
    })  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of two windows: a still portrait and noise."""
    folder = tmp_path_factory.mktemp("wan")
    speech = Waveform((np.random.default_rng(0).standard_normal(16_000) * 0.1).astype(np.float32))
    frames = np.repeat(read_picture(PORTRAIT)[None, :512, :512], 20, axis=0)
    video = write_video(folder / "clip.mp4", iter([frames]), fps=25, speech=speech)
    config = config_of(folder)
    preparer = WanPreparer(wan_pipeline(config), config)
    clips = ClipStore(folder / "store", preparer.settings())
    clips.add(*preparer.prepare(SourceClip("clip", video, labels={"emotion": "happy"})))
    return clips.folder


def trainer_of(config: TrainConfig, store: Path) -> Trainer:
    return Trainer(WanTask(wan_pipeline(config), ClipStore(store), [0], config), None, config)


def losses_of(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_sample_has_what_the_model_is_told(store: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    task = WanTask(wan_pipeline(config), ClipStore(store), [0], config)
    sample = task.sample(0, np.random.default_rng(0), training=True)
    assert sample["latents"].shape == (16, 3, 8, 8) and sample["condition"].shape == (20, 3, 8, 8)
    assert sample["text"].shape[0] == 512 and sample["image"].shape[0] == 257
    assert sample["identity"].shape == (8, 512) and sample["emotion"].shape[1] == 64
    assert 0 < sample["lips"].sum() < sample["face"].sum() < 64
    assert (sample["sigma"] == sample["sigma"][0]).all()
    masks = [task.sample(0, np.random.default_rng(k), training=True)["condition"][:4].mean() for k in range(8)]
    assert len({round(float(mask), 3) for mask in masks}) == 2  # begun with a picture, and with frames from before


@pytest.mark.parametrize("train", ["adapters", "lora", "all"])
def test_one_clip_is_learned_and_what_is_frozen_stays_bit_for_bit(store: Path, tmp_path: Path, train: str) -> None:
    trainer = trainer_of(config_of(tmp_path, train=train), store)
    before = {name: value.detach().clone() for name, value in trainer.networks.named_parameters()}
    frozen = {name for name, value in trainer.networks.named_parameters() if not value.requires_grad}
    model = trainer.run()
    losses = losses_of(tmp_path)
    assert losses[-1] < 0.92 * losses[0], losses  # two narrow layers: 64 numbers of noise pass through 48
    now = dict(trainer.networks.named_parameters())
    for name, value in before.items():
        assert torch.equal(value, now[name]) or name not in frozen, name
    assert any(not torch.equal(value, now[name]) for name, value in before.items() if ".adapters.identity." in name)
    assert any("lora_" in name for name in before) == (train == "lora")
    assert (train == "all") == (not frozen)
    again = AvatarPipeline.from_pretrained(model)
    loaded = dict(again.transformer.named_parameters())
    for name, value in trainer.networks.transformer.named_parameters():
        assert torch.equal(value, loaded[name]), name


def test_audio_alone_then_audio_and_pictures(store: Path, tmp_path: Path) -> None:
    """Two stages: the second goes on from the first, adds adapters, and keeps what it does not train."""
    first = trainer_of(config_of(tmp_path / "1", adapters=["audio"], fresh_audio=True), store)
    model = first.run()
    config = config_of(tmp_path / "2", init=str(model), adapters=["identity", "emotion"])
    second = trainer_of(config, store)
    for part in ("blocks.0.adapters.audio.to_v.weight",):
        assert torch.equal(dict(first.networks.transformer.named_parameters())[part],
                           dict(second.networks.transformer.named_parameters())[part])  # fmt: skip
    again = AvatarPipeline.from_pretrained(second.run())
    assert {values["tokens"] for values in again.transformer.config.adapters} == {"audio", "identity", "emotion"}
    one, two = (dict(p.named_parameters()) for p in (second.networks.transformer, again.transformer))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_weights_of_another_model_are_refused(store: Path, tmp_path: Path) -> None:
    model = trainer_of(config_of(tmp_path), store).run()
    other = wan_pipeline(config_of(tmp_path, init="debug:echomimic-v3"))
    with pytest.raises(WeightsError, match="belongs to another model: "):
        load_trained(other, model)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs model.init: a published preset"):
        wan_pipeline(config_of(tmp_path, init="scratch"))
    with pytest.raises(OptionError, match="'debug' is no Wan model"):
        wan_pipeline(config_of(tmp_path, init="debug"))
