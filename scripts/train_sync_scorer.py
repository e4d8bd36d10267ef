"""Trains the offline sync scorer's model and writes it as the package ships it, with its figures on held-out voices.

RUN_DIR is what scripts/train_embedded.py leaves: `encoder/speech_encoder` and `cache` (its stages corpus, encoder, cache). The
encoder must be the one in avatar/weights/embedded: after a new one has been assembled, run this again.

    python scripts/train_sync_scorer.py RUN_DIR [--weights avatar/weights/sync] [--items 2500]

A minute or two of one CPU thread. Prints the loss, then how often offsets are found and how well true sound is told from
swapped on held-out voices, 2 s and 5 s, lips as a tracker would see them.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from avatar.data.scorers.sync import sync_of
from avatar.data.sync.model import SyncModel, SyncModelConfig
from avatar.data.sync.sound import encoder_fingerprint, shipped_encoder_folder
from avatar.errors import AvatarError, WeightsError
from avatar.train.motion_cache import ITEMS_PER_SHARD, load_items
from avatar.train.sync import SyncItem, SyncRecipe, as_tracked, sync_items, train_sync

HELD_OUT_SHARDS = 2
MAX_BYTES = 3_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of scripts/train_embedded.py")
    parser.add_argument("--weights", type=Path, default=Path("avatar/weights/sync"))
    parser.add_argument("--items", type=int, default=2500, help="utterances to train on (default: 2500)")
    parser.add_argument("--steps", type=int, default=SyncRecipe.steps)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        _check_encoder(arguments.run)
        shards = math.ceil(arguments.items / ITEMS_PER_SHARD)
        items = sync_items(load_items(arguments.run / "cache" / "train", shards)[: arguments.items])
        held_out = sync_items(load_items(arguments.run / "cache" / "held-out", HELD_OUT_SHARDS))
    except (AvatarError, OSError) as err:
        sys.stderr.write(f"{err}\n")
        return 1
    config = SyncModelConfig(sound_dim=items[0].sound.shape[1], encoder_sha256=encoder_fingerprint())
    started = time.process_time()
    recipe = dataclasses.replace(SyncRecipe(), steps=arguments.steps, seed=arguments.seed)
    model = train_sync(items, config, recipe, log=lambda line: sys.stderr.write(f"{line}\n"))
    print(f"{len(items)} utterances, {recipe.steps} steps, {time.process_time() - started:.0f} s of processor time")
    model.save(arguments.weights)
    size = (arguments.weights / "model.safetensors").stat().st_size
    print(f"{arguments.weights}: {sum(p.numel() for p in model.parameters())} parameters, {size} bytes")
    for seconds in (2, 5):
        print(held_out_figures(model, held_out, round(seconds * 25)))
    return 0 if size <= MAX_BYTES else 1


def held_out_figures(model: SyncModel, items: list[SyncItem], num_frames: int) -> str:
    """Offsets found and true sound told from swapped, in words."""
    rng = np.random.default_rng(6)
    chosen = [item for item in items if len(item.lips) >= num_frames + 10]
    hits, true, swapped = [], [], []
    for index, item in enumerate(chosen):
        other = chosen[(index + 7) % len(chosen)]
        lips, found = as_tracked(item.lips[10 : 10 + num_frames], other.lips, rng)
        own = sync_of(model, item.sound[10 : 10 + num_frames], lips, found > 0)
        strange = sync_of(model, other.sound[10 : 10 + num_frames], lips, found > 0)
        if own is None or strange is None:
            continue
        hits.append(abs(own.offset_frames) <= 1)
        true.append(-own.distance)
        swapped.append(-strange.distance)
    auc = float(np.mean(np.array(true)[:, None] > np.array(swapped)[None]))
    return (
        f"held out, {num_frames / 25:g} s, {len(hits)} clips: offset within a frame {np.mean(hits):.3f}, "
        f"AUC of true nearer than swapped sound {auc:.3f}"
    )


def _check_encoder(run: Path) -> None:
    """The cache's encoder must be the shipped one, which is kept in half precision."""
    cached = load_file(run / "encoder" / "speech_encoder" / "model.safetensors")
    shipped = load_file(shipped_encoder_folder() / "model.safetensors")
    if set(cached) != set(shipped) or any(not torch.equal(cached[k].half(), shipped[k].half()) for k in shipped):
        raise WeightsError(
            f"{run}/cache was made with another speech encoder than the shipped one; assemble that run's weights first "
            "(scripts/train_embedded.py assemble), or give the run of the shipped weights"
        )


if __name__ == "__main__":
    sys.exit(main())
