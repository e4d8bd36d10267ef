"""Which of accelerate's trackers a run uses; figures also go to `log.jsonl` in any case."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from avatar.errors import MissingDependencyError, OptionError

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb"}  # name to package


def tracker_names(asked: Sequence[str]) -> list[str]:
    """Names for `Accelerator(log_with=…)`.

    Args:
        asked: of the config; `"auto"` is TensorBoard where it is installed.

    Raises:
        OptionError: a name that is not known.
        MissingDependencyError: a tracker that was named is not installed.
    """
    names = []
    for name in asked:
        if name == "auto":
            names += ["tensorboard"] if find_spec("tensorboard") else []
            continue
        if name not in TRACKERS:
            raise OptionError(f"log.trackers has no {name!r}; accepted: auto, {', '.join(TRACKERS)}")
        if not find_spec(TRACKERS[name]):
            raise MissingDependencyError(
                f"log.trackers names {name}, which is not installed: pip install {TRACKERS[name]}"
            )
        names.append(name)
    return names
