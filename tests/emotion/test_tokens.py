"""Emotion tokens: a label, an expression, both or neither known."""

from __future__ import annotations

import pytest
import torch

from avatar.emotion.tokens import EmotionEncoder

NAN = float("nan")


@pytest.fixture(scope="module")
def encoder() -> EmotionEncoder:
    torch.manual_seed(0)
    return EmotionEncoder(expression_dim=5, token_dim=12).eval()


def test_there_are_two_tokens_per_frame(encoder: EmotionEncoder) -> None:
    assert encoder(torch.rand(2, 3, 8), torch.rand(2, 3, 5)).shape == (2, 3, 2, 12)


def test_nan_rows_and_none_both_say_unknown(encoder: EmotionEncoder) -> None:
    labels, expression = torch.rand(2, 3, 8), torch.rand(2, 3, 5)
    assert torch.equal(encoder(labels, None), encoder(labels, torch.full_like(expression, NAN)))
    assert torch.equal(encoder(None, expression), encoder(torch.full_like(labels, NAN), expression))
    both_unknown = encoder(torch.full_like(labels, NAN), torch.full_like(expression, NAN))
    assert both_unknown.isfinite().all()


def test_unknown_is_not_zero(encoder: EmotionEncoder) -> None:
    zeros = torch.zeros(1, 1, 8)
    assert not torch.allclose(encoder(zeros, None)[:, :, 0], encoder(zeros * NAN, None)[:, :, 0])


def test_each_token_hears_its_own_description_alone(encoder: EmotionEncoder) -> None:
    labels, expression = torch.rand(1, 2, 8), torch.rand(1, 2, 5)
    both = encoder(labels, expression)
    assert torch.equal(both[:, :, 0], encoder(labels, None)[:, :, 0])
    assert torch.equal(both[:, :, 1], encoder(None, expression)[:, :, 1])


def test_one_unknown_row_leaves_the_others_alone(encoder: EmotionEncoder) -> None:
    labels = torch.rand(1, 3, 8)
    partly = labels.clone()
    partly[:, 1] = NAN
    assert torch.equal(encoder(partly, None)[:, [0, 2]], encoder(labels, None)[:, [0, 2]])


def test_gradients_stay_finite_where_something_is_unknown(encoder: EmotionEncoder) -> None:
    encoder(torch.full((1, 2, 8), NAN), torch.rand(1, 2, 5)).sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())  # type: ignore[union-attr]
    encoder.zero_grad()


def test_knowing_nothing_at_all_is_refused(encoder: EmotionEncoder) -> None:
    with pytest.raises(ValueError, match="give labels, an expression, or both"):
        encoder(None, None)
