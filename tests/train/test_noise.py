"""Noise levels and how much they weigh."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar.train.average import WeightAverage
from avatar.train.config import LossOptions
from avatar.train.noise import add_noise, noise_levels, velocity_weight
from avatar.train.schedule import learning_rate_factor
from avatar.train.trackers import tracker_names


def levels(options: LossOptions, clean: int = 0, frames: int = 6, count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([noise_levels(rng, frames, clean, options) for _ in range(count)])


def test_clean_frames_have_no_noise_and_the_others_share_a_level() -> None:
    got = levels(LossOptions(), clean=2)
    assert (got[:, :2] == 0).all() and (got[:, 2:] > 0).all() and (np.ptp(got[:, 2:], axis=1) == 0).all()


def test_chunks_have_levels_of_their_own() -> None:
    got = levels(LossOptions(chunk_noise=2), clean=1, frames=6)
    assert (got[:, 1] == got[:, 2]).all() and (got[:, 3] == got[:, 4]).all()
    assert abs(np.corrcoef(got[:, 1], got[:, 3])[0, 1]) < 0.05


def test_the_distributions_are_the_papers() -> None:
    normal = levels(LossOptions(mean=0.5, std=1.2))[:, 0]
    logits = np.log(normal / (1 - normal))
    assert logits.mean() == pytest.approx(0.5, abs=0.06) and logits.std() == pytest.approx(1.2, abs=0.05)
    shifted = levels(LossOptions(timesteps="uniform", shift=5.0))[:, 0]
    assert np.median(shifted) == pytest.approx(5 * 0.5 / (1 + 4 * 0.5), abs=0.02)  # arXiv 2403.03206, eq. 23


def test_weights_are_zero_on_clean_frames_and_bounded_elsewhere() -> None:
    sigma = torch.tensor([[0.0, 0.1, 0.5, 0.9]])
    plain = velocity_weight(sigma, LossOptions(), predicts_sample=False)
    assert plain.tolist() == [[0, 1, 1, 1]]
    floored = velocity_weight(sigma, LossOptions(min_sigma=0.2), predicts_sample=True)
    assert floored.tolist()[0] == pytest.approx([0, 0.25, 1, 1])
    snr = velocity_weight(sigma, LossOptions(weighting="min_snr", min_snr_gamma=5.0), predicts_sample=False)
    assert snr.tolist()[0] == pytest.approx([0, 5 * 0.01, 1 * 0.25, (1 / 9) ** 2 * 0.81])


def test_noise_mixes_as_the_transformer_wants_it() -> None:
    latents, noise = torch.ones(1, 2, 3, 1, 1), torch.full((1, 2, 3, 1, 1), 3.0)
    assert add_noise(latents, noise, torch.tensor([[0.0, 0.5, 1.0]]))[0, 0, :, 0, 0].tolist() == [1, 2, 3]


def test_averages_are_put_in_place_and_taken_out_again() -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, 0.5)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(100)
    with average.applied():
        assert torch.allclose(model.weight, start + 0.5)
    assert torch.allclose(model.weight, start + 1.0)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_what_is_used_may_lie_back_towards_the_start(decay: float) -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay, towards_start=0.25)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(100)
    moved = 0.75 * (0.5 if decay else 1.0)
    assert torch.allclose(average.used()["weight"], start + moved)
    with average.applied():
        assert torch.allclose(model.weight, start + moved)
    assert torch.allclose(model.weight, start + 1.0)


def test_schedules() -> None:
    assert learning_rate_factor(50, 10, 90, "constant") == 1.0
    assert learning_rate_factor(50, 10, 90, "linear") == 0.5
    assert learning_rate_factor(90, 10, 90, "linear") == 0.0


def test_trackers_are_named() -> None:
    with pytest.raises(Exception, match="log.trackers has no 'tensorbord'; accepted: auto, tensorboard, wandb"):
        tracker_names(["tensorbord"])
    assert set(tracker_names(["auto"])) <= {"tensorboard"}
