"""One clip is learned to near zero: by every weight, and by adapters alone on a frozen backbone that has learned before.

The loss is that of 32 fixed draws of crop, noise and its level, before and after. A backbone of random weights is no base for
adapters that read a few tokens: a velocity holds the noise itself, which no adapter sees, so the loss of Wan ends at the noise's
own variance, 1, there (`test_adapters_cannot_replace_a_backbone`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.clip_dataset import ClipStore
from avatar.data.clip_sources import SourceClip
from avatar.data.synthetic.faces import random_face
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.identity.features import geometry_features, with_unknown_appearance
from avatar.media import read_picture, write_video
from avatar.pipeline import AvatarPipeline, debug_pipeline
from avatar.train.assemble import wan_pipeline
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping
from avatar.train.loop import Trainer
from avatar.train.mesh_task import MeshTask
from avatar.train.prepare_mesh import MeshPreparer
from avatar.train.prepare_wan import WanPreparer
from avatar.train.task import Task
from avatar.train.wan_task import WanTask
from avatar.types import Waveform
from avatar.wan.pipeline import WanAvatarPipeline

PORTRAIT = Path(__file__).resolve().parents[2] / "examples/astronaut.png"
DRAWS, FRAMES = 32, 60
HEADS = 4  # 96 numbers wide: the 64 of a patch's noise pass through, which they do not through the debug models' 48


def config_of(out: Path, steps: int, model: dict[str, Any], data: dict[str, Any], loss: dict[str, Any]) -> TrainConfig:
    return from_mapping({
        "out": str(out),
        "model": model,
        "data": {"context_frames": 2, **data},
        "balance": {"by": []},
        "loss": loss,
        "drop": {"audio": 0, "identity": 0, "emotion": 0, "text": 0},
        "optimiser": {"learning_rate": 4e-3, "warmup_steps": 20, "weight_decay": 0.0, "ema_decay": 0.0},
        "loop": {"steps": steps, "batch_size": 4 if model["kind"] == "wan" else 8, "workers": 0, "log_steps": 100,
                 "checkpoint_steps": 10_000, "held_out_steps": 10_000, "held_out_clips": DRAWS, "mixed_precision": "no"},
        "log": {"trackers": []},
    })  # fmt: skip


def learned(make: Callable[..., Task], clip: int, config: TrainConfig) -> tuple[float, float]:
    """Trains on one clip; the loss of the fixed draws before and after. What is frozen must not change by a bit."""
    task = make(config, [clip])
    trainer = Trainer(task, make(config, [clip] * DRAWS, task.networks), config)
    frozen = {n: p.detach().clone() for n, p in trainer.networks.named_parameters() if not p.requires_grad}
    assert bool(frozen) == (config.model.train != "all")
    start = trainer.held_out_figures()[2]["loss"].mean()
    trainer.run()
    end = trainer.held_out_figures()[2]["loss"].mean()
    now = dict(trainer.networks.named_parameters())
    for name, value in frozen.items():
        assert torch.equal(value, now[name]), name
    return float(start), float(end)


def with_adapters_only(config: TrainConfig, out: Path) -> TrainConfig:
    return replace(config, out=str(out), model=replace(config.model, train="adapters"))


def mesh_maker(pipeline: AvatarPipeline, folder: Path) -> Callable[..., Task]:
    """Makes tasks of two clips that have little in common: one opens and closes its jaw, the other smiles, purses and nods."""
    preparer, rig = MeshPreparer(pipeline.speech_encoder, from_mapping({}).data), default_rig()
    store = ClipStore(folder / "clips", preparer.settings())
    time = np.arange(FRAMES)
    shapes = (
        {"jaw_open": 0.3 + 0.3 * np.sin(time / 3)},
        {
            "mouth_pucker": 0.4 + 0.4 * np.sin(time / 2),
            "mouth_smile_l": 0.8 + 0 * time,
            "brow_inner_up": 0.5 + 0 * time,
        },
    )
    for k, of_clip in enumerate(shapes):
        rng = np.random.default_rng(k)
        still = np.zeros((FRAMES, 3), np.float32)
        rotation = still + np.float32(0.05 * k) * np.sin(time / 2).astype(np.float32)[:, None]
        motion = MeshMotion(rig.displacement(rig.weights(FRAMES, **of_clip)), rotation, still, still[:, :2])
        clip = SourceClip(f"clip{k}", Path("made-up.mp4"), labels={"emotion": ("happy", "sad")[k]})
        speech = Waveform((rng.standard_normal(FRAMES * 640) * 0.1).astype(np.float32))
        identity = with_unknown_appearance(geometry_features(random_face(rng)[0]))
        store.add(preparer.entry(clip, FRAMES), preparer.tensors(motion, speech, identity, clip.clip_id))

    def make(config: TrainConfig, clips: list[int], networks: Any = None) -> Task:
        return MeshTask(pipeline, store, clips, config, networks)

    return make


@pytest.mark.slow
def test_one_clip_is_learned_to_near_zero_in_geometry(tmp_path: Path) -> None:
    pipeline = debug_pipeline()
    config = config_of(tmp_path / "all", 500, {"kind": "mesh"}, {"latent_frames": 5}, {})
    start, end = learned(mesh_maker(pipeline, tmp_path), 0, config)
    print(f"mesh, everything: {start:.4f} -> {end:.4f}")
    assert end < 0.03 * start


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_clip_is_learned_to_near_zero_by_adapters_on_the_shipped_weights(tmp_path: Path) -> None:
    pipeline = AvatarPipeline.from_pretrained("embedded")
    assert isinstance(pipeline, AvatarPipeline)
    config = config_of(tmp_path / "adapters", 1200, {"kind": "mesh", "train": "adapters"}, {"latent_frames": 5}, {})
    config = replace(config, optimiser=replace(config.optimiser, learning_rate=1e-3))
    start, end = learned(mesh_maker(pipeline, tmp_path), 1, config)
    print(f"mesh, adapters, on the shipped weights: {start:.4f} -> {end:.4f}")
    assert end < 0.1 * start  # what has learned to speak begins at 0.47, tiny networks at 2.7


@pytest.fixture(scope="module")
def wan_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of a still portrait and noise; the second's latents and conditions are turned about and negated."""
    folder = tmp_path_factory.mktemp("wan")
    config = wan_config(folder, 1)
    preparer = WanPreparer(wan_pipeline(config), config)
    store = ClipStore(folder / "store", preparer.settings())
    for k, emotion in enumerate(("happy", "sad")):
        speech = Waveform((np.random.default_rng(k).standard_normal(16_000) * 0.1).astype(np.float32))
        frames = np.repeat(read_picture(PORTRAIT)[None, 60 * k : 512, 60 * k : 512], 20, axis=0)
        video = write_video(folder / f"{k}.mp4", iter([frames]), fps=25, speech=speech)
        entry, tensors = preparer.prepare(SourceClip(f"clip{k}", video, labels={"emotion": emotion}))
        of_pixels = {name for name in tensors if k and name.startswith(("latents", "condition"))}
        store.add(entry, {n: -v[..., ::-1] if n in of_pixels else v for n, v in tensors.items()})
    return store.folder


def wan_config(out: Path, steps: int) -> TrainConfig:
    model = {"kind": "wan", "init": "debug:fantasytalking"}
    data = {"latent_frames": 3, "size_px": 64, "start_share": 0.5}
    return config_of(out, steps, model, data, {"min_sigma": 0.0, "lip_weight": 1.0, "face_weight": 1.0})


def wider(pipeline: WanAvatarPipeline) -> WanAvatarPipeline:
    """The debug system with a transformer of `HEADS` heads."""
    settings = {name: value for name, value in pipeline.transformer.config.items() if not name.startswith("_")}
    dim = HEADS * settings["attention_head_dim"]
    torch.manual_seed(1)
    sizes = {"num_attention_heads": HEADS, "ffn_dim": 2 * dim, "num_layers": 2, "added_kv_proj_dim": dim}
    pipeline.register_modules(transformer=AvatarTransformer3DModel(**{**settings, **sizes}))
    return pipeline


@pytest.mark.slow
def test_one_clip_is_learned_to_near_zero_on_wan(wan_store: Path, tmp_path: Path) -> None:
    config = wan_config(tmp_path / "all", 400)
    pipeline, store = wider(wan_pipeline(config)), ClipStore(wan_store)

    def make(config: TrainConfig, clips: list[int], networks: Any = None) -> Task:
        return WanTask(pipeline, store, clips, config, networks)

    untrained, end = learned(make, 0, config)
    print(f"wan, everything: {untrained:.4f} -> {end:.4f}")
    assert end < 0.02 * untrained
    start, end = learned(make, 1, with_adapters_only(config, tmp_path / "adapters"))
    print(f"wan, adapters, on what has learned another clip: {untrained:.4f} untrained, {start:.4f} -> {end:.4f}")
    assert end < 0.12 * start and end < 0.025 * untrained


@pytest.mark.slow
def test_adapters_cannot_replace_a_backbone(wan_store: Path, tmp_path: Path) -> None:
    """On random frozen weights what they learn is the clip, and what is left is the noise in the velocity, of variance 1."""
    config = with_adapters_only(wan_config(tmp_path, 200), tmp_path)
    pipeline, store = wider(wan_pipeline(config)), ClipStore(wan_store)

    def make(config: TrainConfig, clips: list[int], networks: Any = None) -> Task:
        return WanTask(pipeline, store, clips, config, networks)

    start, end = learned(make, 1, config)
    print(f"wan, adapters, on random weights: {start:.4f} -> {end:.4f}")
    assert start > 1.3 and end == pytest.approx(1.0, abs=0.05)
