"""Data: the synthetic corpus, curation of videos, and how training draws from both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avatar.data.curation.run import curate as curate
    from avatar.data.curation.run import rethreshold as rethreshold
    from avatar.data.shards import ShardReader as ShardReader

_PUBLIC = {
    "curate": "avatar.data.curation.run",
    "rethreshold": "avatar.data.curation.run",
    "explain": "avatar.data.curation.explain",
    "ShardReader": "avatar.data.shards",
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for: most of this package is of no use without its extra."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
