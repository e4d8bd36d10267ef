"""Native libraries: their start-up chatter kept off the terminal, their load errors put into one useful line."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from avatar.errors import MissingDependencyError, system_package

# glog and absl lines ("W0000 00:00:1732… file.cc:186] …"), TensorFlow Lite's "INFO: Created …", absl's own preamble.
_CHATTER = re.compile(
    rb"[IWE]\d{4} [\d:. ]+|WARNING: All log messages before absl::|INFO: |.*inference_feedback_manager"
)


def missing_library(err: ImportError | OSError, package: str, install: str) -> MissingDependencyError:
    """The error to raise when a package cannot be imported: it names the system package if that is what is absent.

    Args:
        err: what the import raised.
        package: what was imported, as the user knows it.
        install: the command that installs it.
    """
    absent = system_package(str(err))
    if absent is not None:
        return MissingDependencyError(
            f"{package} needs a system library that this machine lacks ({err}); install it, for example: "
            f"apt-get install {absent}"
        )
    return MissingDependencyError(f"{package} cannot be loaded ({err}); install it: {install}")


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
