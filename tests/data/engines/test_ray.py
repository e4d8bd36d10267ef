"""The same stages through both engines give the same tables, row by row."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar.data import curate
from avatar.data.engines.local import LocalEngine
from avatar.data.engines.work import Engine
from avatar.data.manifest import read_manifest
from avatar.media import write_video
from avatar.types import Waveform

pytest.importorskip("duckdb")
pytest.importorskip("scenedetect")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ray_and_the_local_engine_give_the_same_tables(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from avatar.data.engines.ray import RayEngine

    (tmp_path / "videos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        base = cv2.resize(rng.integers(0, 255, (8, 12, 3)).astype(np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)
        frames = np.stack([np.roll(base, j // 8, axis=1) for j in range(75)])
        sound = Waveform((0.2 * np.sin(np.arange(48000) / (7 + k))).astype(np.float32))
        write_video(tmp_path / "videos" / f"{k}.mp4", iter([frames]), fps=25, speech=sound, preset="ultrafast")
    (tmp_path / "videos" / "bad.mp4").write_bytes((tmp_path / "videos" / "0.mp4").read_bytes()[:2000])
    config = {"scorers": ["fingerprints"], "limits": {"too_short": {"min": 1.0}, "small_picture": False}}
    engines: dict[str, Engine] = {"local": LocalEngine(1), "ray": RayEngine(2)}
    tables = {}
    try:
        for name, engine in engines.items():
            with closing(engine):
                curate(tmp_path / "videos", tmp_path / name, config, engine)
            tables[name] = read_manifest(tmp_path / name).to_pylist()
    finally:
        ray.shutdown()
    assert len(tables["local"]) == 5 and sum(row["keep"] for row in tables["local"]) == 4
    for one, other in zip(tables["local"], tables["ray"], strict=True):
        assert one == other
