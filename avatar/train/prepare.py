"""Prepares clips once, for any number of runs; interrupted, it goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from avatar.data.clip_dataset import ClipEntry, ClipStore
from avatar.data.clip_sources import SourceClip, find_clips
from avatar.errors import InputError


class Preparer(Protocol):
    """Makes the tensors of a clip, for one kind of model."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Labels that the tensors depend on."""
        ...

    def settings(self) -> dict[str, Any]:
        """What decides the tensors."""
        ...

    def prepare(self, clip: SourceClip) -> tuple[ClipEntry, dict[str, np.ndarray]]:
        """A clip's line in the index and its tensors; raises an `InputError` where the clip cannot be used."""
        ...


def prepare_clips(
    folders: Sequence[str | Path],
    cache: str | Path,
    make_preparer: Callable[[], Preparer],
    progress: Callable[[int, int], None] | None = None,
) -> ClipStore:
    """Adds to a store what it lacks of the clips of some folders, and takes labels, people and splits as they are now.

    Args:
        folders: see `find_clips`.
        cache: folder of the store.
        make_preparer: makes what does the work.
        progress: told how many clips are done, and of how many.

    Returns:
        The store, with the clips of these folders alone; those that cannot be used are in its `refused`, each with the reason.

    Raises:
        InputError: a folder cannot be used, or no clip could.
        OptionError: the store was made with other settings.
    """
    clips, preparer = find_clips(folders), make_preparer()
    store = ClipStore(cache, preparer.settings())
    known = store.known() - _outdated(store, clips, preparer.reads)
    for done, clip in enumerate(clips, start=1):
        if clip.clip_id not in known:
            try:
                entry, tensors = preparer.prepare(clip)
            except InputError as err:
                store.refuse(clip.clip_id, str(err))
            else:
                store.add(entry, tensors)
        if progress:
            progress(done, len(clips))
    now = {clip.clip_id: clip for clip in clips}
    store.refused = {name: reason for name, reason in store.refused.items() if name in now}
    there = [(entry, now[entry.clip_id]) for entry in store.entries if entry.clip_id in now]
    store.select(
        [replace(entry, person=clip.person, split=clip.split, labels=dict(clip.labels)) for entry, clip in there]
    )
    if not store.entries:
        first = next(iter(store.refused.items()), ("", "there are none"))
        raise InputError(f"none of {len(clips)} clips can be used; the first, {first[0]}: {first[1]}")
    return store


def _outdated(store: ClipStore, clips: Sequence[SourceClip], reads: Sequence[str]) -> set[str]:
    """Clips of a store whose tensors were made with another label than they have now."""
    before = {entry.clip_id: entry.labels for entry in store.entries}
    return {
        clip.clip_id
        for clip in clips
        if clip.clip_id in before and any(before[clip.clip_id].get(name) != clip.labels.get(name) for name in reads)
    }
