"""A run that is killed goes on to the bytes that it would have had (with real kills: tests/data/engines/test_local.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avatar.data import curate
from tests.data.curation.conftest import Inline


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


def test_a_run_that_ends_at_any_rename_goes_on_to_the_same_bytes(
    make_video: Callable[..., Path], tmp_path: Path, inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_video("a.mp4", seconds=1.2, sound=False).parent
    make_video("b.mp4", seconds=1.2, sound=False, seed=1)
    limits = {"too_short": {"min": 1.0}, "small_picture": False, "no_sound": False}
    options = {"scorers": ["fingerprints"], "limits": limits, "export": {"shard_clips": 1}}
    curate(folder, tmp_path / "whole", options, inline)
    names = ["manifest.parquet", "clips.parquet", "config.json"]
    names += [f"shards/{path.name}" for path in (tmp_path / "whole" / "shards").iterdir()]
    replace, moment = os.replace, 0
    while True:
        moment += 1
        left = moment

        def dying(old: Any, new: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            replace(old, new)

        out = tmp_path / f"killed-{moment}"
        monkeypatch.setattr(os, "replace", dying)
        try:
            curate(folder, out, options, inline)
        except Killed:
            monkeypatch.setattr(os, "replace", replace)
            curate(folder, out, options, inline)
        else:
            break
        assert {name: (out / name).read_bytes() for name in names} == {
            name: (tmp_path / "whole" / name).read_bytes() for name in names
        }
        assert not list(out.rglob(".*.part")) and not (out / "work").exists()
    assert moment > 15
