"""`avatar study` from the command line: a study file to a folder, sessions to a report, mistakes to one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pandas")

from avatar.cli import main  # noqa: E402
from avatar.study.formats import read_key, read_study  # noqa: E402
from avatar.study.simulate import Truth, simulate_sessions  # noqa: E402
from tests.study.studies import SYSTEMS, write_systems  # noqa: E402


@pytest.fixture
def file(tmp_path: Path) -> Path:
    spec = write_systems(tmp_path, items=4)
    lines = ['title = "A test"', "seed = 7", "raters = 8", "clips_per_rater = 9", "[media]", "size_px = 80", "crf = 23"]
    for name in SYSTEMS:
        lines += ["[[system]]", f'name = "{name}"', f'folder = "{name}"', f"real = {str(name == 'real').lower()}"]
    for item in spec.items:
        lines += ["[[item]]", f'id = "{item.id}"', f'portrait = "in/{item.id}.png"', f'language = "{item.language}"']
    path = tmp_path / "study.toml"
    path.write_text("\n".join(lines))
    return path


def test_from_a_study_file_to_a_report(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = file.parent
    folder, key, report = where / "out", where / "key.json", where / "report"
    assert main(["study", "export", str(file), "-o", str(folder), "--key", str(key)]) == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(folder), str(key)]
    assert "8 raters x 9 clips, 3 systems, 4 scales: 12 tests" in err and "smallest difference found" in err
    study, known = read_study(folder), read_key(key)
    (where / "results").mkdir()
    for session in simulate_sessions(study, known, Truth({"still": 2.0, "noisy": 3.0, "real": 4.5}), 0):
        (where / "results" / f"{session.rater}.json").write_text(json.dumps(session.to_json()))
    assert main(["study", "analyze", str(where / "results"), "--key", str(key), "-o", str(report)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(report / "index.html") and (report / "index.html").is_file()
    assert "Lip sync (LS)" in err


def test_power_writes_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = file.parent
    argv = ["study", "export", str(file), "-o", str(where / "out"), "--key", str(where / "key.json"), "--power"]
    assert main(argv) == 0
    assert "found in" in capsys.readouterr().out
    assert not (where / "out").exists() and not (where / "key.json").exists()


def test_mistakes_end_in_one_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = file.parent
    assert main(["study", "export", str(where / "none.toml"), "-o", "x", "--key", "y.json"]) == 2
    assert capsys.readouterr().err.startswith("avatar: error: there is no file")
    assert main(["study", "analyze", str(where), "--key", str(where / "none.json"), "-o", str(where / "r")]) == 2
    assert "give the key that" in capsys.readouterr().err
