"""A style by a diffusers image-to-image model that is named: on a tiny random Stable Diffusion of the real classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.data.augmentation.style import image_to_image
from avatar.errors import MissingDependencyError


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    text = CLIPTextConfig(
        vocab_size=60, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, bos_token_id=0,
        eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    letters = [chr(97 + k) for k in range(26)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def test_every_frame_is_made_anew_in_its_size_with_the_same_noise(tiny_model: Path) -> None:
    restyle = image_to_image(str(tiny_model), "a drawing", strength=0.1)
    image = np.random.default_rng(0).integers(0, 255, (35, 50, 3)).astype(np.uint8)  # no multiple of 8
    made = restyle(image)
    assert made.shape == image.shape and made.dtype == np.uint8 and not np.array_equal(made, image)
    assert np.array_equal(made, restyle(image.copy()))  # fixed within a clip
    other = image_to_image(str(tiny_model), "a drawing", strength=0.1, seed=1)
    assert not np.array_equal(made, other(image))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"image-to-image model '.*nowhere' is not there"):
        image_to_image(str(tmp_path / "nowhere"), "a drawing")
