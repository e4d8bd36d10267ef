"""Remakes the embedded weights, data and all; every stage resumes where it stopped.

    python scripts/train_embedded.py all CORPUS_DIR RUN_DIR [--weights avatar/weights/embedded]

Stages, each also by name: `corpus` synthesises the speech (needs Debian's speech synthesisers, see
scripts/make_embedded_corpus.py; voices that are there are kept), `encoder` trains the speech encoder, `cache` makes the
generator's training data with it, `generator` trains the motion generator, `opening` fits the estimator of the lips' opening,
`assemble` writes the pipeline with half-precision weights.
Measured on 2 cores (AMD EPYC) with nothing else running: see avatar/weights/embedded/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import TypeVar

import torch
from transformers import Wav2Vec2Model

from avatar.data.synthetic.corpus import make_speech
from avatar.pipeline import AvatarPipeline, assemble_pipeline
from avatar.train.encoder import EncoderRecipe, train_encoder
from avatar.train.generator import GeneratorRecipe, train_generator
from avatar.train.motion_cache import load_items, prepare
from avatar.train.opening import fit_opening

STAGES = ("corpus", "encoder", "cache", "generator", "opening", "assemble")
TRAIN_SHARDS, HELD_OUT_SHARDS, OPENING_SHARDS = 40, 2, 10
Recipe = TypeVar("Recipe", EncoderRecipe, GeneratorRecipe)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("corpus", type=Path, help="where the synthetic speech is, or will be; about 1 GB")
    parser.add_argument("run", type=Path, help="checkpoints, logs and the cache; about 1 GB")
    parser.add_argument("--weights", type=Path, default=Path("avatar/weights/embedded"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--encoder", action="append", default=[], metavar="NAME=VALUE", help="changes the encoder's recipe"
    )
    parser.add_argument(
        "--generator", action="append", default=[], metavar="NAME=VALUE", help="changes the generator's recipe"
    )
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for stage in STAGES if arguments.stage == "all" else (arguments.stage,):
        globals()[f"run_{stage}"](arguments)
    return 0


def run_corpus(arguments: argparse.Namespace) -> None:
    def progress(voice: str, done: float) -> None:
        if done >= 1:
            _log({voice: done})

    make_speech(arguments.corpus, seed=0, progress=progress)


def run_encoder(arguments: argparse.Namespace) -> None:
    recipe = _changed(EncoderRecipe(), arguments.encoder)
    train_encoder(arguments.corpus, arguments.run / "encoder", recipe, device=arguments.device, log=_log)


def run_cache(arguments: argparse.Namespace) -> None:
    encoder = Wav2Vec2Model.from_pretrained(arguments.run / "encoder/speech_encoder").eval()
    for split, shards in (("held-out", HELD_OUT_SHARDS), ("train", TRAIN_SHARDS)):
        folder = arguments.run / "cache" / split
        prepare(arguments.corpus, encoder, folder, split, shards, seed=0, progress=lambda done: _log({"cached": done}))


def run_generator(arguments: argparse.Namespace) -> None:
    recipe = _changed(GeneratorRecipe(), arguments.generator)
    cache = arguments.run / "cache"
    train_generator(
        load_items(cache / "train", TRAIN_SHARDS),
        arguments.run / "generator",
        recipe,
        held_out=load_items(cache / "held-out", HELD_OUT_SHARDS),
        device=arguments.device,
        log=_log,
    )


def run_opening(arguments: argparse.Namespace) -> None:
    teacher = torch.load(arguments.run / "encoder/checkpoint.pt", map_location="cpu", weights_only=True)["parts"][
        "model"
    ]
    items = load_items(arguments.run / "cache/train", OPENING_SHARDS)
    estimator = fit_opening(items, teacher["curves.weight"][-1].float(), teacher["curves.bias"][-1].float())
    estimator.save_pretrained(arguments.run / "generator/generator/opening_estimator")


def run_assemble(arguments: argparse.Namespace) -> None:
    pipeline: AvatarPipeline = assemble_pipeline(
        arguments.run / "encoder/speech_encoder", arguments.run / "generator/generator"
    )
    for component in pipeline.components.values():
        component.half()
    staging = arguments.run / "assembled"
    shutil.rmtree(staging, ignore_errors=True)
    pipeline.save_pretrained(staging)
    for path in staging.glob("*/config.json"):  # where the parts came from is nobody's business
        config = {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"}
        path.write_text(json.dumps(config, indent=2) + "\n")
    arguments.weights.mkdir(parents=True, exist_ok=True)
    shutil.copytree(staging, arguments.weights, dirs_exist_ok=True)


def _changed(recipe: Recipe, changes: list[str]) -> Recipe:
    pairs = dict(item.split("=", 1) for item in changes)
    return dataclasses.replace(recipe, **{name: type(getattr(recipe, name))(value) for name, value in pairs.items()})


def _log(line: dict[str, float]) -> None:
    sys.stderr.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
