"""The synthetic speech corpus on disk: one file per voice, made from a seed, resumable voice by voice."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar.data.synthetic.synthesise import Utterance, utterances
from avatar.data.synthetic.voices import VOICES, Voice
from avatar.errors import MediaError


@dataclass(frozen=True)
class SpeechShard:
    """All utterances of one voice.

    Attributes:
        voice: the voice.
        utterances: in the order they were made.
    """

    voice: Voice
    utterances: list[Utterance]


def make_speech(
    folder: Path,
    *,
    seed: int,
    hours_scale: float = 1.0,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Synthesises every voice of the corpus into `folder`, leaving alone the voices that are already there.

    Args:
        folder: receives one `<voice>.npz` each; made when absent.
        seed: the same seed gives the same corpus (with the same versions of the programs).
        hours_scale: multiplies every voice's share of hours.
        progress: told each voice's name and the fraction of it that is done.

    Raises:
        MissingDependencyError: a synthesiser is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for voice in VOICES:
        path = folder / f"{voice.name}.npz"
        if not path.exists():
            _make_voice(voice, path, seed, voice.hours * hours_scale * 3600, progress or (lambda name, done: None))


def _make_voice(voice: Voice, path: Path, seed: int, wanted_s: float, progress: Callable[[str, float], None]) -> None:
    made: list[Utterance] = []
    total_s = 0.0
    for utterance in utterances(voice, seed + zlib.crc32(voice.name.encode())):
        made.append(utterance)
        total_s += utterance.duration_s
        progress(voice.name, min(1.0, total_s / wanted_s))
        if total_s >= wanted_s:
            break
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(
            file,
            samples=np.concatenate([u.samples for u in made]),
            sample_counts=np.array([len(u.samples) for u in made]),
            phones=np.concatenate([u.phones for u in made]),
            ends_s=np.concatenate([u.ends_s for u in made]),
            phone_counts=np.array([len(u.phones) for u in made]),
            texts=np.array([u.text for u in made]),
        )
    temporary.replace(path)


def load_speech(folder: Path, split: str) -> list[SpeechShard]:
    """Reads the voices of one split (`"train"` or `"held-out"`).

    Raises:
        MediaError: a voice's file is missing.
    """
    return [load_voice(folder, voice) for voice in VOICES if voice.split == split]


def load_voice(folder: Path, voice: Voice) -> SpeechShard:
    """Reads one voice.

    Raises:
        MediaError: its file is missing.
    """
    path = folder / f"{voice.name}.npz"
    if not path.exists():
        raise MediaError(f"{path} is missing; make the corpus first with scripts/make_embedded_corpus.py {folder}")
    with np.load(path) as data:
        cuts = np.cumsum(data["sample_counts"])[:-1]
        phone_cuts = np.cumsum(data["phone_counts"])[:-1]
        parts = zip(
            np.split(data["samples"], cuts),
            np.split(data["phones"], phone_cuts),
            np.split(data["ends_s"], phone_cuts),
            data["texts"],
            strict=True,
        )
        return SpeechShard(voice, [Utterance(s, p, e, str(t)) for s, p, e, t in parts])
