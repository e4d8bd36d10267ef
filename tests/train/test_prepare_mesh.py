"""Footage to tensors: sound that is not in step with the lips is moved, within reason."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from avatar.codec.mesh.motion import MeshMotion
from avatar.data.sync import model
from avatar.data.sync.lag_curve import OFFSETS
from avatar.data.sync.sound import shipped_encoder, speech_per_frame
from avatar.face_mesh import NUM_POINTS
from avatar.pipeline import debug_pipeline
from avatar.train.config import DataOptions
from avatar.train.prepare_mesh import MeshPreparer, delayed_sound
from avatar.types import Waveform

FRAMES = 40
SPEECH = Waveform((np.random.default_rng(0).standard_normal(FRAMES * 640) * 0.1).astype(np.float32))


def in_step(offset: int | None, *, align: bool = True) -> Waveform:
    """What a preparer makes of `SPEECH` where the sync scorer finds it off by so many frames, through its own encoder."""
    distances = np.full(len(OFFSETS), np.nan) if offset is None else 1.0 - (offset == OFFSETS)

    def judged(heard: np.ndarray, *_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        np.testing.assert_array_equal(heard, speech_per_frame(SPEECH, shipped_encoder()))
        return distances, np.full(len(OFFSETS), 9)

    preparer = MeshPreparer(debug_pipeline().speech_encoder, DataOptions(align_sound=align))
    still = np.zeros((FRAMES, 3), np.float32)
    motion = MeshMotion(np.zeros((FRAMES, NUM_POINTS, 3), np.float32), still, still, still[:, :2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "shipped_model", lambda: SimpleNamespace(distances=judged))
        return preparer._in_step(SPEECH, motion, np.ones(FRAMES, bool))


@pytest.mark.parametrize("offset", [3, -5, 6])
def test_sound_that_is_early_is_delayed_and_late_sound_advanced(offset: int) -> None:
    moved, shift = in_step(offset).samples, 640 * offset
    assert len(moved) == len(SPEECH.samples)
    kept = slice(max(shift, 0), len(moved) + min(shift, 0))
    assert (moved[kept] == np.roll(SPEECH.samples, shift)[kept]).all()
    assert not moved[: kept.start].any() and not moved[kept.stop :].any()


def test_sound_stays_where_nothing_sure_is_known() -> None:
    for heard in (in_step(None), in_step(7), in_step(3, align=False), in_step(0)):
        assert (heard.samples == SPEECH.samples).all()


def test_a_delay_longer_than_the_sound_leaves_silence() -> None:
    assert not delayed_sound(Waveform(np.ones(10, np.float32)), 1.0).samples.any()
    assert not delayed_sound(Waveform(np.ones(10, np.float32)), -1.0).samples.any()
