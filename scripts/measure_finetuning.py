"""Measures what fitting the embedded model to real footage gains on people it was not fitted to.

The people of a folder of videos are divided into parts; for each part the recipe `embedded-own-footage` is trained on all others,
and the movement it then makes from the sound of that part's clips is compared with the movement that was tracked, beside the
weights it began with. Every person is judged once, by a model that never saw them. Nothing but the scores is kept.

    python scripts/measure_finetuning.py CLIPS OUT [--set loop.steps=200] [--seeds 0 1]

CLIPS has a manifest.csv with a column `path` and one that says who it is (`identity`, `person`, `group`, …). Of a list with the
columns `kind` and `sync_tier`, the rows `talking` and `--tier` are taken. Prepared clips stay in OUT/cache for the next time.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatar.audio.alignment import audio_windows
from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.latent import LATENT_CHANNELS, LATENT_GRID, GeometryLatent
from avatar.data.clip_dataset import ClipStore
from avatar.data.clip_sources import MANIFEST
from avatar.dit.generate import generate_latents
from avatar.dit.guidance import audio_guidance
from avatar.emotion.labels import EmotionMix, shapes_of
from avatar.errors import InputError
from avatar.evaluate.correlation import lag_correlation
from avatar.evaluate.memory import peak_memory_mb
from avatar.pipeline import DEFAULT_GUIDANCE, DEFAULT_STEPS, SIGMA_SHIFT, TEMPERATURE, AvatarPipeline, SamplingOptions
from avatar.train.assemble import prepare
from avatar.train.config import TrainConfig
from avatar.train.config_file import load_config
from avatar.train.generator import LipGap
from avatar.train.loop import Reports, Trainer
from avatar.train.mesh_task import MeshTask
from avatar.types import Conditioning

PEOPLE = ("identity", "person", "speaker", "portrait", "group")
FIGURES = ("lips", "lips_lag_0", "range", "jitter")
PORTRAIT_WITHIN_S = 1.0
SCORED_S = 12.0  # of each clip, from its beginning


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", type=int, default=2, help="of the people (default: 2, halves)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the division and of the run")
    parser.add_argument("--tier", default="A", help="sync tiers to take (default: A)")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="as avatar train"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sources = linked(arguments.clips, arguments.out / "clips", arguments.tier)
    config = load_config(
        "embedded-own-footage",
        [f"data.sources=['{sources}']", f"data.cache={(arguments.out / 'cache').resolve()}", "log.trackers=[]",
         "loop.mixed_precision=no", "loop.workers=0", *arguments.changes],
    )  # fmt: skip
    store, _ = prepare(config, lambda done, total: print(f"{done}/{total} prepared", file=sys.stderr))
    rows = []
    before = scores(AvatarPipeline.from_pretrained(config.model.init), store, range(len(store)))
    for seed in arguments.seeds:
        for part, held_out in enumerate(divided(store, arguments.parts, seed)):
            run = replace(config, out=str(arguments.out / f"run-{seed}-{part}"), loop=replace(config.loop, seed=seed))
            after, told = fitted(run, store, held_out)
            for clip in held_out:
                row = {"seed": seed, "part": part, "clip": store.entries[clip].clip_id, "person": _person(store, clip)}
                rows.append({**row, "before": before[clip], "after": after[clip]})
            print(json.dumps({"seed": seed, "part": part, **told}), file=sys.stderr, flush=True)
            (arguments.out / "finetuning.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))
    return 0


# clips


def linked(clips: Path, folder: Path, tiers: str) -> Path:
    """A plain folder with links to the clips that are taken, and who is in them."""
    try:
        with (clips / MANIFEST).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as err:
        raise InputError(
            f"{clips / MANIFEST} cannot be read: {err.strerror}; it names the clips and who is in them"
        ) from err
    rows = [row for row in rows if row.get("kind", "talking") == "talking" and row.get("sync_tier", tiers[0]) in tiers]
    who = next((name for name in PEOPLE if rows and name in rows[0]), None)
    if who is None:
        raise InputError(f"{clips / MANIFEST} has no clips, or no column that says who it is: {', '.join(PEOPLE)}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "identity"])
        for row in rows:
            source = (clips / row["path"]).resolve()
            link = folder / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source)
            writer.writerow([source.name, row[who]])
    return folder


def divided(store: ClipStore, parts: int, seed: int) -> list[list[int]]:
    """The clips in parts of about as many, each person's in one of them."""
    people = sorted({_person(store, k) for k in range(len(store))})
    out: list[list[int]] = [[] for _ in range(parts)]
    for k in np.random.default_rng((seed, 19)).permutation(len(people)):
        min(out, key=len).extend(c for c in range(len(store)) if _person(store, c) == people[k])
    return [sorted(part) for part in out]


def _person(store: ClipStore, clip: int) -> str:
    return store.entries[clip].person or store.entries[clip].clip_id


# one run


def fitted(
    config: TrainConfig, store: ClipStore, held_out: Sequence[int]
) -> tuple[dict[int, dict[str, float]], dict[str, Any]]:
    """Trains on all clips but those held out, and scores these; with the time and memory it took."""
    shutil.rmtree(config.out, ignore_errors=True)
    torch.manual_seed(config.loop.seed)
    pipeline = AvatarPipeline.from_pretrained(config.model.init)
    task = MeshTask(pipeline, store, [k for k in range(len(store)) if k not in set(held_out)], config)  # type: ignore[arg-type]
    check = MeshTask(pipeline, store, held_out, config, task.networks)  # type: ignore[arg-type]
    lines: list[dict[str, float]] = []
    started, cpu = time.monotonic(), time.process_time()
    model = Trainer(task, check, config, Reports(figures=lines.append)).run()
    told = {
        "clips": len(task.clips), "steps": config.loop.steps, "wall_s": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu, "peak_mb": peak_memory_mb(),
        "held_out_loss": [line["held_out_loss"] for line in lines if "held_out_loss" in line],
        "waiting_share": lines[-1].get("waiting_share"),
    }  # fmt: skip
    after = scores(AvatarPipeline.from_pretrained(model), store, held_out)
    shutil.rmtree(config.out)
    return after, told


@torch.no_grad()
def scores(pipeline: Any, store: ClipStore, clips: Sequence[int]) -> dict[int, dict[str, float]]:
    """Each clip made from its sound, the most closed mouth of its first second and its identity, against what was tracked."""
    lips = LipGap(GeometryLatent())
    return {clip: _score(pipeline, store, clip, lips) for clip in clips}


def _score(pipeline: Any, store: ClipStore, clip: int, lips: Callable[[Tensor], Tensor]) -> dict[str, float]:
    def read(name: str) -> Tensor:
        return torch.from_numpy(store.read(clip, name).astype(np.float32))

    singles = (
        read("singles")[: round(SCORED_S * MeshCodec.fps)]
        .reshape(-1, LATENT_CHANNELS, *LATENT_GRID)
        .swapaxes(0, 1)[None]
    )
    truth = lips(singles)[0].unflatten(1, (GROUP_FRAMES, -1))[:, 0].mean(-1).numpy()
    first = int(truth[: round(PORTRAIT_WITHIN_S * MeshCodec.fps)].argmin())
    frames = 1 + (len(truth) - 1) // GROUP_FRAMES
    margin = pipeline.audio_projector.config.margin_features
    windows = audio_windows(
        read("features0"), 0, frames, temporal_stride=GROUP_FRAMES, margin_features=margin, offset=0
    )
    sound = pipeline.audio_projector(windows[None])[0]
    weights = torch.tensor(EmotionMix.parse("neutral").weights)
    shown = torch.from_numpy(MeshCodec.felt_weights(shapes_of(weights.tolist())))
    emotion = pipeline.emotion_encoder(weights[None, None], shown[None, None])
    identity = pipeline.identity_encoder(read("identity")[None])

    def conditioning(start: int, stop: int) -> Conditioning:
        return Conditioning(
            audio_tokens=sound[start:stop][None, None],
            face_mask=MeshCodec.face_mask(stop - start)[None, None],
            identity_tokens=identity,
            emotion_tokens=emotion.expand(-1, stop - start, -1, -1),
        )

    sampling = SamplingOptions(DEFAULT_STEPS, SIGMA_SHIFT, audio_guidance(DEFAULT_GUIDANCE), TEMPERATURE)
    blocks = generate_latents(
        pipeline.transformer, singles[:, :, first : first + 1], conditioning, frames, pipeline.plan, sampling,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    gap = (
        lips(torch.cat(list(blocks), dim=2))[0]
        .unflatten(1, (GROUP_FRAMES, -1))
        .mean(-1)
        .flatten()[GROUP_FRAMES - 1 :]
        .numpy()
    )
    truth = truth[: len(gap)]
    found = lag_correlation(gap, truth)
    trembling, true_trembling = (float(np.abs(np.diff(x, 2)).mean()) for x in (gap, truth))
    return {
        "lips": found.best, "lips_lag_0": found.at_zero, "range": float(gap.std() / truth.std()),
        "jitter": trembling / true_trembling,
    }  # fmt: skip


# what came out


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over clips before and after, and the difference with a 95 % interval by drawing people again (bootstrap)."""
    lines = ["| figure | before | after | difference | better in |", "|---|---|---|---|---|"]
    people = sorted({row["person"] for row in rows})
    rng = np.random.default_rng(0)
    for name in FIGURES:
        before, after = (np.array([row[when][name] for row in rows]) for when in ("before", "after"))
        by_person = [np.flatnonzero([row["person"] == person for row in rows]) for person in people]
        drawn = [np.concatenate([by_person[k] for k in rng.integers(0, len(people), len(people))]) for _ in range(2000)]
        low, high = np.quantile([(after - before)[k].mean() for k in drawn], [0.025, 0.975])
        share = (after > before).mean()
        lines.append(
            f"| {name} | {before.mean():.3f} | {after.mean():.3f} | {(after - before).mean():+.3f} ({low:+.3f} to {high:+.3f}) "
            f"| {share:.0%} of {len(rows)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
