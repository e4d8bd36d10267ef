"""Training the speech encoder: resumable to the bit, and its data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Model

from avatar.audio.encoder import small_encoder_config
from avatar.data.synthetic.corpus import load_speech
from avatar.data.synthetic.phones import PHONES
from avatar.errors import OptionError
from avatar.train import encoder as training
from avatar.train.encoder import EncoderRecipe, SpeechCrops, gabor_stem, train_encoder

RECIPE = EncoderRecipe(steps=6, batch_size=2, crop_s=0.4, warmup_steps=2, hidden_size=64, num_layers=1)


class Killed(Exception):
    pass


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return Wav2Vec2Model.from_pretrained(folder).state_dict()


def test_a_killed_run_goes_on_bit_exactly(speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 3)
    whole = _weights(train_encoder(speech_folder, tmp_path / "whole", RECIPE))

    save = training.save_checkpoint

    def save_and_die(path: Path, *rest: object) -> None:
        save(path, *rest)  # type: ignore[arg-type]
        raise Killed

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        train_encoder(speech_folder, tmp_path / "parts", RECIPE)
    assert not (tmp_path / "parts" / "speech_encoder").exists()
    monkeypatch.setattr(training, "save_checkpoint", save)
    torch.manual_seed(99)  # nothing of the first process's state may be needed
    resumed = _weights(train_encoder(speech_folder, tmp_path / "parts", RECIPE))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_another_recipe_is_refused(speech_folder: Path, tmp_path: Path) -> None:
    short = replace(RECIPE, steps=1)
    train_encoder(speech_folder, tmp_path / "run", short)
    with pytest.raises(OptionError, match="made with other values of seed, steps"):
        train_encoder(speech_folder, tmp_path / "run", replace(RECIPE, seed=1))


def test_training_learns_and_logs(speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOG_STEPS", 10)
    lines: list[dict[str, float]] = []
    recipe = replace(RECIPE, steps=30, warmup_steps=5, learning_rate=3e-3)
    train_encoder(speech_folder, tmp_path / "run", recipe, log=lines.append)
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["loss"] < lines[0]["loss"]
    written = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == lines


def test_a_crop_is_a_function_of_seed_and_step(speech_folder: Path) -> None:
    shards = load_speech(speech_folder, "train")
    one, same, other = (SpeechCrops(shards, RECIPE).batch(step) for step in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("augment", [True, False])
def test_crops_have_a_target_every_20_ms(speech_folder: Path, augment: bool) -> None:
    crops = SpeechCrops(load_speech(speech_folder, "train"), RECIPE, augment=augment)
    for step in range(5):
        samples, phones, curves = crops.batch(step)
        assert samples.shape == (2, 6400) and phones.shape == (2, 20) and curves.shape == (2, 20, 8)
        assert samples.dtype == curves.dtype == torch.float32 and phones.dtype == torch.int64
        assert phones.min() >= 0 and phones.max() < len(PHONES)
        assert samples.std() == pytest.approx(1, abs=0.1)


def test_the_stem_starts_as_a_filter_bank_over_the_band_of_speech() -> None:
    encoder = Wav2Vec2Model(small_encoder_config(64, 1))
    gabor_stem(encoder)
    filters = encoder.feature_extractor.conv_layers[0].conv.weight[:, 0].detach().numpy()
    spectra = np.abs(np.fft.rfft(filters, 16_000, axis=1))
    peaks = spectra.argmax(axis=1)[::4]
    assert (np.diff(peaks) >= 0).all()
    assert peaks[0] < 200 and 6500 < peaks[-1] < 7900
