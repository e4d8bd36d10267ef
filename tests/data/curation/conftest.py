"""Small videos made on the spot, an engine without processes, and scorers that note what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from avatar.data.engines.work import Progress, RowWork, Shard, run_shard
from avatar.data.engines.worker import timed
from avatar.media import write_video
from avatar.types import Waveform

pytest.importorskip("duckdb")
pytest.importorskip("scenedetect")

SCORERS = '''
"""Scorers for tests: they count what they do in files beside this module."""
import os
from pathlib import Path

import pyarrow as pa

from avatar.data.manifest import columns

LOG = Path(__file__).parent


def _note(name, words):
    with (LOG / f"{name}.log").open("a") as file:
        file.write(f"{words}\\n")


class Brightness:
    name, version, weights = "brightness", "1", ()
    columns = columns("brightness_mean")

    def setup(self):
        pass

    def score(self, clip):
        frames = clip.frames()
        _note("brightness", f"{clip.clip_id} {clip.num_decodes}")
        return {"brightness_mean": float(frames.mean() / 255)}


class Blur:
    name, version, weights = "blur", "1", ()
    columns = columns("lap_var_512")

    def setup(self):
        pass

    def score(self, clip):
        frames = clip.frames()
        _note("blur", f"{clip.clip_id} {clip.num_decodes}")
        return {"lap_var_512": float(frames.std())}


class Nan(Blur):
    name = "nan"

    def score(self, clip):
        return {"lap_var_512": float("nan")}


class Words(Blur):
    name = "words"

    def score(self, clip):
        return {"lap_var_512": "sharp"}


class Fails(Blur):
    name = "fails"

    def score(self, clip):
        if not (LOG / "luck").exists():
            raise RuntimeError("no luck")
        return super().score(clip)
'''


class Inline:
    """An engine in this process."""

    num_workers = 1

    def __init__(self) -> None:
        self.rows = 0

    def run(self, work: RowWork, shards: Sequence[Shard], *, timeout_s: float, progress: Progress) -> None:
        work.setup()
        for shard in shards:
            run_shard(lambda row: [p for p in timed(work.run(row)) if not isinstance(p, str)], work, shard)
            self.rows += shard.num_rows
            progress(shard.num_rows)

    def close(self) -> None:
        pass


@pytest.fixture
def inline() -> Inline:
    return Inline()


@pytest.fixture
def scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module of scorers that workers can import, and what they noted."""
    folder = tmp_path / "modules"
    folder.mkdir()
    name = f"scorers_of_{tmp_path.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(SCORERS)
    monkeypatch.syspath_prepend(str(folder))
    return SimpleNamespace(
        module=name,
        give=lambda what: (folder / what).touch(),
        names=lambda *classes: [f"{name}:{c}" for c in classes],
        log=lambda which: (
            (folder / f"{which}.log").read_text().split("\n")[:-1] if (folder / f"{which}.log").exists() else []
        ),
    )


def texture(seed: int, tint: tuple[int, int, int], count: int, speed: float = 1.0) -> list[np.ndarray]:
    """Frames of a smooth pattern of 24 px that moves by `speed` px a frame; another seed is another picture."""
    width, height = 256, 144
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (height // 12, width // 12, 3)).astype(np.uint8)
    big = cv2.resize(small, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    moved = (np.roll(big, (int(k * speed) // 2, int(k * speed)), axis=(0, 1))[:height, :width] for k in range(count))
    return [(0.6 * frame + 0.4 * np.array(tint)).clip(0, 255).astype(np.uint8) for frame in moved]


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video of some seconds with a tone: `make_video("a.mp4", seconds=4, seed=1, gain=1.0, sound=True)`."""

    def make(name: str, seconds: float = 4.0, seed: int = 0, gain: float = 1.0, sound: bool = True) -> Path:
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = np.stack(texture(seed, (90, 120, 160), round(seconds * 25), speed=0.5))
        frames = (frames[:, ::2, ::2] * gain).astype(np.uint8)
        at = np.arange(round(seconds * 16000)) / 16000
        tone = Waveform((0.3 * np.sin(2 * np.pi * (220 + 40 * seed) * at)).astype(np.float32))
        return write_video(path, iter([frames]), fps=25, speech=tone if sound else None, preset="ultrafast")

    return make
