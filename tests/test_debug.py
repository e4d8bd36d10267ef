"""The debug repository: real classes, the layout of a published one, and small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from avatar.debug import KINDS, debug_components, debug_tokenizer, write_debug_repository
from avatar.errors import OptionError, OutputError


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_own_pipeline_runs_on_it(tmp_path: Path, kind: str) -> None:
    folder = write_debug_repository(tmp_path / "wan", kind, num_layers=1)  # type: ignore[arg-type]
    pipeline = (WanPipeline if kind == "t2v" else WanImageToVideoPipeline).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    picture = {} if kind == "t2v" else {"image": pipeline.video_processor.numpy_to_pil(np.zeros((1, 32, 48, 3)))[0]}
    prompt = torch.randn(1, 512, 32)
    video = pipeline(
        prompt_embeds=prompt,
        negative_prompt_embeds=-prompt,
        height=32,
        width=48,
        num_frames=5,
        num_inference_steps=2,
        output_type="np",
        **picture,
    ).frames
    assert video.shape == (1, 5, 32, 48, 3)
    assert np.isfinite(video).all() and video.std() > 0.01
    assert (pipeline.transformer_2 is not None) == (kind == "i2v-2.2")


def test_the_index_is_a_published_ones(tmp_path: Path) -> None:
    """Names as in Wan-AI/Wan2.1-I2V-14B-480P-Diffusers and Wan-AI/Wan2.2-I2V-A14B-Diffusers."""
    index = json.loads((write_debug_repository(tmp_path / "a") / "model_index.json").read_text())
    assert index["image_encoder"] == ["transformers", "CLIPVisionModel"]
    assert index["image_processor"] == ["transformers", "CLIPImageProcessor"]
    assert index["scheduler"] == ["diffusers", "UniPCMultistepScheduler"]
    assert index["text_encoder"] == ["transformers", "UMT5EncoderModel"]
    assert index["transformer"] == ["diffusers", "WanTransformer3DModel"]
    assert index["vae"] == ["diffusers", "AutoencoderKLWan"]
    index = json.loads((write_debug_repository(tmp_path / "b", "i2v-2.2") / "model_index.json").read_text())
    assert index["boundary_ratio"] == 0.9
    assert index["transformer_2"] == ["diffusers", "WanTransformer3DModel"]
    assert index["image_encoder"] == [None, None]


def test_it_is_small(tmp_path: Path) -> None:
    folder = write_debug_repository(tmp_path / "wan", "i2v-2.2")
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 4e6


def test_the_speech_encoder_has_the_rate_and_depth_of_wav2vec2_base(tmp_path: Path) -> None:
    folder = write_debug_repository(tmp_path / "wan") / "speech_encoder"
    encoder = Wav2Vec2Model.from_pretrained(folder)
    sound = Wav2Vec2FeatureExtractor.from_pretrained(folder)(np.zeros(32000), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        output = encoder(sound.input_values.float(), output_hidden_states=True)
    assert output.last_hidden_state.shape == (1, 99, 32)
    assert len(output.hidden_states) == 13


def test_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = (debug_components(seed=seed)["transformer"].proj_out.weight for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_making_it_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    debug_components()
    assert torch.equal(torch.rand(3), expected)


def test_the_tokenizer_pads_ends_and_knows_its_letters() -> None:
    tokenizer = debug_tokenizer()
    ids = tokenizer(["Hi you", "a"], padding="max_length", max_length=16).input_ids
    assert [len(x) for x in ids] == [16, 16]
    assert ids[0].index(1) == 7 and set(ids[0][8:]) == {0}
    assert tokenizer("ä").input_ids == [3, 2, 1]


def test_a_full_folder_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is not empty; name a new folder"):
        write_debug_repository(tmp_path)
    with pytest.raises(OptionError, match="no debug model is called 's2v'; accepted: i2v, t2v, i2v-2.2"):
        debug_components("s2v")  # type: ignore[arg-type]
