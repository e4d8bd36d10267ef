"""The study file: what it accepts, and what each mistake is answered with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avatar.errors import InputError, OptionError
from avatar.study.spec import read_spec

GOOD = """
title = "Test"
seed = 3
[[system]]
name = "a"
folder = "clips/a"
[[system]]
name = "b"
preset = "embedded"
options = {seed = 2}
[[item]]
id = "x"
portrait = "x.jpg"
speech = "x.wav"
groups = {ethnicity = "e"}
[[item]]
id = "y"
portrait = "y.jpg"
speech = "y.wav"
"""


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read_spec(path)


def test_paths_start_from_the_file_and_titles_are_english(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(GOOD)
    spec = read_spec(path)
    assert spec.title == {"en": "Test"} and spec.seed == 3
    assert spec.systems[0].folder == tmp_path / "clips" / "a"
    assert spec.systems[1].preset == "embedded" and spec.systems[1].options == {"seed": 2}
    assert spec.items[0].portrait == tmp_path / "x.jpg" and spec.items[0].groups == {"ethnicity": "e"}
    assert spec.real is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("seed = 3", "sead = 3", "the study file has no sead; it takes title"),
        ("seed = 3", 'seed = "3"', "seed is a int, not '3'"),
        ("seed = 3", 'scales = ["LS", "XX"]', "accepted: each once of LS, IP"),
        ("seed = 3", "raters = 0", "raters is 0; accepted: 1 to 10,000"),
        ("seed = 3", "max_minutes = 500", "people tire after 25"),
        ("seed = 3", 'scales = ["IP"]', "set traps = 0, or add LS"),
        ("seed = 3", 'languages = ["xx"]', "languages is xx"),
        ('title = "Test"', "", "the study file lacks title"),
        ('title = "Test"', 'title = {zh = "x"}', "with en among them"),
        ("[[system]]", "[system]", r"study.toml is not a TOML file|each system is written \[\[system\]\]"),
        ('folder = "clips/a"', "", "both or none; accepted: folder or preset"),
        ('name = "b"', 'name = "a"', "system given twice is a; accepted: each name once"),
        ('name = "b"', 'name = "../b"', "system.name is '../b'; accepted: letters"),
        ('preset = "embedded"', 'folder = "f"', "options is .*; accepted: with a preset"),
        ('preset = "embedded"', 'preset = "embedded"\nreal = true', "accepted: with a folder only"),
        ('portrait = "y.jpg"', "", "items without a portrait is y"),
        ('id = "y"', 'id = "x"', "item given twice is x"),
        ("[[item]]", "[media]\nsize_px = 511\n[[item]]", "media.size_px is 511; accepted: even"),
        ("[[item]]", '[media]\nsound = "loud"\n[[item]]', 'media.sound is loud; accepted: "speech" or "own"'),
    ],
)
def test_mistakes_are_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    with pytest.raises((OptionError, InputError), match=words):
        read(tmp_path, GOOD.replace(before, after, 1))


def test_a_missing_or_broken_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_spec(tmp_path / "none.toml")
    with pytest.raises(InputError, match="not a TOML file"):
        read(tmp_path, "title = ")


def test_the_example_in_the_documentation_is_accepted(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "user-study.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    second = example[1][example[1].index("[[item]]") :].replace("anna-1", "anna-2")
    spec = read(tmp_path, example[1] + second)
    assert spec.real.name == "real"  # type: ignore[attr-defined]
