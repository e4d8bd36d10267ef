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


FRAMES = 60


@pytest.fixture(scope="session")
def clip_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared mesh clips of eight people: made-up motion, and noise for sound."""
    from avatar.codec.mesh.motion import MeshMotion
    from avatar.codec.mesh.rig import default_rig
    from avatar.data.clip_dataset import ClipStore
    from avatar.data.clip_sources import SourceClip
    from avatar.data.synthetic.faces import random_face
    from avatar.identity.features import geometry_features, with_unknown_appearance
    from avatar.pipeline import debug_pipeline
    from avatar.train.config import DataOptions
    from avatar.train.prepare_mesh import MeshPreparer
    from avatar.types import Waveform

    preparer, rig = MeshPreparer(debug_pipeline().speech_encoder, DataOptions()), default_rig()
    store = ClipStore(tmp_path_factory.mktemp("prepared"), preparer.settings())
    for k in range(8):
        rng = np.random.default_rng(k)
        weights = rig.weights(FRAMES, jaw_open=0.3 + 0.3 * np.sin(np.arange(FRAMES) / 3 + k))
        still = np.zeros((FRAMES, 3), np.float32)
        motion = MeshMotion(rig.displacement(weights), still, still, still[:, :2])
        emotion = "sad" if k % 4 == 0 else "happy"
        clip = SourceClip(
            f"clip{k}", Path("made-up.mp4"), person=f"p{k}", labels={"emotion": emotion, "ethnicity": "ab"[k % 2]}
        )
        speech = Waveform((rng.standard_normal(FRAMES * 640) * 0.1).astype(np.float32))
        identity = with_unknown_appearance(geometry_features(random_face(rng)[0]))
        store.add(preparer.entry(clip, FRAMES), preparer.tensors(motion, speech, identity, clip.clip_id))
    return store.folder
