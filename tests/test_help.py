"""The help text: current in the docs, quick to print, and there before anything heavy is imported."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from avatar.cli import main

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "numpy", "cv2", "av", "diffusers", "transformers", "mediapipe", "numba")


def test_docs_hold_the_current_help_text() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "write_cli_docs.py"), "--check"]
    result = subprocess.run(script, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("argv", [["--help"], ["animate", "--help"], ["fetch", "--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(argv: list[str]) -> None:
    code = f"""
import sys
from avatar.cli import main
try:
    main({argv!r})
except SystemExit as stop:
    assert stop.code == 0, stop.code
heavy = [name for name in {HEAVY!r} if name in sys.modules]
assert not heavy, heavy
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "avatar.cli", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 0.5


def test_import_of_the_package_is_light() -> None:
    code = f"import sys, avatar; heavy = [n for n in {HEAVY!r} if n in sys.modules]; assert not heavy, heavy"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_presets_are_listed_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith("preset")
    assert any(line.startswith("embedded ") for line in out.splitlines())
    assert err == ""
