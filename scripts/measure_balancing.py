"""Does balanced sampling help the rare? Trains on a made-up long tail, emotion x group, three ways, and compares.

    python scripts/measure_balancing.py OUT_DIR [--steps 600] [--seeds 3]

Twelve cells, the rarest with a hundredth of the clips of the commonest. A group differs in the shape of its faces, in how the
mouth makes the same sounds and in how an emotion is shown, so that a cell has something of its own to be learned. Natural,
balanced, and balanced with dynamic re-weighting see the same clips, start from the same weights and make as many steps. The
model is the embedded one's class and loss at a smaller size; sounds are made-up features. OUT_DIR receives `balancing.json`, a
table and plots.
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
from transformers import Wav2Vec2Model

from avatar.audio.encoder import small_encoder_config
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.latent import GeometryLatent
from avatar.codec.mesh.motion import MeshMotion
from avatar.codec.mesh.rig import default_rig
from avatar.data.clip_dataset import ClipEntry, ClipStore
from avatar.data.sampling.report import mean_by_cell
from avatar.data.synthetic.faces import random_face
from avatar.dit.generate import ChunkPlan, SamplingOptions, generate_latents
from avatar.dit.guidance import audio_guidance
from avatar.emotion.labels import EXPRESSIONS
from avatar.identity.features import geometry_features, with_unknown_appearance
from avatar.pipeline import AvatarPipeline
from avatar.train.config import TrainConfig
from avatar.train.config_file import from_mapping
from avatar.train.loop import Trainer
from avatar.train.mesh_task import MeshTask, fresh_networks
from avatar.train.prepare_mesh import motion_tensors
from avatar.types import Conditioning

EMOTIONS = ("neutral", "happy", "sad", "surprised")
GROUPS = ("a", "b", "c")
RATIO = 100
FRAMES = 49
FEATURE_DIM = 16
LATENT_FRAMES = 9
WAYS: dict[str, dict[str, Any]] = {
    "natural": {"beta": 0.0},
    "balanced": {},
    "dynamic": {"dynamic_rate": 0.5},
}
FIGURES = ("worst_loss", "mean_loss", "tail_loss", "head_loss", "lip_r", "worst_lip_r", "emotion", "worst_emotion")
_OPENING = {"a": 0.75, "b": 0.5, "c": 0.3}  # how far a group opens for the same sound
_ROUNDING = {"a": ("mouth_pucker", 0.7), "b": ("mouth_funnel", 0.6), "c": ("mouth_stretch", 0.6)}
_SHOWN = {"a": (1.0, 1.0), "b": (1.0, 0.3), "c": (0.3, 1.0)}  # how much of a feeling the mouth and the rest show
_WIDTH = {"a": 0.88, "b": 1.0, "c": 1.12}
_MIXING = np.random.default_rng(99).standard_normal((FEATURE_DIM, 4)) / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=400, help="clips of the commonest cell")
    parser.add_argument("--hidden", type=int, default=128, help="width of the transformer")
    parser.add_argument("--layers", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    stores = make_stores(arguments.out, arguments.largest)
    results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(arguments.seeds):
        for way in WAYS:
            started = time.process_time()
            config = config_of(arguments, way, seed, len(stores["train"]))
            results[way].append(run(config, stores))
            results[way][-1]["cpu_s"] = time.process_time() - started
            print(seed, way, json.dumps(results[way][-1]), file=sys.stderr, flush=True)
            path = arguments.out / "balancing.json"
            told = {
                "steps": arguments.steps,
                "hidden": arguments.hidden,
                "layers": arguments.layers,
                "results": results,
            }
            path.write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(table(results))
    return 0


# clips


def make_stores(out: Path, largest: int) -> dict[str, ClipStore]:
    """Training clips with the long tail; as many of every cell for validation (which steers `dynamic`) and for the test."""
    cells = sorted(
        ((e, g) for e in range(len(EMOTIONS)) for g in range(len(GROUPS))), key=lambda c: (c[0] * 0.9 + c[1], c)
    )
    tail = largest * RATIO ** (-np.arange(len(cells)) / (len(cells) - 1))
    counts = {
        "train": np.maximum(1, tail.round().astype(int)),
        "val": np.full(len(cells), 4),
        "test": np.full(len(cells), 10),
    }
    stores, latent, number = {}, GeometryLatent(), 0
    for split, sizes in counts.items():
        store = ClipStore(out / "clips" / split, {"largest": largest, "frames": FRAMES})
        known = store.known()
        for (emotion, group), size in zip(cells, sizes, strict=True):
            for _ in range(size):
                number += 1
                clip_id = f"{split}{number:05d}"
                if clip_id not in known:
                    labels: dict[str, Any] = {"emotion": EMOTIONS[emotion], "group": GROUPS[group]}
                    store.add(ClipEntry(clip_id, FRAMES, clip_id, labels=labels), clip(labels, number, latent))
        stores[split] = store
    return stores


def clip(labels: dict[str, str], number: int, latent: GeometryLatent) -> dict[str, np.ndarray]:
    """One clip: sound that is two courses, a mouth that follows them as its group does, and a feeling."""
    rng, rig = np.random.default_rng((7, number)), default_rig()
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
    return {
        **motion_tensors(motion, latent),
        "features0": features.astype(np.float16),
        "identity": identity.astype(np.float16),
    }


def _course(rng: np.random.Generator, smoothing: float) -> np.ndarray:
    """(T,) in [0, 1], open and closed by turns."""
    noise = gaussian_filter1d(rng.standard_normal(FRAMES + 40), smoothing)[20:-20]
    return np.clip(0.4 + 0.45 * noise / noise.std(), 0, 1)


# one run


def run(config: TrainConfig, stores: dict[str, ClipStore]) -> dict[str, float]:
    """Trains one way with one seed and measures it on the test clips."""
    shutil.rmtree(config.out, ignore_errors=True)
    torch.manual_seed(config.loop.seed)
    speech = Wav2Vec2Model(small_encoder_config(64, 1))  # not used: the features are made up
    pipeline = AvatarPipeline(codec=MeshCodec(), speech_encoder=speech, **fresh_networks(config, FEATURE_DIM))  # type: ignore[arg-type]
    task = MeshTask(pipeline, stores["train"], range(len(stores["train"])), config)
    trainer = Trainer(task, _all(pipeline, stores["val"], config, task), config)
    trainer.run()
    trainer.held_out = _all(pipeline, stores["test"], config, task)
    cells, clips, figures = trainer.held_out_figures()
    loss = mean_by_cell(cells, clips, figures["loss"])
    size = {name: n for name, n in zip(trainer.cells.names, trainer.cells.sizes, strict=True)}
    order = np.argsort([size[name] for name in cells.names])
    with trainer.average.applied():
        trainer.networks.eval()
        lips, right = generated(trainer, stores)
    lip_r, emotion = (mean_by_cell(cells, np.arange(len(lips)), values) for values in (lips, right))
    third = len(order) // 3
    return {
        "worst_loss": float(loss.max()), "mean_loss": float(loss.mean()), "tail_loss": float(loss[order[:third]].mean()),
        "head_loss": float(loss[order[-third:]].mean()), "lip_r": float(lip_r.mean()), "worst_lip_r": float(lip_r.min()),
        "emotion": float(emotion.mean()), "worst_emotion": float(emotion.min()),
    }  # fmt: skip


def config_of(arguments: argparse.Namespace, way: str, seed: int, num_clips: int) -> TrainConfig:
    batch, steps = 16, arguments.steps
    return from_mapping({
        "out": str(arguments.out / f"{way}-{seed}"),
        "model": {"hidden_size": arguments.hidden, "num_layers": arguments.layers, "ffn_dim": 256, "token_dim": 64},
        "data": {"latent_frames": LATENT_FRAMES, "context_frames": 3},
        "balance": {"by": ["emotion", "group"], "anneal": [0.0, 0.2], **WAYS[way]},
        "drop": {"emotion": 0.1},
        "optimiser": {"learning_rate": 2e-3, "warmup_steps": 50, "ema_decay": 0.99},
        "loop": {"seed": seed, "steps": steps, "batch_size": batch, "workers": 0, "mixed_precision": "no", "log_steps": 50,
                 "checkpoint_steps": steps, "keep_checkpoints": 1, "held_out_steps": max(1, num_clips // batch),
                 "held_out_clips": 120},
        "log": {"trackers": []},
    })  # fmt: skip


def _all(pipeline: AvatarPipeline, store: ClipStore, config: TrainConfig, task: MeshTask) -> MeshTask:
    return MeshTask(pipeline, store, range(len(store)), config, task.networks)


@torch.no_grad()
def generated(trainer: Trainer, stores: dict[str, ClipStore]) -> tuple[np.ndarray, np.ndarray]:
    """Each test clip made from its first frame: correlation of the lips' opening with the truth, and whether the feeling shows."""
    task, networks = trainer.held_out, trainer.networks
    config = from_mapping({"data": {"latent_frames": LATENT_FRAMES, "context_frames": 3, "start_share": 1.0}})
    whole = MeshTask(task._pipeline, stores["test"], range(len(stores["test"])), config, networks)  # type: ignore[union-attr, arg-type]
    samples = [whole.sample(k, np.random.default_rng((5, k)), training=False) for k in range(len(whole.entries))]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    count = len(samples)
    told = Conditioning(
        audio_tokens=networks.audio_projector(batch["windows"])[:, None],
        face_mask=MeshCodec.face_mask(LATENT_FRAMES).expand(count, 1, -1, -1, -1),
        identity_tokens=networks.identity_encoder(batch["identity"]),
        emotion_tokens=networks.emotion_encoder(
            batch["labels"][:, None].expand(-1, LATENT_FRAMES, -1),
            batch["expression"][:, None].expand(-1, LATENT_FRAMES, -1),
        ),
    )
    neutral = batch["latents"][:, :, :1] * 0  # as from a photo at rest: the feeling has to set in by itself
    plan, sampling = ChunkPlan(LATENT_FRAMES - 1, 1), SamplingOptions(4, 3.0, audio_guidance(1.0))
    noise = torch.Generator().manual_seed(0)
    blocks = generate_latents(networks.transformer, neutral, told.frames, LATENT_FRAMES, plan, sampling, noise)
    made = torch.cat(list(blocks), dim=2)
    lips = [networks.lips(x)[:, 1:].unflatten(2, (4, 9)).mean(-1).flatten(1).numpy() for x in (made, batch["latents"])]
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(*lips, strict=True)])
    return np.nan_to_num(r), _feelings(made, batch["latents"], whole.entries)


def _feelings(made: torch.Tensor, true: torch.Tensor, entries: list[ClipEntry]) -> np.ndarray:
    """Whether a made clip's mean latents lie nearest to those of true clips with the same emotion and group."""
    means = [x[:, :, 2:].mean(2).flatten(1).numpy() for x in (made, true)]
    cells = np.array(
        [(EMOTIONS.index(str(e.labels["emotion"])), GROUPS.index(str(e.labels["group"]))) for e in entries]
    )
    right = []
    for mean, (emotion, group) in zip(means[0], cells, strict=True):
        centres = [means[1][(cells == (k, group)).all(1)].mean(0) for k in range(len(EMOTIONS))]
        right.append(int(np.argmin([((mean - centre) ** 2).sum() for centre in centres])) == emotion)
    return np.array(right, float)


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Means over seeds with 95 % intervals, and the paired difference from natural sampling."""
    lines = [
        "| figure | " + " | ".join(WAYS) + " | balanced - natural | dynamic - natural |",
        "|---|" + "---|" * (len(WAYS) + 2),
    ]
    for name in FIGURES:
        values = {way: np.array([r[name] for r in results[way]]) for way in WAYS}
        pairs = [values[way] - values["natural"] for way in ("balanced", "dynamic")]
        cells = [_with_interval(v) for v in (*values.values(), *pairs)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_interval(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.3f}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ± {half:.3f}"


if __name__ == "__main__":
    sys.exit(main())
