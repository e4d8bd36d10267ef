"""The peak of a process's memory is its own, in units of 2^20 bytes, and stays when the memory is given back."""

from __future__ import annotations

import json
import subprocess
import sys

_HELD_MB = 512
_CHILD = "from avatar.evaluate.memory import peak_memory_mb; print(peak_memory_mb())"
_PARENT = f"""
import json, subprocess, sys
from avatar.evaluate.memory import peak_memory_mb
before = peak_memory_mb()
bytearray({_HELD_MB} << 20)
child = subprocess.run([sys.executable, "-c", {_CHILD!r}], capture_output=True, text=True, check=True)
print(json.dumps([before, peak_memory_mb(), float(child.stdout)]))
"""


def test_what_was_held_counts_after_it_is_gone_and_not_in_a_child() -> None:
    done = subprocess.run([sys.executable, "-c", _PARENT], capture_output=True, text=True, check=True)
    before, after, child = json.loads(done.stdout)
    assert before + 0.9 * _HELD_MB < after < before + 1.2 * _HELD_MB
    assert child < 1.2 * before
