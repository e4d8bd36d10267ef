"""Small studies for the tests: clips of three systems, and raters who answer as they are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatar.media import write_picture, write_video
from avatar.study.spec import ItemSpec, MediaSpec, StudySpec, SystemSpec
from avatar.types import Waveform

FPS = 25
SECONDS = 0.8
SYSTEMS = ("still", "noisy", "real")


def write_systems(folder: Path, items: int = 4) -> StudySpec:
    """Three systems whose clips differ as much as clips can: a still picture, noise, and something in between."""
    specs = []
    for index in range(items):
        item = f"item{index}"
        rng = np.random.default_rng(index)
        tone = 0.05 * (index + 1) * np.sin(2 * np.pi * (200 + 50 * index) * np.arange(int(16_000 * SECONDS)) / 16_000)
        face = rng.integers(0, 255, (64, 80, 3), np.uint8)
        (folder / "in").mkdir(exist_ok=True, parents=True)
        write_picture(folder / "in" / f"{item}.png", face)
        for system in SYSTEMS:
            path = folder / system / f"{item}.mp4"
            path.parent.mkdir(exist_ok=True)
            sound = Waveform(tone.astype(np.float32))
            write_video(path, iter([_frames(system, face, rng)]), fps=FPS, speech=sound, preset="ultrafast")
        groups = {"ethnicity": "ab"[index % 2]}
        specs.append(ItemSpec(item, folder / "in" / f"{item}.png", None, ("en", "zh")[index % 2], groups))
    systems = tuple(SystemSpec(name, name.title(), folder / name, real=name == "real") for name in SYSTEMS)
    media = MediaSpec(size_px=80, crf=23)
    return StudySpec({"en": "A test"}, systems, tuple(specs), seed=7, raters=4, clips_per_rater=9, media=media)


def _frames(system: str, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frames = np.repeat(face[None], int(FPS * SECONDS), 0)
    if system == "noisy":
        return rng.integers(0, 255, frames.shape, np.uint8)
    if system == "real":
        return np.stack([np.roll(frame, step, 1) for step, frame in enumerate(frames)])
    return frames
