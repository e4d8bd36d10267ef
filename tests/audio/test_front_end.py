"""Speech front ends of published systems; their numbers are checked against golden values elsewhere (scripts/check_parity.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from avatar.audio.front_end import (
    check_encoder,
    frames_of_chunks,
    frames_to_cover,
    speech_features,
)
from avatar.audio.front_end_settings import SpeechFrontEnd
from avatar.audio.loudness import integrated_loudness, with_loudness
from avatar.errors import OptionError
from avatar.types import Waveform

WIDTH, LAYERS = 24, 3
FRONT_END = SpeechFrontEnd("facebook/wav2vec2-base-960h", "last", False, hidden_size=WIDTH, num_layers=LAYERS)


def _encoder(name: str = "", **settings: object) -> Wav2Vec2Model:
    torch.manual_seed(0)
    values = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }
    config = Wav2Vec2Config(**{**values, **settings})
    config._name_or_path = name
    return Wav2Vec2Model(config).eval()


def _sound(seconds: float = 1.0, level: float = 0.1) -> Waveform:
    samples = level * np.random.default_rng(0).standard_normal(int(16_000 * seconds))
    return Waveform(samples.astype(np.float32))


@pytest.mark.parametrize(
    ("layers", "at_video_rate", "shape"),
    [("last", False, (49, WIDTH)), ("stack", True, (25, LAYERS, WIDTH)), ("all", True, (25, (LAYERS + 2) * WIDTH))],
)
def test_features_have_the_layers_and_the_rate_asked_for(
    layers: str, at_video_rate: bool, shape: tuple[int, ...]
) -> None:
    front_end = replace(FRONT_END, layers=layers, at_video_rate=at_video_rate)
    assert speech_features(_encoder(), _sound(), front_end).shape == shape


def test_hidden_states_are_those_of_transformers() -> None:
    encoder, sound = _encoder(), _sound()
    values = (sound.samples - sound.samples.mean()) / np.sqrt(sound.samples.var() + 1e-7)
    with torch.no_grad():
        theirs = encoder(torch.from_numpy(values)[None], output_hidden_states=True)
    ours = speech_features(encoder, sound, replace(FRONT_END, layers="all"))
    expected = torch.cat([theirs.last_hidden_state, *theirs.hidden_states], dim=-1)[0]
    assert torch.allclose(ours, expected, atol=1e-5)


def test_features_for_a_longer_video_hear_silence_at_the_end() -> None:
    front_end = replace(FRONT_END, layers="stack", at_video_rate=True)
    assert len(speech_features(_encoder(), _sound(), front_end, num_frames=33)) == 33


def test_the_right_encoder_passes_and_every_difference_of_a_wrong_one_is_named() -> None:
    check_encoder(_encoder(), FRONT_END)
    check_encoder(_encoder("/models/facebook/wav2vec2-base-960h"), FRONT_END)
    with pytest.raises(OptionError) as caught:
        check_encoder(_encoder(num_hidden_layers=2, do_stable_layer_norm=True), FRONT_END)
    assert "layers 2 instead of 3" in str(caught.value) and "stable layer norm True" in str(caught.value)


def test_an_encoder_of_the_same_shape_is_told_apart_by_its_name() -> None:
    with pytest.raises(OptionError, match="model TencentGameMate/chinese-wav2vec2-base instead of facebook/wav2vec2"):
        check_encoder(_encoder("TencentGameMate/chinese-wav2vec2-base"), FRONT_END)


def test_without_a_name_an_encoder_is_told_apart_by_what_it_was_trained_for() -> None:
    """A renamed folder: the settings of the one say that it writes letters, those of the other that it does not."""
    check_encoder(_encoder(architectures=["Wav2Vec2ForCTC"]), FRONT_END)
    check_encoder(_encoder(architectures=["Wav2Vec2Model"]), FRONT_END)
    with pytest.raises(OptionError, match="trained as Wav2Vec2ForPreTraining instead of Wav2Vec2ForCTC"):
        check_encoder(_encoder(architectures=["Wav2Vec2ForPreTraining"]), FRONT_END)


def test_other_rates_and_sounds_without_a_feature_are_refused() -> None:
    with pytest.raises(OptionError, match="hears 16000 Hz, not 8000 Hz"):
        speech_features(_encoder(), Waveform(np.zeros(8000, np.float32), 8000), FRONT_END)
    with pytest.raises(OptionError, match="needs 400 samples or more, not 100"):
        speech_features(_encoder(), Waveform(np.zeros(100, np.float32)), FRONT_END)


def test_a_sine_at_full_scale_reads_minus_three() -> None:
    """ITU-R BS.1770-4: a 997 Hz sine at 0 dBFS in one channel reads -3.01 LUFS."""
    seconds = np.arange(16_000 * 3) / 16_000
    sine = Waveform(np.sin(2 * np.pi * 997 * seconds).astype(np.float32))
    assert integrated_loudness(sine) == pytest.approx(-3.01, abs=0.1)


def test_loudness_is_brought_to_the_target_and_silence_is_left_alone() -> None:
    assert integrated_loudness(with_loudness(_sound(2.0, 0.01), -23.0)) == pytest.approx(-23.0, abs=1e-4)
    silence = Waveform(np.zeros(16_000, np.float32))
    assert integrated_loudness(silence) == -np.inf and with_loudness(silence, -23.0) is silence
    assert integrated_loudness(_sound(0.1)) == -np.inf


def test_pauses_do_not_count() -> None:
    loud = _sound(2.0)
    with_pause = Waveform(np.concatenate([loud.samples, np.zeros(48_000, np.float32), loud.samples]))
    assert integrated_loudness(with_pause) == pytest.approx(integrated_loudness(loud), abs=0.6)


def test_frames_are_counted_as_published() -> None:
    assert frames_to_cover(2.3, 23, 81) == 57 and frames_to_cover(10, 23, 81) == 81
    assert frames_of_chunks(36_800, 25, 41, 13) == 68
    assert frames_of_chunks(8_000, 25, 41, 13) == 40
