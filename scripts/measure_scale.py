"""Prints what a large curation costs where nothing is decoded: limits, the search for duplicates, the report, an explanation.

    python scripts/measure_scale.py [--clips 100000 1000000] [--folder DIR]

Makes an output folder as a run over N made-up clips of 9 s would leave it (one clip in a hundred has a copy), and times what
works on tables alone: processor seconds, wall-clock seconds, and the most memory that the process has held.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from avatar.data import explain, rethreshold
from avatar.data.curation.config import CurationConfig
from avatar.data.curation.folder import CurationFolder
from avatar.data.curation.limits import Limit
from avatar.data.curation.scoring import Stage, score, stages_of
from avatar.data.curation.segments import CLIP_COLUMNS
from avatar.data.engines.local import LocalEngine
from avatar.data.engines.work import sidecar_schema
from avatar.data.manifest import read_table, write_table
from avatar.data.report import write_report
from avatar.data.scorers.fingerprints import AUDIO_HZ, MOTION_HZ, MOTION_ROWS
from avatar.data.scorers.sync import BACKEND
from avatar.evaluate.memory import peak_memory_mb

CLIP_S, CLIPS_PER_SOURCE = 9.0, 20
FILES_ROWS = 256  # as engines write them


def make_folder(root: Path, count: int, rng: np.random.Generator) -> None:
    """What a run over `count` clips leaves, but for manifest, shards and tracks."""
    folder, config = CurationFolder(root), CurationConfig.load({"export": {"media": "none"}})
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.write_settings(config.values)
    ids = [f"{i:016x}" for i in rng.permutation(count)]
    write_table(folder.clips, clips_table(ids))
    copied = max(1, count // 100)
    twins = np.arange(count)
    twins[-copied:] = twins[:copied]
    for stage in stages_of(config["scorers"], config, folder):
        fixed = {name: prints(name, count, twins, rng) for name in ("phash8", "phash_crops", "motion_fp", "audio_fp")}
        table = stage_table(stage, ids, fixed, config.limits, rng)
        for number, start in enumerate(range(0, count, FILES_ROWS)):
            write_table(stage.folder / f"{number:08x}.parquet", table.slice(start, FILES_ROWS))


def clips_table(ids: list[str]) -> pa.Table:
    """The clips of sources of some minutes."""
    count = len(ids)
    numbers = np.arange(count)
    texts = {
        "clip_id": ids,
        "source_key": [f"{i // CLIPS_PER_SOURCE:016x}" for i in numbers],
        "source_id": [f"videos/{i // CLIPS_PER_SOURCE:08d}.mp4" for i in numbers],
        "source_uri": [f"/footage/videos/{i // CLIPS_PER_SOURCE:08d}.mp4" for i in numbers],
        "source_sha256": [f"{i // CLIPS_PER_SOURCE:064x}" for i in numbers],
        "language": [("en", "de", "zh", "cy")[i % 4] for i in numbers],
    }
    starts = (numbers % CLIPS_PER_SOURCE) * CLIP_S
    numbered = {
        "start_s": starts,
        "end_s": starts + CLIP_S,
        "duration_s": np.full(count, CLIP_S),
        "fps": np.full(count, 25.0),
        "source_fps": np.full(count, 25.0),
    }
    numbered |= {"width_px": np.full(count, 1280), "height_px": np.full(count, 720), "n_channels": np.full(count, 2)}
    numbered |= {"n_frames": np.full(count, 225), "media_bytes": 1_000_000 + numbers}
    columns = {**texts, **numbered}
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(count, f.type) for f in CLIP_COLUMNS
    ]
    return pa.table(arrays, schema=CLIP_COLUMNS)


def prints(name: str, count: int, twins: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """Fingerprints of the size that clips of 9 s have; a twin's are the other's but for a few bits."""
    if name.startswith("phash"):
        words = np.repeat(rng.integers(0, 2**63, (count, 1), dtype=np.uint64), 8 if name == "phash8" else 16, axis=1)
        words ^= np.uint64(1) << rng.integers(0, 63, words.shape, dtype=np.uint64)
    elif name == "motion_fp":
        words = rng.integers(-40, 40, (count, round(CLIP_S * MOTION_HZ) * MOTION_ROWS)).astype(np.int8)
    else:
        words = rng.integers(1, 2**32, (count, round(CLIP_S * AUDIO_HZ)), dtype=np.uint32)
    words = words[twins]
    size = words.shape[1] * words.itemsize
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), count, [None, pa.py_buffer(words.tobytes())])
    return fixed if name == "phash8" else fixed.cast(pa.binary())


def values(column: str, count: int, limits: Sequence[Limit], rng: np.random.Generator) -> np.ndarray:
    """Numbers of which one in forty is beyond each limit of the column."""
    own = [one for one in limits if one.column == column and one.when.get("sync_backend", BACKEND) == BACKEND]
    lows = [x for one in own for x in (one.min, None if one.max_abs is None else -one.max_abs) if x is not None]
    highs = [x for one in own for x in (one.max, one.max_abs) if x is not None]
    low = max(lows) if lows else min(highs, default=0.0) - 1.0
    high = min(highs) if highs else low + 1.0
    beyond = (high - low) / 40
    drawn = rng.uniform(low - beyond * bool(lows), high + beyond * bool(highs), count)
    return np.where(rng.random(count) < 0.98, 1, 2) if column == "n_faces_max" else drawn


def stage_table(
    stage: Stage, ids: list[str], fixed: dict[str, pa.Array], limits: Sequence[Limit], rng: np.random.Generator
) -> pa.Table:
    """A scorer's sidecar: every column of numbers and of fingerprints filled."""
    schema, columns = sidecar_schema("clip_id", stage.columns), []
    for field in schema:
        if field.name == "clip_id":
            column = pa.array(ids)
        elif field.name in fixed:
            column = fixed[field.name]
        elif field.name == "error":
            column = pa.nulls(len(ids), pa.string())
        elif pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
            drawn = values(field.name, len(ids), limits, rng)
            column = pa.array(drawn.round() if pa.types.is_integer(field.type) else drawn).cast(field.type)
        elif field.name == "sync_backend":
            column = pa.array([BACKEND] * len(ids))
        else:
            column = pa.nulls(len(ids), field.type)
        columns.append(column)
    return pa.table(columns, schema=schema)


def timed(words: str, call: Callable[[], object]) -> None:
    wall, cpu = time.monotonic(), time.process_time()
    call()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    held = peak_memory_mb() / 1024
    print(f"  {words:44} {cpu:8.1f} s of processor time {wall:8.1f} s {held:6.1f} GiB at most so far", flush=True)


def measure(root: Path, count: int) -> None:
    """Prints the lines of one size."""
    print(f"{count:,} clips", flush=True)
    folder = CurationFolder(root)
    timed("the folder is made up", lambda: make_folder(root, count, np.random.default_rng(0)))
    timed("limits applied, duplicates searched", lambda: rethreshold(root, report=False))
    timed("other limits", lambda: rethreshold(root, {"limits": {"dark": {"min": 0.3}}}, report=False))
    table = read_table(folder.manifest).select(["clip_id", "keep", "dup_group"])
    kept, grouped = table.column("keep").to_numpy().sum(), len(table) - table.column("dup_group").null_count
    timed(f"report ({kept:,} kept, {grouped:,} with a copy)", lambda: write_report(root))
    timed("one clip explained", lambda: explain(root, table.column("clip_id")[count // 2].as_py()))
    config = CurationConfig.load(folder.read_settings())
    stages, engine = stages_of(config["scorers"], config, folder), LocalEngine(1)
    timed(
        "whose turn is it? (nothing to do)",
        lambda: score(read_table(folder.clips), stages, config, folder, engine, lambda *_: None),
    )
    engine.close()
    sizes = {path.name: path.stat().st_size / 2**20 for path in (folder.manifest, folder.report)}
    print("  " + ", ".join(f"{name} {size:,.1f} MiB" for name, size in sizes.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="*", default=[100_000], metavar="N")
    parser.add_argument(
        "--folder", type=Path, help="where the folders are made (default: a temporary one); needs about 4 GB a million"
    )
    args = parser.parse_args()
    for count in args.clips:
        with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
            measure(Path(temporary), count)


if __name__ == "__main__":
    sys.exit(main())
