"""Saving and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar.errors import OptionError
from avatar.train import checkpoint
from avatar.train.checkpoint import resume_checkpoint, save_checkpoint
from avatar.train.schedule import learning_rate_factor

RECIPE = {"seed": 0, "steps": 10, "learning_rate": 1e-3}


def test_what_was_saved_is_restored(tmp_path: Path) -> None:
    path, one, other = tmp_path / "checkpoint.pt", torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    save_checkpoint(path, RECIPE, 7, {"model": one})
    assert resume_checkpoint(path, RECIPE, {"model": other}) == 7
    assert torch.equal(one.weight, other.weight)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_without_a_checkpoint_it_starts_at_zero(tmp_path: Path) -> None:
    assert resume_checkpoint(tmp_path / "checkpoint.pt", RECIPE, {}) == 0


def test_another_recipe_is_refused_and_its_keys_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, RECIPE, 7, {})
    with pytest.raises(OptionError, match="was made with other values of learning_rate, new; use another folder"):
        resume_checkpoint(path, RECIPE | {"learning_rate": 2e-3, "new": 1}, {})


def test_a_crash_while_saving_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "checkpoint.pt", torch.nn.Linear(3, 2)
    save_checkpoint(path, RECIPE, 7, {"model": model})
    saved = model.weight.clone()

    def half_written(_: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", half_written)
    with torch.no_grad():
        model.weight.zero_()
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, RECIPE, 8, {"model": model})
    monkeypatch.undo()
    assert resume_checkpoint(path, RECIPE, {"model": model}) == 7
    assert torch.equal(model.weight, saved)


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate_factor(step, 10, 100) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[-1] == pytest.approx(0.02)
    assert learning_rate_factor(5, 0, 1) == pytest.approx(0.02)
