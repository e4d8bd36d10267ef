"""Tiny random models of the real classes, to try a pipeline with before 30 GB of weights are fetched."""

from avatar.debug.adapters import DEBUG_SYSTEMS, debug_adapter, load_debug_adapter
from avatar.debug.files import write_debug_files
from avatar.debug.repository import KINDS, debug_components, debug_tokenizer, write_debug_repository

__all__ = [
    "DEBUG_SYSTEMS",
    "KINDS",
    "debug_adapter",
    "debug_components",
    "debug_tokenizer",
    "load_debug_adapter",
    "write_debug_files",
    "write_debug_repository",
]
