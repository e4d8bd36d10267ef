"""The folder of a run: checkpoints that are whole or not there, and the lines of its logs.

RUN/checkpoints/step-00000250/state.pt   what the next step depends on
RUN/checkpoints/step-00000250/model/     the averaged weights, for `from_pretrained`
RUN/latest -> checkpoints/step-00000250
RUN/log.jsonl, RUN/balance.jsonl
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from avatar.errors import OptionError, OutputError

_STEP = re.compile(r"step-(\d{8})")


class RunFolder:
    """Writes and finds a run's files.

    Args:
        folder: made where absent.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.checkpoints = self.folder / "checkpoints"
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(
                f"{self.folder} cannot be made: {err.strerror or err}; choose another folder (out)"
            ) from err

    def steps(self) -> list[int]:
        """Steps with a whole checkpoint, rising."""
        names = (_STEP.fullmatch(path.name) for path in self.checkpoints.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.checkpoints / f"step-{step:08d}"

    def check_new(self) -> None:
        """Checks that no run would be overwritten.

        Raises:
            OptionError: there is a checkpoint already.
        """
        if self.steps():
            raise OptionError(
                f"{self.folder} holds a run of {self.steps()[-1]} steps; go on with it (--resume), or name another folder (out)"
            )

    def save(self, step: int, state: Mapping[str, Any], write_model: Callable[[Path], None], keep: int) -> Path:
        """Writes a checkpoint beside, then renames it: a kill leaves the former ones.

        Args:
            step: steps done.
            state: tensors and plain values.
            write_model: writes the model into a folder.
            keep: how many checkpoints stay; 0 for all.
        """
        final, part = self.checkpoint(step), self.checkpoints / f".step-{step:08d}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        torch.save(dict(state), part / "state.pt")
        write_model(part / "model")
        _sync(part)
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        link = self.folder / ".latest.part"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("checkpoints") / final.name, target_is_directory=True)
        os.replace(link, self.folder / "latest")
        for old in self.steps()[:-keep] if keep else ():
            shutil.rmtree(self.checkpoint(old), ignore_errors=True)
        return final

    def load(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint; None where there is none."""
        for left in self.checkpoints.glob(".step-*.part"):
            shutil.rmtree(left, ignore_errors=True)
        if not self.steps():
            return None
        return torch.load(self.checkpoint(self.steps()[-1]) / "state.pt", weights_only=True, map_location="cpu")

    def log(self, line: Mapping[str, Any], name: str = "log.jsonl") -> None:
        """Appends a line of figures."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def forget_after(self, step: int) -> None:
        """Cuts the logs back to a step, when a run goes on from there."""
        for name in ("log.jsonl", "balance.jsonl"):
            path = self.folder / name
            if path.exists():
                lines = [x for x in path.read_text(encoding="utf-8").splitlines() if x.endswith("}") and _at(x) <= step]
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _at(line: str) -> int:
    return int(json.loads(line).get("step", 0))


def _sync(folder: Path) -> None:
    """Brings every file of a folder to the disk, so that the rename that follows cannot overtake them."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
