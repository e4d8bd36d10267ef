"""Audio tokens, asked for in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Model

from avatar.audio.alignment import audio_windows, window_length
from avatar.audio.encoder import encode_speech, small_encoder_config
from avatar.audio.features import AudioTokenSource
from avatar.audio.projector import AudioProjector
from avatar.audio.voice_activity import speech_activity
from avatar.types import Waveform

RATE = 16_000


@pytest.fixture(scope="module")
def parts() -> tuple[Wav2Vec2Model, AudioProjector]:
    torch.manual_seed(0)
    encoder = Wav2Vec2Model(small_encoder_config(hidden_size=64, num_layers=1)).eval()
    return encoder, AudioProjector(64, 24, window_length(4, 4), 4).eval()


@pytest.fixture(scope="module")
def speech() -> Waveform:
    rng = np.random.default_rng(1)
    t = np.arange(11 * RATE) / RATE
    return Waveform((rng.normal(size=len(t)) * 0.1 * np.sin(2 * np.pi * 1.5 * t).clip(0)).astype(np.float32))


def test_asked_in_chunks_equals_asked_at_once(parts: tuple[Wav2Vec2Model, AudioProjector], speech: Waveform) -> None:
    whole = AudioTokenSource(*parts, speech, 4).tokens(0, 70)
    source = AudioTokenSource(*parts, speech, 4)
    cuts = [(0, 5), (1, 13), (9, 25), (21, 22), (22, 60), (56, 70)]  # each takes up some frames of the one before
    for start, stop in cuts:
        assert torch.allclose(source.tokens(start, stop), whole[start:stop], atol=1e-6)


def test_tokens_are_the_projected_windows_of_the_gated_sound(
    parts: tuple[Wav2Vec2Model, AudioProjector], speech: Waveform
) -> None:
    encoder, projector = parts
    features = torch.cat(list(encode_speech(encoder, speech, speech_activity(speech))))
    with torch.no_grad():
        expected = projector(audio_windows(features, 2, 9, temporal_stride=4, margin_features=4))
    tokens = AudioTokenSource(encoder, projector, speech, 4).tokens(2, 9)
    assert tokens.shape == (7, 16, 24)
    assert torch.allclose(tokens, expected, atol=1e-6)


def test_old_features_are_forgotten(parts: tuple[Wav2Vec2Model, AudioProjector], speech: Waveform) -> None:
    source = AudioTokenSource(*parts, Waveform(np.tile(speech.samples, 4)), 4)
    most = 0
    for start in range(1, 260, 12):
        source.tokens(max(0, start - 4), start + 12)
        most = max(most, len(source._features))
    assert most <= 400 + 16 * 8 + 16  # one encoder window and one chunk


def test_after_the_sound_ends_there_is_silence_for_as_long_as_asked(
    parts: tuple[Wav2Vec2Model, AudioProjector], speech: Waveform
) -> None:
    source = AudioTokenSource(*parts, Waveform(speech.samples[: RATE // 4]), 4)
    source.tokens(0, 13)
    late = source.tokens(9, 25)
    assert torch.allclose(late, late[:1].expand_as(late))


def test_silence_sounds_like_digital_silence_to_the_encoder(
    parts: tuple[Wav2Vec2Model, AudioProjector], speech: Waveform
) -> None:
    rng = np.random.default_rng(2)
    spoken = speech.samples[: 2 * RATE]
    hiss = rng.normal(size=3 * RATE).astype(np.float32) * 1e-4
    heard = [
        torch.cat(list(encode_speech(parts[0], sound, speech_activity(sound))))
        for sound in (Waveform(np.concatenate([spoken, tail])) for tail in (hiss, np.zeros_like(hiss)))
    ]
    assert torch.allclose(heard[0][150:], heard[1][150:], atol=1e-4)
    assert len(speech_activity(Waveform(spoken[:1]))) == 1
