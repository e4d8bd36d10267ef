"""The loss of the embedded model, part by part."""

from __future__ import annotations

import pytest
import torch

from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.train.mesh_task import course_error

FRAMES, PAIRS = 6, 9


def gap_of(curve: torch.Tensor) -> torch.Tensor:
    """(B, F * 4) opening to what `LipGap` gives."""
    return curve.unflatten(1, (FRAMES, GROUP_FRAMES))[..., None].expand(-1, -1, -1, PAIRS).flatten(2)


def test_the_lips_course_does_not_ask_how_far_they_open_but_when() -> None:
    true = torch.rand(3, FRAMES * GROUP_FRAMES, generator=torch.Generator().manual_seed(0))
    sigma = torch.ones(3, FRAMES)
    same = course_error(gap_of(0.2 + 0.5 * true), gap_of(true), sigma)
    assert same.tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    against = course_error(gap_of(-true), gap_of(true), sigma)
    assert against.tolist() == pytest.approx([2, 2, 2], abs=1e-3)


def test_given_frames_do_not_count_and_little_noise_counts_little() -> None:
    true = torch.rand(1, FRAMES * GROUP_FRAMES, generator=torch.Generator().manual_seed(1))
    other = true.clone()
    other[:, : 2 * GROUP_FRAMES] = -5 * true[:, : 2 * GROUP_FRAMES]
    given = torch.tensor([[0.0, 0, 1, 1, 1, 1]])
    assert float(course_error(gap_of(other), gap_of(true), given)) == pytest.approx(0, abs=1e-3)
    quarter = course_error(gap_of(-true), gap_of(true), torch.full((1, FRAMES), 0.25))
    assert float(quarter) == pytest.approx(0.5, abs=1e-3)


def test_lips_that_do_not_move_have_no_course_and_finite_gradients() -> None:
    made = torch.zeros(1, FRAMES * GROUP_FRAMES, requires_grad=True)
    error = course_error(gap_of(made), gap_of(torch.zeros(1, FRAMES * GROUP_FRAMES)), torch.ones(1, FRAMES))
    error.sum().backward()
    assert error.item() == 1 and made.grad is not None and bool(torch.isfinite(made.grad).all())
