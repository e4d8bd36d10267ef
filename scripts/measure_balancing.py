"""Does balanced sampling help the rare? Trains on a made-up long tail, emotion x group, in several ways, and compares.

    python scripts/measure_balancing.py OUT_DIR [--steps 600] [--seeds 3] [--ways natural balanced dynamic even]

Twelve cells, the rarest with a hundredth of the clips of the commonest. A group differs in the shape of its faces, in how the
mouth makes the same sounds and in how an emotion is shown, so that a cell has something of its own to be learned. All ways see
the same clips, start from the same weights and make as many steps; a seed changes the clips of training and validation as well
as the weights and the order. The test clips are the same throughout, as many of every cell, and steer nothing. The model is the
embedded one's class and loss, by default at a smaller size; sounds are made-up features. A clip begins with the face at rest, as
`avatar animate` does, so that a feeling has to set in from its label alone. OUT_DIR receives `balancing.json`, `balancing.md`
and `balancing.png`; what is in `balancing.json` is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import t as student
from torch.utils.data import default_collate
from transformers import Wav2Vec2Model

from avatar.audio.encoder import small_encoder_config
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.clip_dataset import ClipEntry, ClipStore, cells_of
from avatar.data.sampling.report import mean_by_cell, read_reports
from avatar.data.synthetic.faces import random_face
from avatar.dit.generate import ChunkPlan, SamplingOptions, generate_latents
from avatar.dit.guidance import audio_guidance
from avatar.emotion.labels import EXPRESSIONS
from avatar.identity.features import geometry_features, with_unknown_appearance
from avatar.pipeline import AvatarPipeline
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping
from avatar.train.draws import Draws
from avatar.train.loop import Trainer
from avatar.train.mesh_task import MeshNetworks, MeshTask, fresh_networks
from avatar.train.prepare_mesh import motion_tensors
from avatar.types import Conditioning

EMOTIONS = ("neutral", "happy", "sad", "surprised")
GROUPS = ("a", "b", "c")
RATIO = 100
FRAMES = 49
FEATURE_DIM = 16
LATENT_FRAMES = 9
CLIPS_PER_CELL = {"val": 8, "test": 32}
LOSS_DRAWS = 4  # crops and noise levels that a test clip's loss is the mean of
WAYS: dict[str, dict[str, Any]] = {
    "natural": {"beta": 0.0},
    "balanced": {},  # the defaults
    "dynamic": {"dynamic_rate": 0.5},
    "even": {"beta": 1.0, "thin": 0.0, "cap": 1000.0},
    "deferred": {"anneal": [0.6, 0.8]},
}
FIGURES = ("loss", "lip_r", "emotion")
_OPENING = {"a": 0.75, "b": 0.5, "c": 0.3}  # how far a group opens for the same sound
_ROUNDING = {"a": ("mouth_pucker", 0.7), "b": ("mouth_funnel", 0.6), "c": ("mouth_stretch", 0.6)}
_SHOWN = {"a": (1.0, 1.0), "b": (1.0, 0.3), "c": (0.3, 1.0)}  # how much of a feeling the mouth and the rest show
_WIDTH = {"a": 0.82, "b": 1.0, "c": 1.2}  # of the face: told apart from it in about 95 of 100
_MIXING = np.random.default_rng(99).standard_normal((FEATURE_DIM, 4)) / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["natural", "balanced", "dynamic", "even"])
    parser.add_argument("--largest", type=int, default=400, help="clips of the commonest cell")
    parser.add_argument("--hidden", type=int, default=128, help="width of the transformer")
    parser.add_argument("--layers", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "balancing.json"
    told = {name: getattr(arguments, name) for name in ("steps", "largest", "hidden", "layers")}
    results: dict[str, dict[str, Any]] = {}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["told"] != told:
            parser.error(f"{path} is of {before['told']}, not of {told}; name another folder")
        results = before["results"]
    for seed in range(arguments.seeds):
        stores = make_stores(arguments.out, arguments.largest, seed)
        for way in arguments.ways:
            if f"{way}-{seed}" in results:
                continue
            started = time.process_time()
            got = run(config_of(arguments, way, seed), stores)
            results[f"{way}-{seed}"] = {**got, "cpu_s": time.process_time() - started}
            print(
                seed, way, {name: round(float(np.mean(got[name])), 3) for name in FIGURES}, file=sys.stderr, flush=True
            )
            path.write_text(json.dumps({"told": told, "results": results}, indent=1), encoding="utf-8")
    ways = [way for way in arguments.ways if all(f"{way}-{seed}" in results for seed in range(arguments.seeds))]
    by_way = {way: [results[f"{way}-{seed}"] for seed in range(arguments.seeds)] for way in ways}
    text = "\n\n".join(
        [table(by_way), cell_table(by_way), f"emotion told from true motion: {truth(stores['test']):.3f}"]
    )
    (arguments.out / "balancing.md").write_text(text + "\n", encoding="utf-8")
    plot(by_way, arguments.out / "balancing.png")
    print(text)
    return 0


# clips


def make_stores(out: Path, largest: int, seed: int) -> dict[str, ClipStore]:
    """Training clips with the long tail; as many of every cell for validation (which steers `dynamic`) and for the test."""
    cells = sorted(
        ((e, g) for e in range(len(EMOTIONS)) for g in range(len(GROUPS))), key=lambda c: (c[0] * 0.9 + c[1], c)
    )
    tail = largest * RATIO ** (-np.arange(len(cells)) / (len(cells) - 1))
    counts = {split: np.full(len(cells), count) for split, count in CLIPS_PER_CELL.items()}
    counts["train"] = np.maximum(1, tail.round().astype(int))
    stores, latent = {}, GeometryLatent()
    for split, sizes in counts.items():
        own = 0 if split == "test" else seed + 1
        store = ClipStore(out / "clips" / f"{split}{own}", {"largest": largest, "frames": FRAMES})
        known, number = store.known(), 0
        for (emotion, group), size in zip(cells, sizes, strict=True):
            for _ in range(size):
                number += 1
                clip_id = f"{split}{number:05d}"
                if clip_id not in known:
                    labels: dict[str, Any] = {"emotion": EMOTIONS[emotion], "group": GROUPS[group]}
                    rng = np.random.default_rng((7, own, len(split), number))
                    store.add(ClipEntry(clip_id, FRAMES, clip_id, labels=labels), clip(labels, rng, latent))
        stores[split] = store
    return stores


def clip(labels: dict[str, str], rng: np.random.Generator, latent: GeometryLatent) -> dict[str, np.ndarray]:
    """One clip: sound that is two courses, a mouth that follows them as its group does, and a feeling."""
    rig = default_rig()
    emotion, group = labels["emotion"], labels["group"]
    sound = np.stack([_course(rng, 2.0), _course(rng, 3.0)], axis=1)  # (T, 2)
    shape, strength = _ROUNDING[group]
    shapes = {"jaw_open": _OPENING[group] * sound[:, 0], shape: strength * sound[:, 1]}
    mouth, rest = _SHOWN[group]
    felt = rng.uniform(0.7, 1.0)
    for name, weight in EXPRESSIONS[emotion].items():
        shown = felt * weight * (mouth if name.startswith(("mouth", "jaw")) else rest)
        shapes[name] = np.clip(shapes.get(name, np.zeros(FRAMES)) + shown, 0, 1)
    still = np.zeros((FRAMES, 3), np.float32)
    motion = MeshMotion(rig.displacement(rig.weights(FRAMES, **shapes)), still, still, still[:, :2])
    at_50_hz = np.repeat(sound, 2, axis=0)
    heard = np.concatenate([at_50_hz, np.gradient(at_50_hz, axis=0) * 4], axis=1) @ _MIXING.T
    features = heard + 0.15 * rng.standard_normal(heard.shape)
    face, _ = random_face(rng)
    face[:, 0] *= _WIDTH[group]
    identity = with_unknown_appearance(geometry_features(face))
    tensors = motion_tensors(motion, latent)
    return {
        **tensors,
        "singles": np.zeros_like(tensors["singles"]),  # the picture that a clip begins with is of a face at rest
        "features0": features.astype(np.float16),
        "identity": identity.astype(np.float16),
    }


def _course(rng: np.random.Generator, smoothing: float) -> np.ndarray:
    """(T,) in [0, 1], open and closed by turns."""
    noise = gaussian_filter1d(rng.standard_normal(FRAMES + 40), smoothing)[20:-20]
    return np.clip(0.4 + 0.45 * noise / noise.std(), 0, 1)


# one run


def run(config: TrainConfig, stores: dict[str, ClipStore]) -> dict[str, Any]:
    """Trains one way with one seed. Figures by cell on the test clips, the commonest cell first, and the course of validation."""
    shutil.rmtree(config.out, ignore_errors=True)
    torch.manual_seed(config.loop.seed)
    speech = Wav2Vec2Model(small_encoder_config(64, 1))  # not used: the features are made up
    pipeline = AvatarPipeline(codec=MeshCodec(), speech_encoder=speech, **fresh_networks(config, FEATURE_DIM))  # type: ignore[arg-type]
    task = MeshTask(pipeline, stores["train"], range(len(stores["train"])), config)
    trainer = Trainer(task, _all(pipeline, stores["val"], config, task), config)
    trainer.run()
    test = _all(pipeline, stores["test"], config, task)
    with trainer.average.applied():
        trainer.networks.eval()
        loss = test_loss(test)
        lips, right = generated(pipeline, task.networks, stores["test"])
    cells, size = (
        cells_of(test.entries, config.balance.by),
        dict(zip(trainer.cells.names, trainer.cells.sizes, strict=True)),
    )
    order = sorted(range(len(cells)), key=lambda k: -size[cells.names[k]])
    clips = np.arange(len(test.entries))
    figures = {
        name: mean_by_cell(cells, clips, values)[order].tolist()
        for name, values in zip(FIGURES, (loss, lips, right), strict=True)
    }
    course = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = ("step", "held_out_mean_cell", "held_out_worst_cell")
    last = read_reports(Path(config.out) / "balance.jsonl")[-1]["cells"]
    return {
        **figures,
        "cells": [cells.names[k] for k in order],
        "clips": [size[cells.names[k]] for k in order],
        "weights": [next(row["weight"] for row in last if row["cell"] == cells.names[k]) for k in order],
        "course": [[line[key] for key in keys] for line in course if keys[1] in line],
    }


@torch.no_grad()
def test_loss(task: MeshTask) -> np.ndarray:
    """(N,) the loss of every clip, a mean over the same crops, noise and noise levels for all ways and seeds."""
    count = len(task.entries)
    draws = Draws(task, np.tile(np.arange(count), LOSS_DRAWS), epoch=0, seed=5, training=False)
    losses = []
    for start in range(0, len(draws), 64):
        batch = default_collate([draws[k] for k in range(start, min(start + 64, len(draws)))])
        losses.append(task.networks(batch)["loss"].numpy())
    return np.concatenate(losses).reshape(LOSS_DRAWS, count).mean(axis=0)


def config_of(arguments: argparse.Namespace, way: str, seed: int) -> TrainConfig:
    batch, steps = 16, arguments.steps
    return from_mapping({
        "out": str(arguments.out / f"{way}-{seed}"),
        "model": {"hidden_size": arguments.hidden, "num_layers": arguments.layers, "ffn_dim": 256, "token_dim": 64},
        "data": {"latent_frames": LATENT_FRAMES, "context_frames": 3},
        "balance": {"by": ["emotion", "group"], **WAYS[way]},
        "drop": {"emotion": 0.1},
        "optimiser": {"learning_rate": 2e-3, "warmup_steps": 50, "ema_decay": 0.99},
        "loop": {"seed": seed, "steps": steps, "batch_size": batch, "workers": 0, "mixed_precision": "no", "log_steps": 50,
                 "checkpoint_steps": steps, "keep_checkpoints": 1, "held_out_steps": max(1, steps // 10), "held_out_clips": 96},
        "log": {"trackers": []},
    })  # fmt: skip


def _all(pipeline: AvatarPipeline, store: ClipStore, config: TrainConfig, task: MeshTask) -> MeshTask:
    return MeshTask(pipeline, store, range(len(store)), config, task.networks)


@torch.no_grad()
def generated(pipeline: AvatarPipeline, networks: MeshNetworks, store: ClipStore) -> tuple[np.ndarray, np.ndarray]:
    """Each test clip made from a face at rest: correlation of the lips' opening with the truth, and whether the feeling shows."""
    batch, entries = _from_rest(pipeline, store, networks)
    count = len(entries)
    told = Conditioning(
        audio_tokens=networks.audio_projector(batch["windows"])[:, None],
        face_mask=MeshCodec.face_mask(LATENT_FRAMES).expand(count, 1, -1, -1, -1),
        identity_tokens=networks.identity_encoder(batch["identity"]),
        emotion_tokens=networks.emotion_encoder(
            batch["labels"][:, None].expand(-1, LATENT_FRAMES, -1),
            batch["expression"][:, None].expand(-1, LATENT_FRAMES, -1),
        ),
    )
    plan, sampling = ChunkPlan(LATENT_FRAMES - 1, 1), SamplingOptions(4, 3.0, audio_guidance(1.0))
    noise = torch.Generator().manual_seed(0)
    first = batch["latents"][:, :, :1]
    blocks = generate_latents(networks.transformer, first, told.frames, LATENT_FRAMES, plan, sampling, noise)
    made = torch.cat(list(blocks), dim=2)
    lips = [networks.lips(x)[:, 1:].unflatten(2, (4, 9)).mean(-1).flatten(1).numpy() for x in (made, batch["latents"])]
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(*lips, strict=True)])
    return np.nan_to_num(r), _feelings(_means(made), _means(batch["latents"]), entries)


def _from_rest(
    pipeline: AvatarPipeline, store: ClipStore, networks: MeshNetworks | None = None
) -> tuple[dict[str, torch.Tensor], list[ClipEntry]]:
    """One crop of every clip, each beginning with the picture at rest."""
    config = from_mapping({"data": {"latent_frames": LATENT_FRAMES, "context_frames": 3, "start_share": 1.0}})
    task = MeshTask(pipeline, store, range(len(store)), config, networks)
    return default_collate([
        task.sample(k, np.random.default_rng((5, k)), training=False) for k in range(len(task.entries))
    ]), task.entries  # fmt: skip


def _means(latents: torch.Tensor) -> np.ndarray:
    """(N, 256) over time, of what is made."""
    return latents[:, :, 2:].mean(2).flatten(1).numpy()


def _feelings(made: np.ndarray, true: np.ndarray, entries: list[ClipEntry]) -> np.ndarray:
    """Whether a made clip's mean latents lie nearest to those of other true clips with the same emotion and group."""
    cells = np.array(
        [(EMOTIONS.index(str(e.labels["emotion"])), GROUPS.index(str(e.labels["group"]))) for e in entries]
    )
    others = ~np.eye(len(entries), dtype=bool)
    right = []
    for own, mean, (emotion, group) in zip(others, made, cells, strict=True):
        centres = [true[(cells == (k, group)).all(1) & own].mean(0) for k in range(len(EMOTIONS))]
        right.append(int(np.argmin([((mean - centre) ** 2).sum() for centre in centres])) == emotion)
    return np.array(right, float)


def truth(store: ClipStore) -> float:
    """The same judgement of the true motion: the most that a model could reach."""
    config = from_mapping({"model": {"hidden_size": 64, "num_layers": 1, "ffn_dim": 64, "token_dim": 64}})
    speech = Wav2Vec2Model(small_encoder_config(64, 1))
    pipeline = AvatarPipeline(codec=MeshCodec(), speech_encoder=speech, **fresh_networks(config, FEATURE_DIM))  # type: ignore[arg-type]
    batch, entries = _from_rest(pipeline, store)
    return float(_feelings(_means(batch["latents"]), _means(batch["latents"]), entries).mean())


# what is told


def summary(result: dict[str, Any]) -> dict[str, float]:
    """The figures of one run: over all cells, the worst, and the third with the fewest clips and with the most."""
    third = len(result["cells"]) // 3
    out = {}
    for name in FIGURES:
        values = np.array(result[name])
        out |= {
            f"{name}, mean cell": values.mean(),
            f"{name}, worst cell": values.max() if name == "loss" else values.min(),
            f"{name}, rare third": values[-third:].mean(),
            f"{name}, common third": values[:third].mean(),
        }
    return out


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Means over seeds with 95 % intervals, and the differences from natural sampling, seed by seed."""
    ways = [way for way in results if way != "natural"]
    lines = [
        "| figure | " + " | ".join([*results, *(f"{way} - natural" for way in ways)]) + " |",
        "|---|" + "---|" * (len(results) + len(ways)),
    ]
    values = {way: [summary(result) for result in each] for way, each in results.items()}
    for name in values["natural"][0]:
        columns = {way: np.array([v[name] for v in each]) for way, each in values.items()}
        shown = [*columns.values(), *(columns[way] - columns["natural"] for way in ways)]
        lines.append(f"| {name} | " + " | ".join(map(_with_interval, shown)) + " |")
    return "\n".join(lines)


def cell_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Each cell, the commonest first: how often its clips are drawn at the end, and its figures, means over seeds."""
    first = results["natural"][0]
    lines = ["| cell | clips | " + " | ".join(f"{way}: draws, loss, lips, emotion" for way in results) + " |"]
    lines.append("|---|" + "---|" * (len(results) + 1))
    for k, (cell, clips) in enumerate(zip(first["cells"], first["clips"], strict=True)):
        columns = []
        for each in results.values():
            mean = [np.mean([result[name][k] for result in each]) for name in ("weights", *FIGURES)]
            columns.append("{:.1f}, {:.3f}, {:.2f}, {:.2f}".format(*mean))
        lines.append(f"| {cell} | {clips:g} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Figures by the cells' size, and the losses on validation over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = Figure(figsize=(13, 8), layout="constrained")
    axes = page.subplots(2, 3).ravel()
    for colour, (way, each) in enumerate(results.items()):
        clips = np.array(each[0]["clips"])
        for axis, name in zip(axes, FIGURES, strict=False):
            values = np.array([result[name] for result in each])
            axis.plot(clips, values.mean(0), "o-", color=f"C{colour}", label=way, markersize=4)
            axis.fill_between(clips, values.min(0), values.max(0), color=f"C{colour}", alpha=0.12, linewidth=0)
        for axis, column in zip(axes[3:], (1, 2), strict=False):
            course = np.array([result["course"] for result in each]).mean(0)
            axis.plot(course[:, 0], course[:, column], "o-", color=f"C{colour}", label=way, markersize=3)
    for axis, name in zip(axes, FIGURES, strict=False):
        axis.set(xscale="log", xlabel="clips of the cell in training", title=f"{name} on test clips (mean, range)")
        axis.invert_xaxis()
    for axis, name in zip(axes[3:], ("mean cell", "worst cell"), strict=False):
        axis.set(yscale="log", xlabel="step", title=f"validation loss, {name}")
    axes[0].legend()
    axes[5].axis("off")
    FigureCanvasAgg(page)
    page.savefig(path, dpi=90)


def _with_interval(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.3f}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    sys.exit(main())
