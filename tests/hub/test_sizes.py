"""Figures that `avatar presets` shows, counted again from the shapes of the real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2Model

from avatar.cli import main
from avatar.dit.published import PUBLISHED_PRESETS
from avatar.errors import OptionError
from avatar.hub import sizes
from avatar.hub.table import all_presets, one_preset

LARGE: dict[str, Any] = {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40}
SMALL: dict[str, Any] = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}


def _billions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e9


def test_encoders_are_counted_right() -> None:
    with init_empty_weights():
        umt5 = UMT5Config(
            vocab_size=256384,
            d_model=4096,
            d_kv=64,
            d_ff=10240,
            num_layers=24,
            num_heads=64,
            feed_forward_proj="gated-gelu",
        )
        text = UMT5EncoderModel(umt5)
        clip = CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14
        )
        picture, vae, speech = CLIPVisionModel(clip), AutoencoderKLWan(), Wav2Vec2Model(Wav2Vec2Config())
    embedding = umt5.vocab_size * umt5.d_model / 1e9
    assert embedding == pytest.approx(sizes.TEXT_EMBEDDING, abs=1e-3)
    without = sum(
        p.numel() for name, p in text.named_parameters() if "embed_tokens" not in name and "shared" not in name
    )
    assert without / 1e9 + embedding == pytest.approx(sizes.TEXT_ENCODER, abs=1e-3)
    counted = (_billions(picture), _billions(vae), _billions(speech))
    assert counted == pytest.approx((sizes.PICTURE_ENCODER, sizes.VAE, sizes.SPEECH_ENCODER), abs=1e-3)


@pytest.mark.parametrize("system", ["multitalk", "omniavatar-14b", "omniavatar-1.3b", "echomimic-v3"])
def test_bases_are_counted_right(system: str) -> None:
    base = PUBLISHED_PRESETS[system].base
    shape = LARGE if "14B" in base.download.repository else SMALL
    width = shape["num_attention_heads"] * shape["attention_head_dim"]
    pictures = {"image_dim": 1280, "added_kv_proj_dim": width} if base.image_to_video else {}
    with init_empty_weights():
        model = WanTransformer3DModel(in_channels=base.in_channels, **shape, **pictures)
    known = sizes._BASES[base.download.repository]
    assert _billions(model) == pytest.approx(known.parameters, abs=0.01)
    assert len(model.blocks) == known.num_blocks


@pytest.mark.parametrize("system", PUBLISHED_PRESETS)
def test_less_memory_is_less_and_every_preset_has_its_figures(system: str) -> None:
    size = sizes.size_of(PUBLISHED_PRESETS[system])
    assert 0 < size.device_gb["low"] < size.device_gb["balanced"] < size.device_gb["fast"] <= size.host_gb
    assert size.download_gb > size.device_gb["fast"] / 2


def test_the_list_has_a_row_for_each_preset_and_one_preset_says_what_it_needs() -> None:
    rows = all_presets().splitlines()
    assert rows[0].split()[:2] == ["preset", "parameters"]
    assert [row.split()[0] for row in rows[1 : 3 + len(PUBLISHED_PRESETS)]] == ["embedded", "debug", *PUBLISHED_PRESETS]
    text = one_preset("omniavatar-14b")
    for words in ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "not stated", "pytorch_model.pt, config.json", "--memory low"):
        assert words in text
    assert "text 4.5, sound 4.5" in text and "guidance: sound 3" in one_preset("echomimic-v3-flash")
    assert "ship with the package" in one_preset("embedded")
    with pytest.raises(OptionError, match="neither a preset"):
        one_preset("nonsense")


def test_an_unknown_preset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "nonsense"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
