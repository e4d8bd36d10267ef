"""A published Wan transformer as ours: whichever way its weights come, the output is Wan's own, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import save_file

from avatar.debug import write_debug_repository
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.dit.wan_keys import diffusers_key, diffusers_state
from avatar.errors import InputError, OptionError, WeightsError
from avatar.types import Conditioning

Original = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]

TINY: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "t2v": {"in_channels": 16},
    "i2v": {"in_channels": 36, "image_dim": 20, "added_kv_proj_dim": 48},
    "fun-inp": {"in_channels": 36, "image_dim": 20, "added_kv_proj_dim": 48, "rope_max_seq_len": 512},
    "i2v-2.2": {"in_channels": 36},
    "ti2v-5b": {"in_channels": 8, "out_channels": 8},
    "flf2v": {"in_channels": 36, "image_dim": 20, "added_kv_proj_dim": 48, "pos_embed_seq_len": 18},
}
BATCH, FRAMES, HEIGHT, WIDTH = 2, 3, 4, 6
ADAPTERS = ({"tokens": "audio", "kind": "shared_query", "token_dim": 12, "masked": True, "bias": False},)


def _wan(kind: str) -> WanTransformer3DModel:
    torch.manual_seed(0)
    wan = WanTransformer3DModel(**{**TINY, **KINDS[kind]}).eval()
    with torch.no_grad():
        for parameter in wan.parameters():  # none at a special value
            parameter.add_(0.1 * torch.randn_like(parameter))
    return wan


def _inputs(wan: WanTransformer3DModel) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(BATCH, wan.config.in_channels, FRAMES, HEIGHT, WIDTH, generator=g),
        "timestep": torch.tensor([999.0, 732.1429]),
        "encoder_hidden_states": torch.randn(BATCH, 512, 16, generator=g),
    }
    if wan.config.image_dim:
        rows = 2 * BATCH if wan.config.pos_embed_seq_len else BATCH
        inputs["encoder_hidden_states_image"] = torch.randn(rows, 9, 20, generator=g)
    return inputs


@torch.no_grad()
def _same(ours: AvatarTransformer3DModel, wan: WanTransformer3DModel) -> bool:
    inputs = _inputs(wan)
    return torch.equal(ours(**inputs).sample, wan(**inputs).sample)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_gives_wans_output_exactly(kind: str) -> None:
    wan = _wan(kind)
    assert _same(AvatarTransformer3DModel.from_wan(wan), wan)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diffusers_folder_gives_wans_output_exactly(kind: str, tmp_path: Path) -> None:
    wan = _wan(kind)
    wan.save_pretrained(tmp_path)
    assert _same(AvatarTransformer3DModel.from_wan(tmp_path), wan)


@pytest.mark.parametrize("kind", KINDS)
def test_wans_own_file_gives_wans_output_exactly(kind: str, tmp_path: Path, original_names: Original) -> None:
    wan = _wan(kind)
    save_file(original_names(wan.state_dict()), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "WanModel", "dim": 48, "num_heads": 2}))
    ours = AvatarTransformer3DModel.from_wan(tmp_path)
    assert _same(ours, wan)
    settings = {**KINDS[kind], "rope_max_seq_len": 1024}
    assert {name: ours.config[name] for name in settings} == settings


def test_a_fresh_adapter_changes_nothing(tmp_path: Path) -> None:
    wan = _wan("i2v")
    assert _same(AvatarTransformer3DModel.from_wan(wan, ADAPTERS), wan)  # nothing is heard
    ours = AvatarTransformer3DModel.from_wan(wan, ADAPTERS)
    audio = torch.randn(BATCH, 1, FRAMES, 5, 12)
    inputs = _inputs(wan)
    with torch.no_grad():
        expected, got = wan(**inputs).sample, ours(**inputs, conditioning=Conditioning(audio_tokens=audio)).sample
        assert torch.equal(got, expected)
        ours.blocks[1].adapters["audio"].to_v.weight.fill_(0.1)
        assert (ours(**inputs, conditioning=Conditioning(audio_tokens=audio)).sample - expected).abs().max() > 1e-3


def test_weights_in_memory_are_shared_not_copied() -> None:
    wan = _wan("t2v")
    ours = AvatarTransformer3DModel.from_wan(wan, ADAPTERS)
    assert ours.proj_out.weight.data_ptr() == wan.proj_out.weight.data_ptr()
    assert not any(parameter.is_meta for parameter in ours.parameters())


def test_shards_are_joined_through_their_index(tmp_path: Path, original_names: Original) -> None:
    wan = _wan("i2v")
    state = list(original_names(wan.state_dict()).items())
    parts = {
        "model-00001-of-00002.safetensors": dict(state[::2]),
        "model-00002-of-00002.safetensors": dict(state[1::2]),
    }
    for name, part in parts.items():
        save_file(part, tmp_path / name)
    assert _same(AvatarTransformer3DModel.from_wan(tmp_path, num_attention_heads=2), wan)
    index = {"weight_map": {key: name for name, part in parts.items() for key in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert _same(AvatarTransformer3DModel.from_wan(tmp_path, num_attention_heads=2), wan)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="model-00002-of-00002.safetensors is missing; were all files downloaded"):
        AvatarTransformer3DModel.from_wan(tmp_path, num_attention_heads=2)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "module."])
def test_a_pickle_and_a_prefix_are_read(tmp_path: Path, prefix: str, original_names: Original) -> None:
    wan = _wan("t2v")
    state = {prefix + key: value for key, value in original_names(wan.state_dict()).items()}
    torch.save({"state_dict": state, "step": 3}, tmp_path / "wan.pt")
    assert _same(AvatarTransformer3DModel.from_wan(tmp_path / "wan.pt", num_attention_heads=2), wan)


class _Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never run",))


def test_a_pickle_with_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": _Malice()}, tmp_path / "wan.pt")
    with pytest.raises(InputError, match="pickle with more than tensors in it, and is not opened"):
        AvatarTransformer3DModel.from_wan(tmp_path / "wan.pt")
    assert capsys.readouterr().out == ""


def test_both_experts_of_a_repository_are_found(tmp_path: Path) -> None:
    folder = write_debug_repository(tmp_path / "wan", "i2v-2.2", num_layers=1)
    for subfolder in (None, "transformer", "transformer_2"):
        wan = WanTransformer3DModel.from_pretrained(folder, subfolder=subfolder or "transformer")
        ours = AvatarTransformer3DModel.from_wan(folder, subfolder=subfolder)
        assert torch.equal(ours.proj_out.weight, wan.proj_out.weight)
    assert not torch.equal(AvatarTransformer3DModel.from_wan(folder).proj_out.weight, wan.proj_out.weight)
    with pytest.raises(InputError, match="has no transformer_3"):
        AvatarTransformer3DModel.from_wan(folder, subfolder="transformer_3")


def test_saved_with_adapters_it_comes_back(tmp_path: Path) -> None:
    ours = AvatarTransformer3DModel.from_wan(_wan("i2v"), ADAPTERS, timestep_precision="float64")
    with torch.no_grad():
        ours.blocks[0].adapters["audio"].to_v.weight.normal_()
    ours.save_pretrained(tmp_path)
    again = AvatarTransformer3DModel.from_pretrained(tmp_path)
    conditioning = Conditioning(audio_tokens=torch.randn(BATCH, 1, FRAMES, 5, 12))
    inputs = _inputs(ours)
    with torch.no_grad():
        assert torch.equal(
            ours(**inputs, conditioning=conditioning).sample, again(**inputs, conditioning=conditioning)[0]
        )
    assert again.config.timestep_precision == "float64"


def test_bfloat16_leaves_float32_what_must_be(tmp_path: Path, original_names: Original) -> None:
    wan = _wan("t2v")
    save_file(original_names(wan.state_dict()), tmp_path / "wan.safetensors")
    wan.save_pretrained(tmp_path / "diffusers")
    file = AvatarTransformer3DModel.from_wan(
        tmp_path / "wan.safetensors", ADAPTERS, dtype=torch.bfloat16, num_attention_heads=2
    )
    folder = AvatarTransformer3DModel.from_wan(tmp_path / "diffusers", ADAPTERS, dtype=torch.bfloat16)
    memory = AvatarTransformer3DModel.from_wan(wan, ADAPTERS, dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in folder.named_parameters()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == dtypes["blocks.0.adapters.audio.to_k.weight"] == torch.bfloat16
    assert dtypes["blocks.0.scale_shift_table"] == dtypes["blocks.0.norm2.weight"] == torch.float32
    for model in (file, memory):
        assert {name: parameter.dtype for name, parameter in model.named_parameters()} == dtypes


def test_names_are_converted_as_diffusers_converts_them(original_names: Original) -> None:
    for kind in ("t2v", "i2v"):
        state = original_names(_wan(kind).state_dict())
        expected = convert_wan_transformer_to_diffusers(dict(state))
        got = diffusers_state(state)
        assert got.keys() == expected.keys() == _wan(kind).state_dict().keys()
        assert all(torch.equal(got[key], expected[key]) for key in got)


def test_diffusers_names_and_strange_ones_stay_as_they_are() -> None:
    for key in (*_wan("flf2v").state_dict(), "audio_proj.proj1.weight", "blocks.3.audio_cross_attn.proj.bias"):
        assert diffusers_key(key) == key


def test_weights_that_do_not_fit_are_refused_with_what_differs(tmp_path: Path, original_names: Original) -> None:
    state = original_names(_wan("t2v").state_dict())
    state["control_adapter.conv.weight"] = torch.zeros(1)
    del state["blocks.1.ffn.2.bias"]
    state["blocks.0.self_attn.q.bias"] = torch.zeros(5)
    save_file(state, tmp_path / "wan.safetensors")
    with pytest.raises(WeightsError) as error:
        AvatarTransformer3DModel.from_wan(tmp_path / "wan.safetensors", num_attention_heads=2)
    words = str(error.value)
    assert "missing: blocks.N.ffn.net.2.bias; surplus: control_adapter.conv.weight" in words
    assert "of another shape: blocks.N.attn1.to_q.bias 5 instead of 48" in words


def test_what_is_no_wan_transformer_is_refused(tmp_path: Path, original_names: Original) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        AvatarTransformer3DModel.from_wan(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no weights"):
        AvatarTransformer3DModel.from_wan(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(OptionError, match="not the weights of a Wan transformer: patch_embedding.weight"):
        AvatarTransformer3DModel.from_wan(tmp_path)
    save_file(original_names(_wan("t2v").state_dict()), tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="several files of weights \\(a.safetensors, b.safetensors\\); name one"):
        AvatarTransformer3DModel.from_wan(tmp_path)
    with pytest.raises(OptionError, match="does not say how many heads a width of 48 has; give num_attention_heads"):
        AvatarTransformer3DModel.from_wan(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="c.safetensors cannot be read"):
        AvatarTransformer3DModel.from_wan(tmp_path / "c.safetensors")
    with pytest.raises(OptionError, match="device_map can be given for a diffusers folder only"):
        AvatarTransformer3DModel.from_wan(tmp_path / "b.safetensors", device_map="cpu")


def test_a_second_adapter_for_the_same_tokens_is_refused() -> None:
    ours = AvatarTransformer3DModel.from_wan(_wan("t2v"), ADAPTERS)
    with pytest.raises(OptionError, match="one adapter for each kind of tokens, not \\['audio', 'audio'\\]"):
        ours.attach_adapters(ADAPTERS)


def test_an_adapter_can_be_in_some_blocks_only() -> None:
    ours = AvatarTransformer3DModel.from_wan(
        _wan("t2v"), [{"tokens": "audio", "kind": "input", "token_dim": 12, "blocks": (1, 2)}]
    )
    assert [len(block.adapters) for block in ours.blocks] == [0, 1]
    assert ours.config.adapters[0]["kind"] == "input"


def test_base_weights_in_an_adapter_file_replace_the_bases() -> None:
    ours = AvatarTransformer3DModel.from_wan(_wan("t2v"), ADAPTERS)
    new = torch.randn(48, 48)
    count = ours.load_base_overrides({"blocks.1.cross_attn.o.weight": new, "proj_out.bias": torch.ones(64)})
    assert count == 2
    assert torch.equal(ours.blocks[1].attn2.to_out[0].weight, new) and (ours.proj_out.bias == 1).all()
    before = ours.proj_out.bias.clone()
    with pytest.raises(OptionError, match="blocks.0.attn1.to_q.bias has the shape \\(5,\\); the base's is \\(48,\\)"):
        ours.load_base_overrides({"head.head.bias": torch.zeros(64), "blocks.0.self_attn.q.bias": torch.zeros(5)})
    with pytest.raises(OptionError, match="no weights called audio_proj.weight \\(1 such names\\)"):
        ours.load_base_overrides({"head.head.bias": torch.zeros(64), "audio_proj.weight": torch.zeros(5)})
    assert torch.equal(ours.proj_out.bias, before)  # all or nothing


def test_a_patch_embedding_of_more_channels_can_take_the_place_of_the_bases(tmp_path: Path) -> None:
    """OmniAvatar: 33 channels over a text-to-video model."""
    ours = AvatarTransformer3DModel.from_wan(_wan("t2v"))
    weight = torch.randn(48, 33, 1, 2, 2)
    with pytest.raises(OptionError, match="patch_embedding.weight has the shape"):
        ours.load_base_overrides({"patch_embedding.weight": weight})
    assert ours.load_base_overrides({"patch_embedding.weight": weight}, resize_patch_embedding=True) == 1
    assert ours.config.in_channels == 33
    conditioning = Conditioning(text_tokens=torch.randn(1, 4, 16), reference_latents=torch.randn(1, 17, 2, 4, 4))
    with torch.no_grad():
        got = ours(torch.randn(1, 16, 2, 4, 4), torch.tensor([5.0]), conditioning).sample
    assert got.shape == (1, 16, 2, 4, 4)
    ours.save_pretrained(tmp_path)
    assert torch.equal(AvatarTransformer3DModel.from_pretrained(tmp_path).patch_embedding.weight, weight)
