"""Text and picture tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from avatar.debug import debug_components
from avatar.errors import OptionError
from avatar.wan.words import image_tokens, text_tokens

PARTS = debug_components("i2v")


def test_text_is_diffusers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("tokenizer", "text_encoder", "vae", "scheduler", "transformer")
    pipeline = WanPipeline(**{name: PARTS[name] for name in names})
    monkeypatch.setattr(
        "diffusers.pipelines.wan.pipeline_wan.prompt_clean", str
    )  # it needs a package that may be absent
    with torch.no_grad():
        expected = pipeline._get_t5_prompt_embeds("A woman talks.", max_sequence_length=512)
    got = text_tokens(PARTS["tokenizer"], PARTS["text_encoder"], "A woman\n  talks.")
    assert torch.equal(got, expected)
    length = len(PARTS["tokenizer"]("A woman talks.").input_ids)
    assert got[0, length:].abs().max() == 0 and got[0, length - 1].abs().max() > 0


def test_a_prompt_that_is_too_long_is_refused_not_cut() -> None:
    with pytest.raises(OptionError, match="the prompt has 602 tokens; Wan reads 512; shorten it"):
        text_tokens(PARTS["tokenizer"], PARTS["text_encoder"], "a" * 600)


def test_the_whole_picture_is_looked_at() -> None:
    picture = np.zeros((60, 120, 3), np.uint8)
    plain = image_tokens(PARTS["image_encoder"], picture)
    assert plain.shape == (1, 257, 32)
    picture[:, :10] = 255  # a cut in the middle would lose it
    assert (image_tokens(PARTS["image_encoder"], picture) - plain).abs().max() > 1e-3
