"""Where weights can be kept, in words; `avatar.wan.memory` keeps them there."""

from __future__ import annotations

from typing import Literal

from avatar.errors import OptionError

Memory = Literal["low", "balanced", "fast"]
MEMORY: dict[str, str] = {
    "fast": "all weights stay on the device",
    "balanced": "one part at a time is on the device, the transformer whole while it denoises",
    "low": "the transformer's weights are stored in 8 bits and brought to the device block by block; the VAE works in tiles",
}


def check_memory(memory: str, device: str) -> None:
    """Refuses a way to keep weights that there is not, or not here.

    Args:
        memory: one of `MEMORY`.
        device: the kind of device that computes.

    Raises:
        OptionError: no such way, or `balanced` without an accelerator.
    """
    if memory not in MEMORY:
        raise OptionError(f"--memory must be {', '.join(MEMORY)}, not {memory!r}")
    if memory == "balanced" and device == "cpu":
        raise OptionError("--memory balanced moves parts between the CPU and an accelerator, and there is none here")
