"""Worker processes: a clip that crashes, hangs or raises costs that clip; a killed run goes on to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa
import pytest

from avatar.data.engines.local import LocalEngine
from avatar.data.engines.work import cut_shards
from avatar.data.manifest import read_table
from avatar.errors import OptionError, OutputError, WeightsError

MODULE = '''
import os, signal, time
from dataclasses import dataclass
import pyarrow as pa
from pathlib import Path
from avatar.data.engines.work import Piece, raise_if_nothing_can_be_written
from avatar.errors import WeightsError

COLUMNS = pa.schema([pa.field("doubled", pa.int64())])


@dataclass
class Doubling:
    """Doubles numbers; some rows are poisoned."""

    pause_s: float = 0.0
    missing: bool = False
    key = "name"
    outputs = {"double": COLUMNS, "again": COLUMNS}

    def setup(self):
        if self.missing:
            raise WeightsError("the weights are not there")

    def run(self, row):
        yield "double"
        time.sleep(self.pause_s)
        yield Piece("double", {"doubled": 2 * row["number"]})
        yield "again"
        if row["poison"] == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if row["poison"] == "hang":
            time.sleep(3600)
        if row["poison"].startswith("killed "):
            done = Path(row["poison"].partition(" ")[2])
            if not done.exists():
                done.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if row["poison"].startswith("told "):
            Path(row["poison"].partition(" ")[2]).write_text(str(os.getpid()))
            time.sleep(3600)
        if row["poison"] == "full":
            raise_if_nothing_can_be_written(OSError(28, "No space left on device"))
        yield Piece("again", {"doubled": 4 * row["number"]})
'''


@pytest.fixture
def work_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"doubling_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def table(poison: dict[int, str], count: int = 12) -> pa.Table:
    rows = [{"name": f"r{k}", "number": k, "poison": poison.get(k, "")} for k in range(count)]
    return pa.Table.from_pylist(rows)


def results(folder: Path) -> dict[str, dict[str, object]]:
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in read_table(path).to_pylist()]
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


def test_a_bad_clip_costs_itself_and_a_worker_killed_from_outside_nothing(tmp_path: Path, work_module: str) -> None:
    import importlib

    work = importlib.import_module(work_module).Doubling()
    folders = {"double": tmp_path / "double", "again": tmp_path / "again"}
    poison = {3: "crash", 5: f"killed {tmp_path / 'once'}", 8: "hang"}
    shards = list(cut_shards(table(poison), folders, tmp_path / "in", "name", 1))
    told: list[int] = []
    with closing(LocalEngine(2)) as engine:
        engine.run(work, shards, timeout_s=3.0, progress=told.append)
    assert sum(told) == 12
    double, again = results(folders["double"]), results(folders["again"])
    assert {name: row["doubled"] for name, row in double.items()} == {f"r{k}": 2 * k for k in range(12)}
    assert "SIGSEGV" in str(again["r3"]["error"]) and "took more than 3 s" in str(again["r8"]["error"])
    assert all(
        row["error"] is None and row["doubled"] == 4 * k
        for k in range(12)
        if k not in (3, 8)
        for row in [again[f"r{k}"]]
    )


DRIVER = """
import sys
from pathlib import Path
import pyarrow as pa
from avatar.data.engines.local import LocalEngine
from avatar.data.engines.work import cut_shards
if __name__ == "__main__":
    root, name = Path(sys.argv[1]), sys.argv[2]
    sys.path.insert(0, str(root))
    rows = pa.Table.from_pylist([{"name": "r", "number": 1, "poison": f"told {root / 'worker'}"}])
    shards = list(cut_shards(rows, {"double": root / "double", "again": root / "again"}, root / "in", "name", 1))
    LocalEngine(1).run(__import__(name).Doubling(), shards, timeout_s=3600.0, progress=print)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_worker_ends_with_its_driver(tmp_path: Path, work_module: str) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py"), str(tmp_path), work_module])
    told = tmp_path / "worker"
    within(120.0, lambda: told.exists() and told.read_text() != "")
    assert alive(int(told.read_text()))
    driver.kill()
    driver.wait()
    within(30.0, lambda: not alive(int(told.read_text())))


def within(seconds: float, is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_full_disk_ends_the_run_and_is_nobody_s_error(tmp_path: Path, work_module: str) -> None:
    import importlib

    work = importlib.import_module(work_module).Doubling()
    folders = {"double": tmp_path / "double", "again": tmp_path / "again"}
    shards = list(cut_shards(table({2: "full"}, 4), folders, tmp_path / "in", "name", 1))
    with (
        closing(LocalEngine(1)) as engine,
        pytest.raises(OutputError, match="No space left.* run the same command again"),
    ):
        engine.run(work, shards, timeout_s=60.0, progress=lambda rows: None)
    assert set(results(folders["again"])) == {"r0", "r1"}


def test_what_a_worker_cannot_be_set_up_with_ends_the_run(tmp_path: Path, work_module: str) -> None:
    import importlib

    work = importlib.import_module(work_module).Doubling(missing=True)
    folders = {"double": tmp_path / "double", "again": tmp_path / "again"}
    shards = list(cut_shards(table({}), folders, tmp_path / "in", "name", 1))
    with closing(LocalEngine(1)) as engine, pytest.raises(WeightsError, match="the weights are not there"):
        engine.run(work, shards, timeout_s=3.0, progress=lambda rows: None)


def test_an_engine_needs_a_worker() -> None:
    with pytest.raises(OptionError, match="at least one worker"):
        LocalEngine(0)


def test_shards_are_never_larger_than_256_rows_and_together_they_are_the_table(tmp_path: Path) -> None:
    whole = table({}, 1100)
    shards = list(cut_shards(whole, {"x": tmp_path / "x"}, tmp_path / "in", "name", 1))
    assert max(shard.num_rows for shard in shards) <= 256
    assert pa.concat_tables([read_table(shard.path) for shard in shards]).equals(whole)
    assert len(list(cut_shards(whole.slice(0, 12), {"x": tmp_path / "x"}, tmp_path / "in", "name", 2))) == 6


RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from avatar.data import curate
from avatar.data.engines.local import LocalEngine
if __name__ == "__main__":
    limits = {"too_short": {"min": 1.0}, "small_picture": False, "no_sound": False}
    config = {"scorers": ["fingerprints"], "limits": limits, "export": {"shard_clips": 2}}
    curate(sys.argv[1], sys.argv[2], config, LocalEngine(2), progress=lambda *told: print(*told, flush=True))
"""
KILLS = 14


def killed_after(command: list[str], num_lines: int, delay_s: float) -> bool:
    """Starts a run and kills it and its workers after some lines of progress and some time; False: it was through."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = list(zip(range(num_lines), process.stdout, strict=False))
    time.sleep(delay_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    return process.wait() == -signal.SIGKILL and len(said) == num_lines


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    pytest.importorskip("scenedetect")
    import cv2
    import numpy as np

    from avatar.media import write_video

    (tmp_path / "videos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(6):
        base = cv2.resize(rng.integers(0, 255, (8, 12, 3)).astype(np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)
        frames = np.stack([np.roll(base, j // 8, axis=1) for j in range(75)])
        write_video(tmp_path / "videos" / f"{k}.mp4", iter([frames]), fps=25, speech=None, preset="ultrafast")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(tmp_path / "videos")]
    subprocess.run([*command, str(tmp_path / "whole"), str(tmp_path)], check=True)
    kills = 0
    while kills < KILLS:  # a few steps further each time, from the start to the report, and again in another folder
        out = tmp_path / f"killed-{kills}"
        while killed_after([*command, str(out), str(tmp_path)], int(rng.integers(5)), rng.uniform(0, 0.2)):
            kills += 1
        subprocess.run([*command, str(out), str(tmp_path)], check=True)
        assert_same(tmp_path / "whole", out)


def assert_same(whole: Path, killed: Path) -> None:
    """The same result to the byte, and nothing half-made beside it."""
    for name in ("manifest.parquet", "clips.parquet", "sources.parquet", "config.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    shards = [{path.name: path.read_bytes() for path in (out / "shards").iterdir()} for out in (whole, killed)]
    assert shards[0] == shards[1]
    assert {path.name for path in whole.iterdir()} == {path.name for path in killed.iterdir()}
    assert not list(killed.rglob(".*.part"))
