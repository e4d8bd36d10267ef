"""Lips are moved towards what is heard, and closed lips stay closed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar.audio.opening import OpeningEstimator

FRAMES, EXPRESSIONS = 5, 3


@pytest.fixture
def estimator() -> OpeningEstimator:
    """Hears the first feature; the first four latent numbers are the openings, and a fifth always moves with the first."""
    made = OpeningEstimator(8, EXPRESSIONS, latent_dim=16, share=0.5, closed_below=0.2, open_above=0.4)
    with torch.no_grad():
        for layer in (made.aperture, made.scale, made.rest):
            layer.weight.zero_()
            layer.bias.zero_()
        made.aperture.weight[0, 0] = 1.0
        made.scale.bias.fill_(1.0)
        made.gap[:4] = torch.eye(4)
        made.direction[:, :4] = torch.eye(4)
        made.direction[0, 4] = 2.0
    return made.eval()


def features_that_say(opening: float) -> torch.Tensor:
    windows = torch.zeros(FRAMES, 16, 8)
    windows[:, 4:12, 0] = opening
    windows[:, :4, 0] = windows[:, 12:, 0] = 100.0  # the margins are other frames'
    return windows


def latents_with(opening: float, count: int = 1) -> torch.Tensor:
    latents = torch.zeros(count, 4, FRAMES, 2, 2)
    latents[:, 0] = opening  # numbers are in the order channel, row, column
    return latents


@torch.no_grad()
def test_open_lips_go_a_share_of_the_way(estimator: OpeningEstimator) -> None:
    moved = estimator(latents_with(1.0), features_that_say(0.6), torch.zeros(1, EXPRESSIONS))
    torch.testing.assert_close(moved[:, 0], torch.full((1, FRAMES, 2, 2), 0.8))
    torch.testing.assert_close(moved[:, 1, :, 0, 0], torch.full((1, FRAMES), -0.4))  # what moves with them
    assert not moved[:, 2:].any()


@torch.no_grad()
@pytest.mark.parametrize(("own", "heard", "becomes"), [
    (0.0, 0.15, 0.0), (0.15, 0.0, 0.15), (0.0, 0.3, 0.075), (0.0, 0.6, 0.3), (0.6, 0.0, 0.3),
])  # fmt: skip
def test_lips_that_both_take_for_closed_are_left_alone(
    estimator: OpeningEstimator, own: float, heard: float, becomes: float
) -> None:
    moved = estimator(latents_with(own), features_that_say(heard), torch.zeros(1, EXPRESSIONS))
    torch.testing.assert_close(moved[:, 0], torch.full((1, FRAMES, 2, 2), becomes))


@torch.no_grad()
def test_what_the_face_expresses_scales_and_lifts_what_is_heard(estimator: OpeningEstimator) -> None:
    estimator.scale.weight[0, 0] = 1.0
    estimator.rest.weight[0, 1] = 0.25
    shown = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    heard = estimator.estimate(features_that_say(0.5), shown)
    assert heard.shape == (3, FRAMES, 4)
    assert heard[:, 0, 0].tolist() == [0.5, 1.0, 0.75]
    assert estimator.estimate(features_that_say(-3.0), shown).min() == 0.0


@torch.no_grad()
def test_it_survives_saving_and_half_precision(estimator: OpeningEstimator, tmp_path: Path) -> None:
    estimator.half().save_pretrained(tmp_path)
    loaded = OpeningEstimator.from_pretrained(tmp_path, torch_dtype=torch.float32)
    moved = loaded(latents_with(1.0), features_that_say(0.6), torch.zeros(1, EXPRESSIONS))
    torch.testing.assert_close(moved[:, 0], torch.full((1, FRAMES, 2, 2), 0.8), atol=1e-3, rtol=0)
    assert loaded.config.share == 0.5
