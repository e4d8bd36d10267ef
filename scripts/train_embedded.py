"""Trains the embedded weights from the synthetic corpus, in two stages, each resumable.

python scripts/train_embedded.py encoder CORPUS_DIR RUN_DIR     speech encoder
python scripts/train_embedded.py generator CORPUS_DIR RUN_DIR   motion generator, on the finished encoder
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from avatar.train.encoder import EncoderRecipe, train_encoder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("encoder", "generator"))
    parser.add_argument("corpus", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="changes one number of the recipe"
    )
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = EncoderRecipe()
    changes = dict(item.split("=", 1) for item in arguments.set)
    recipe = dataclasses.replace(
        recipe, **{name: type(getattr(recipe, name))(value) for name, value in changes.items()}
    )
    train_encoder(
        arguments.corpus,
        arguments.run / "encoder",
        recipe,
        device=arguments.device,
        log=lambda line: print(line, flush=True),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
