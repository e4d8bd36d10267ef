"""Speech of any length to features, in pieces that do not show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from avatar.audio import encoder as encoder_module
from avatar.audio.encoder import encode_batch, encode_speech, normalised, pad_for_frames, small_encoder_config
from avatar.errors import OptionError
from avatar.types import Waveform

RATE = 16_000


@pytest.fixture(scope="module")
def encoder() -> Wav2Vec2Model:
    torch.manual_seed(0)
    return Wav2Vec2Model(small_encoder_config(hidden_size=64, num_layers=1)).eval()


@pytest.fixture(scope="module")
def speech() -> Waveform:
    """Twelve seconds of noise with a syllable-like swell."""
    rng = np.random.default_rng(0)
    t = np.arange(12 * RATE) / RATE
    return Waveform((rng.normal(size=len(t)) * 0.1 * (1.2 + np.sin(2 * np.pi * 3 * t))).astype(np.float32))


@pytest.mark.parametrize("num_samples", [1, 319, 320, 321, 5 * RATE, 8 * RATE, 8 * RATE + 1, 9 * RATE - 7])
def test_pieces_concatenate_to_one_feature_per_20_ms_begun(
    encoder: Wav2Vec2Model, speech: Waveform, num_samples: int
) -> None:
    pieces = list(encode_speech(encoder, Waveform(speech.samples[:num_samples])))
    assert sum(map(len, pieces)) == -(-num_samples // 320)
    assert all(piece.shape[1] == 64 and piece.dtype == torch.float32 for piece in pieces)


def test_no_sound_has_no_features(encoder: Wav2Vec2Model) -> None:
    assert list(encode_speech(encoder, Waveform(np.zeros(0, np.float32)))) == []


def test_pieces_do_not_depend_on_when_they_are_taken(encoder: Wav2Vec2Model, speech: Waveform) -> None:
    one, other = encode_speech(encoder, speech), encode_speech(encoder, speech)
    first = next(one)
    everything = torch.cat(list(other))
    assert torch.equal(torch.cat([first, *one]), everything)


def test_more_context_changes_the_features_of_a_window_little(
    encoder: Wav2Vec2Model, speech: Waveform, monkeypatch: pytest.MonkeyPatch
) -> None:
    windowed = torch.cat(list(encode_speech(encoder, speech)))
    monkeypatch.setattr(encoder_module, "WINDOW_FEATURES", 10_000)
    whole = torch.cat(list(encode_speech(encoder, speech)))
    assert windowed.shape == whole.shape
    assert (windowed - whole).norm() < 0.05 * whole.norm()
    border = slice(8 * 50 - 5, 8 * 50 + 5)  # no seam where two windows meet
    assert (windowed[border] - whole[border]).norm() < 0.05 * whole[border].norm()


def test_memory_is_bounded_by_the_window(
    encoder: Wav2Vec2Model, monkeypatch: pytest.MonkeyPatch, speech: Waveform
) -> None:
    longest = []

    def spy(model: Wav2Vec2Model, samples: torch.Tensor) -> torch.Tensor:
        longest.append(samples.shape[1])
        return encode_batch(model, samples)

    monkeypatch.setattr(encoder_module, "encode_batch", spy)
    list(encode_speech(encoder, Waveform(np.tile(speech.samples, 3))))
    assert max(longest) == 10 * RATE


@pytest.mark.parametrize("num_frames", [1, 7, 50])
def test_padding_gives_one_frame_per_320_samples(encoder: Wav2Vec2Model, num_frames: int) -> None:
    with torch.no_grad():
        features = encode_batch(encoder, torch.randn(2, 320 * num_frames))
    assert features.shape == (2, num_frames, 64)


def test_the_base_models_stem_fits_too() -> None:
    base = Wav2Vec2Config()  # facebook/wav2vec2-base: receptive field 400, stride 320
    assert pad_for_frames(torch.zeros(1, 3200), base).shape[1] == 3200 + 80


def test_frames_are_centred_on_their_20_ms(encoder: Wav2Vec2Model) -> None:
    stem = encoder.feature_extractor
    click = torch.zeros(1, 3200)
    click[0, 5 * 320 + 160] = 1.0
    with torch.no_grad():
        silent = stem(pad_for_frames(torch.zeros_like(click), encoder.config))
        heard = stem(pad_for_frames(click, encoder.config))
    assert (heard - silent).abs().sum(1)[0].argmax() == 5


def test_a_stem_with_another_stride_is_refused() -> None:
    config = Wav2Vec2Config(conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2))
    with pytest.raises(OptionError, match="must give 50 features a second, its stem strides over 10 samples"):
        pad_for_frames(torch.zeros(1, 320), config)


def test_sound_at_another_rate_is_refused(encoder: Wav2Vec2Model) -> None:
    with pytest.raises(OptionError, match="hears 16000 Hz, not 8000 Hz; resample first"):
        next(encode_speech(encoder, Waveform(np.zeros(800, np.float32), 8_000)))


def test_loudness_does_not_matter_but_near_silence_stays_silent(speech: Waveform) -> None:
    loud, quiet = normalised(speech.samples), normalised(speech.samples * 0.05)
    assert np.allclose(loud, quiet, atol=1e-4)
    assert abs(loud.mean()) < 1e-4 and abs(loud.std() - 1) < 1e-3
    assert np.abs(normalised(speech.samples * 1e-6)).max() < 1e-2
    assert not normalised(np.zeros(10, np.float32)).any()
