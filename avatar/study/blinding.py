"""A study's folder and its key to a list of what would tell systems apart without looking at the pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import av

from avatar.study.formats import Key, KeyClip, read_study

EPOCH_S = 946_684_800  # 2000-01-01: the time of every file
_CLIP_NAME = re.compile(r"media/[0-9a-f]{16}\.(mp4|jpg)")
_TRIAL_NAME = re.compile(r"t[0-9a-f]{16}")
_PLAIN_TAGS = {"major_brand", "minor_version", "compatible_brands", "language", "handler_name"}
_X264_WORDS = re.compile(rb"x264 - core[^\0]*")
_HEAD_BYTES = 1 << 16


def tell_tales(folder: Path, key: Key) -> list[str]:
    """What gives systems away; nothing if all is well.

    Looked at: names, numbers of bytes, times, tags, streams, the encoder's words, ids of trials, other files.
    """
    return [*_of_names(folder, key), *_of_files(folder, key), *_of_streams(folder, key)]


def _of_names(folder: Path, key: Key) -> Iterator[str]:
    study = read_study(folder)
    trials = [trial for slot in (study.practice, *study.slots) for trial in slot]
    for trial in trials:
        if not _TRIAL_NAME.fullmatch(trial.id) or not _CLIP_NAME.fullmatch(trial.clip):
            yield f"the names {trial.id} and {trial.clip} are not opaque"
        if trial.portrait is not None and not _CLIP_NAME.fullmatch(trial.portrait):
            yield f"the name {trial.portrait} is not opaque"
    if len({trial.id for trial in trials}) < len(trials):
        yield "ids of trials are used twice"
    expected = set(key.clips) | {trial.portrait for trial in trials} | {"index.html", "study.json", "media"}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in expected and path.suffix != ".jpg":
            yield f"{name} does not belong there"


def _of_files(folder: Path, key: Key) -> Iterator[str]:
    sizes: dict[str, set[int]] = defaultdict(set)
    for clip, what in key.clips.items():
        sizes[what.item].add((folder / clip).stat().st_size)
    yield from (f"the clips of item {item} have sizes {sorted(size)}" for item, size in sizes.items() if len(size) > 1)
    late = [path.name for path in [folder, *folder.rglob("*")] if path.stat().st_mtime != EPOCH_S]
    if late:
        yield f"the times of {', '.join(late[:5])} say when they were made"


def _of_streams(folder: Path, key: Key) -> Iterator[str]:
    forms: dict[str, dict[tuple[object, ...], KeyClip]] = defaultdict(dict)
    for clip, what in key.clips.items():
        form, tags = _form(folder / clip)
        if tags:
            yield f"{clip} carries the tags {', '.join(sorted(tags))}"
        forms[what.item].setdefault(form, what)
    for item, found in forms.items():
        if len(found) > 1:
            (one, first), (two, second) = list(found.items())[:2]
            differing = [(a, b) for a, b in zip(one, two, strict=False) if a != b]
            yield f"the streams of item {item} differ between {first.system} and {second.system}: {differing}"


def _form(path: Path) -> tuple[tuple[object, ...], set[str]]:
    """What a program that lists media would print, and tags that should not be there."""
    with av.open(str(path)) as container:
        tags = set(container.metadata)
        form: list[object] = [container.duration, *sorted(container.metadata.items())]
        for stream in container.streams:
            context = stream.codec_context
            tags |= set(stream.metadata)
            form += [context.name, context.profile, stream.duration, stream.time_base, stream.frames, stream.start_time]
            form += [stream.bit_rate] if stream.type == "video" else []
            form += [*sorted(stream.metadata.items())]
        (video,), (sound,) = container.streams.video, container.streams.audio
        form += [video.width, video.height, video.pix_fmt, video.average_rate, video.codec_context.extradata]
        form += [sound.rate, sound.layout.name, sound.format.name]
    head = path.read_bytes()[:_HEAD_BYTES]
    words = _X264_WORDS.search(head)
    return (*form, words and words[0]), tags - _PLAIN_TAGS
