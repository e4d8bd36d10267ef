from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.data.synthetic import corpus
from avatar.data.synthetic.phones import PHONES
from avatar.data.synthetic.voices import HELD_OUT, Voice

VOICES = (Voice("a", "flite", "a", "english", 1, ""), Voice("b", "flite", "b", "english", 1, "", HELD_OUT))


@pytest.fixture
def speech_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of two voices that make noise, a level per phone."""
    monkeypatch.setattr(corpus, "VOICES", VOICES)
    rng = np.random.default_rng(0)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for voice in VOICES:
        phones = [rng.integers(0, len(PHONES), 12).astype(np.int16) for _ in range(3)]
        ends = [np.cumsum(rng.uniform(0.05, 0.15, 12)).astype(np.float32) for _ in range(3)]
        samples = [(rng.normal(size=int(e[-1] * 16_000)) * 3000).astype(np.int16) for e in ends]
        np.savez(
            folder / f"{voice.name}.npz",
            samples=np.concatenate(samples),
            sample_counts=[len(s) for s in samples],
            phones=np.concatenate(phones),
            ends_s=np.concatenate(ends),
            phone_counts=[12] * 3,
            texts=np.array(["x"] * 3),
        )
    return folder
