"""`avatar curate`: what is passed on, what is printed, and how failures end."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from avatar.cli import main
from avatar.data.manifest import table_from_rows, with_schema, write_table
from avatar.errors import MediaError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stands in for the stages; holds what they were asked for."""
    rows = [
        {"clip_id": "a", "keep": True, "duration_s": 1800.0, "reject_reasons": []},
        {"clip_id": "b", "keep": False, "duration_s": 5.0, "reject_reasons": ["dark"]},
        {"clip_id": "c", "keep": False, "duration_s": None, "reject_reasons": ["error:probe"]},
    ]
    schema = pa.schema([("clip_id", pa.string()), ("keep", pa.bool_()), ("duration_s", pa.float64())])
    schema = schema.append(pa.field("reject_reasons", pa.list_(pa.string())))
    manifest = write_table(tmp_path / "out" / "manifest.parquet", with_schema(table_from_rows(rows, schema)))
    held: dict[str, Any] = {}

    def curate(source: Path, out: Path, config: Path | None, engine: Any, **options: Any) -> Path:
        held.update(source=source, out=out, config=config, workers=engine.num_workers)
        held.update(recipe=options["recipe"], report=options["report"], retry_failed=options["retry_failed"])
        options["progress"]("probe", 3, 3)
        if source.name == "empty":
            raise MediaError("empty holds no video")
        return manifest

    def rethreshold(out: Path, config: Path | None, report: bool) -> Path:
        held.update(out=out, config=config, report=report)
        return manifest

    run = ModuleType("avatar.data.curation.run")
    run.curate, run.rethreshold = curate, rethreshold  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "avatar.data.curation.run", run)
    return held


def test_the_manifest_s_path_is_the_result_and_the_rest_is_told(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["curate", "videos", out, "--workers", "3", "--recipe", "grid", "--no-report", "--retry-failed"]) == 0
    assert asked["retry_failed"]
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'out' / 'manifest.parquet'}\n"
    assert "1 of 3 clips kept, 0.50 h" in printed.err and "1 dark" in printed.err and "probe: 3 of 3" in printed.err
    assert (asked["workers"], asked["recipe"], asked["source"]) == (3, "grid", Path("videos"))


def test_rethreshold_takes_the_configuration_alone(asked: dict[str, Any], tmp_path: Path) -> None:
    assert main(["curate", "videos", str(tmp_path / "out"), "--rethreshold", "--config", "c.toml", "--no-report"]) == 0
    assert asked == {"out": tmp_path / "out", "config": Path("c.toml"), "report": False}


def test_the_report_is_named_unless_it_is_left_out(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curate", "videos", str(tmp_path / "out"), "--rethreshold"]) == 0
    assert asked["report"] and f"the report is {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().err
    assert main(["curate", "videos", str(tmp_path / "out"), "--no-report"]) == 0
    assert not asked["report"] and not asked["retry_failed"] and "report" not in capsys.readouterr().err


def test_wrong_usage_ends_with_2(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", "empty", "out"]) == 2
    assert "error: empty holds no video" in capsys.readouterr().err
    assert main(["curate", "videos", "out", "--workers", "0"]) == 2
    assert "--workers must be at least 1, not 0" in capsys.readouterr().err
