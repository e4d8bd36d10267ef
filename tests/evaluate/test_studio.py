"""The studio makes what the pipeline makes, for people who do not exist."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.codec.mesh.idle import IdleMotion
from avatar.codec.mesh.motion import MeshMotion
from avatar.dit.generate import SamplingOptions
from avatar.dit.guidance import audio_guidance
from avatar.errors import OptionError
from avatar.evaluate.face_track import FaceTrack
from avatar.evaluate.studio import Studio
from avatar.pipeline import DEFAULT_GUIDANCE, SIGMA_SHIFT, TEMPERATURE, AvatarPipeline, debug_pipeline
from avatar.types import Waveform


@pytest.fixture(scope="module")
def pipe() -> AvatarPipeline:
    return debug_pipeline()


@pytest.fixture(scope="module")
def studio(pipe: AvatarPipeline) -> Studio:
    sampling = SamplingOptions(2, SIGMA_SHIFT, audio_guidance(DEFAULT_GUIDANCE), TEMPERATURE)
    return Studio(**pipe.components, plan=pipe.plan, sampling=sampling)


@pytest.fixture(scope="module")
def speech() -> Waveform:
    samples = np.random.default_rng(0).normal(size=40_000) * np.repeat([0.001, 0.2, 0.001, 0.2], 10_000)
    return Waveform(samples.astype(np.float32))


def test_the_studio_makes_the_pipelines_own_motion(pipe: AvatarPipeline, studio: Studio, speech: Waveform) -> None:
    person = studio.person(1)
    take = pipe._take(person.portrait, speech, emotion="happy:0.6", num_inference_steps=2)
    theirs = MeshMotion.concatenate(list(pipe._motion(take, 0, pipe._latents(take, 0))))
    known = dataclasses.replace(person, identity=take.cast[0].identity)
    (ours,) = studio.speak(known, speech, ("happy:0.6",))
    lively = ours + IdleMotion(0).frames(0, len(ours))
    for name in ("expression", "rotation", "translation", "gaze"):
        np.testing.assert_allclose(getattr(lively, name), getattr(theirs, name)[: len(ours)], atol=1e-4)


def test_one_motion_per_emotion_as_long_as_the_speech(studio: Studio, speech: Waveform) -> None:
    motions = studio.speak(studio.person(1), speech, ("neutral", "angry", "sad:0.3"))
    assert [len(motion) for motion in motions] == [62, 62, 62]  # 2.5 s at 25 fps, to the nearest even
    assert np.abs(motions[0].expression - motions[1].expression).max() > 1e-3


def test_people_differ_by_seed_and_start_with_closed_lips(studio: Studio, speech: Waveform) -> None:
    assert torch.equal(studio.person(1).identity, studio.person(1).identity)
    assert not torch.equal(studio.person(1).identity, studio.person(2).identity)
    for seed in range(4):
        start = FaceTrack.from_motion(studio.speak(studio.person(seed), speech)[0]).opening[0]
        assert abs(start) < 0.005


def test_a_picture_is_refused_where_labels_are_wanted(studio: Studio, speech: Waveform, tmp_path: Path) -> None:
    picture = tmp_path / "smile.png"
    picture.touch()
    with pytest.raises(OptionError, match="not a label"):
        studio.speak(studio.person(1), speech, (str(picture),))
