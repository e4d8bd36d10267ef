"""The scripts: they import, say what they are for, and time stages that exist."""

from __future__ import annotations

import functools
import runpy
import wave
from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_imports_and_says_what_it_is_for(script: Path) -> None:
    names = runpy.run_path(str(script), run_name="imported")
    assert names["__doc__"]
    assert callable(names["main"])


def test_the_benchmark_times_stages_that_exist() -> None:
    names = runpy.run_path(str(SCRIPTS[0].parent / "benchmark_animate.py"), run_name="imported")
    for _, module, qualified_name in names["STAGES"]:
        assert callable(functools.reduce(getattr, qualified_name.split("."), import_module(module)))


def test_the_benchmark_repeats_the_example_to_the_sample(tmp_path: Path) -> None:
    names = runpy.run_path(str(SCRIPTS[0].parent / "benchmark_animate.py"), run_name="imported")
    with wave.open(str(names["_repeat_speech"](tmp_path / "long.wav", 20.5))) as sound:
        assert sound.getnframes() == round(20.5 * sound.getframerate())
