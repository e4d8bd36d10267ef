"""Keeps a native library's start-up chatter off the terminal without touching anybody's logging settings."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# glog and absl lines ("W0000 00:00:1732… file.cc:186] …"), TensorFlow Lite's "INFO: Created …", absl's own preamble.
_CHATTER = re.compile(
    rb"[IWE]\d{4} [\d:. ]+|WARNING: All log messages before absl::|INFO: |.*inference_feedback_manager"
)


@contextlib.contextmanager
def quiet_native_log() -> Iterator[None]:
    """While open, standard error goes to a file; at the end every line that is not chatter is passed on.

    The native loggers write to file descriptor 2 behind Python's back and have no switch that works after start-up.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # no standard error at all (a daemon)
        yield
        return
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            hidden.seek(0)
            rest = b"".join(line for line in hidden if line.strip() and not _CHATTER.match(line))
            if rest:
                os.write(real, rest)
            os.close(real)
