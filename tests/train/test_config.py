"""The config of a run: unknown keys, wrong kinds and changes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatar.cli import main
from avatar.errors import InputError, OptionError
from avatar.train.config import _RANGES
from avatar.train.config_file import check_same, from_mapping, load_config, recipe_names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lop": {}}, "there is no key 'lop' in the config; the nearest is 'loop'"),
        ({"loop": {"stepz": 3}}, "no key 'loop.stepz' in the config; the nearest is 'loop.steps'"),
        (
            {"loop": {"learning_rate": 3}},
            "no key 'loop.learning_rate' in the config; the nearest is 'optimiser.learning_rate'",
        ),
        ({"loop": {"steps": 2.5}}, "loop.steps is a whole number, not 2.5"),
        ({"loop": {"steps": 0}}, "loop.steps must be 1 or more, not 0"),
        ({"loop": 3}, r"loop is a section of the config, \[loop\], not a value"),
        ({"balance": {"anneal": [1]}}, r"balance.anneal is a list of 2 values, not \[1\]"),
        ({"balance": {"anneal": [0.5, 0.2]}}, r"a beginning and an end, in this order, not \[0.5, 0.2\]"),
        ({"balance": {"by": "emotion"}}, "balance.by is a list, not 'emotion'"),
        ({"balance": {"beta": 2}}, "balance.beta must lie between 0 and 1, or be -1 to be chosen, not 2.0"),
        ({"model": {"kind": "mash"}}, "model.kind must be one of 'mesh', 'wan', not 'mash'"),
        ({"drop": {"audio": 1.5}}, "drop.audio is a share between 0 and 1, not 1.5"),
        (
            {"data": {"context_frames": 16}},
            "data.context_frames must lie between 1 and data.latent_frames - 1, not 16 of 16",
        ),
        ({"optimiser": {"learning_rate": -1}}, "optimiser.learning_rate must be above 0 and at most 1, not -1.0"),
        ({"balance": {"anneal": [0, 2]}}, "balance.anneal must be a share between 0 and 1, not 2.0"),
        ({"loop": {"workers": -2}}, "loop.workers must be a number of processes, or -1 to be chosen, not -2"),
        ({"data": {"sources": "clips"}}, r"data.sources is a list, not 'clips'; write it as \['clips'\]"),
        ({"optimiser": {"ema_decay": 1.0}}, r"optimiser.ema_decay must lie in \[0, 1\), not 1.0"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        from_mapping(values)


def test_a_file_is_read_and_changed_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('out = "here"\n[loop]\nsteps = 7\n[drop]\naudio = 0\n')
    config = load_config(path, ["loop.seed=3", "data.sources=['a', 'b']", "model.init=embedded"])
    assert (config.out, config.loop.steps, config.loop.seed, config.drop.audio) == ("here", 7, 3, 0.0)
    assert config.data.sources == ("a", "b") and config.model.init == "embedded"
    with pytest.raises(OptionError, match="'loop.steps' is not KEY=VALUE"):
        load_config(path, ["loop.steps"])
    path.write_text("steps = = 3")
    with pytest.raises(InputError, match="cannot be read as TOML"):
        load_config(path)
    with pytest.raises(InputError, match="no file nowhere.toml; .* recipes that come with avatar: .*embedded-scratch"):
        load_config("nowhere.toml")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_config(name: str) -> None:
    assert load_config(name).out == f"runs/{name}"


def test_what_decides_nothing_may_change() -> None:
    old, new = from_mapping({"out": "a"}), from_mapping({"out": "b", "loop": {"workers": 3}, "log": {"project": "x"}})
    check_same(new, old.deciding(), Path("a"))
    with pytest.raises(OptionError, match=r"a was made with another config: loop.seed \(was 0, is 5\); set these back"):
        check_same(from_mapping({"loop": {"seed": 5}}), old.deciding(), Path("a"))


def test_every_range_is_of_a_value_that_there_is_and_holds_its_default() -> None:
    assert set(_RANGES) <= set(from_mapping({}).flat())


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    changes = ["--set", f"out={tmp_path / 'file'}", "--set", "data.sources=['clips']"]
    assert main(["train", "embedded-scratch", *changes]) == 1
    assert "cannot be made: Not a directory; choose another folder (out)" in capsys.readouterr().err
    assert main(["train", "embedded-scratch", *changes, "--prepare"]) == 1
    assert "choose another folder (out, data.cache)" in capsys.readouterr().err


def test_the_command_shows_the_config_and_refuses_a_bad_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "embedded-scratch", "--show", "--set", "loop.steps=9"]) == 0
    assert "loop.steps = 9" in capsys.readouterr().out
    assert main(["train", "embedded-scratch", "--set", "loop.stps=9"]) == 2
    assert "the nearest is 'loop.steps'" in capsys.readouterr().err
    out = f"out={tmp_path}"
    assert main(["train", "embedded-scratch", "--set", out]) == 2
    assert "data.sources names no folder" in capsys.readouterr().err
