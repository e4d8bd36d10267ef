"""LoRAs as they are published: every custom of naming, biases and full differences too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import WanLoraLoaderMixin
from safetensors.torch import save_file

from avatar.debug import debug_components
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError

RANK, ALPHA = 2, 4.0


def _model() -> AvatarTransformer3DModel:
    return AvatarTransformer3DModel.from_wan(debug_components("i2v", num_layers=2)["transformer"])


INPUTS = {
    "hidden_states": torch.randn(1, 36, 2, 4, 4, generator=torch.Generator().manual_seed(1)),
    "timestep": torch.tensor([500.0]),
    "encoder_hidden_states": torch.randn(1, 512, 32, generator=torch.Generator().manual_seed(2)),
    "encoder_hidden_states_image": torch.randn(1, 257, 32, generator=torch.Generator().manual_seed(3)),
}


@torch.no_grad()
def _output(model: AvatarTransformer3DModel) -> torch.Tensor:
    return model(**INPUTS).sample


# Wan's name of a module, diffusers' name, (out, in)
MODULES = [
    (f"blocks.{block}.{wan}", f"blocks.{block}.{ours}", shape)
    for block in range(2)
    for wan, ours, shape in (
        *((f"self_attn.{x}", f"attn1.to_{x}", (48, 48)) for x in "qkv"),
        ("self_attn.o", "attn1.to_out.0", (48, 48)),
        *((f"cross_attn.{x}", f"attn2.to_{x}", (48, 48)) for x in "qkv"),
        ("cross_attn.o", "attn2.to_out.0", (48, 48)),
        ("cross_attn.k_img", "attn2.add_k_proj", (48, 48)),
        ("cross_attn.v_img", "attn2.add_v_proj", (48, 48)),
        ("ffn.0", "ffn.net.0.proj", (96, 48)),
        ("ffn.2", "ffn.net.2", (48, 96)),
    )
]


def _pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Wan's module name to (down, up)."""
    g = torch.Generator().manual_seed(5)
    return {
        wan: (torch.randn(RANK, size_in, generator=g), 0.05 * torch.randn(size_out, RANK, generator=g))
        for wan, _, (size_out, size_in) in MODULES
    }


def _named(custom: str) -> dict[str, torch.Tensor]:
    """The same LoRA under different customs."""
    ours = {wan: name for wan, name, _ in MODULES}
    state: dict[str, torch.Tensor] = {}
    for wan, (down, up) in _pairs().items():
        alpha = {"alpha": torch.tensor(ALPHA)}
        parts = {
            "lightx2v": (f"diffusion_model.{wan}.", {"lora_down.weight": down, "lora_up.weight": up, **alpha}),
            "kijai": (f"diffusion_model.{wan}.", {"lora_A.weight": ALPHA / RANK * down, "lora_B.weight": up}),
            "musubi": (
                f"lora_unet_{wan.replace('.', '_')}.",
                {"lora_down.weight": down, "lora_up.weight": up, **alpha},
            ),
            "diffusers": (f"transformer.{ours[wan]}.", {"lora_A.weight": ALPHA / RANK * down, "lora_B.weight": up}),
            "peft": (
                f"base_model.model.{wan}.",
                {"lora_A.default.weight": ALPHA / RANK * down, "lora_B.default.weight": up},
            ),
        }
        prefix, tensors = parts[custom]
        state.update({prefix + end: value for end, value in tensors.items()})
    return state


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    """With W + (alpha / rank) B A written out."""
    model = _model()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for (down, up), (_, ours, _) in zip(_pairs().values(), MODULES, strict=True):
            weights[f"{ours}.weight"] += ALPHA / RANK * up @ down
    return _output(model)


@pytest.mark.parametrize("custom", ["lightx2v", "kijai", "musubi", "diffusers", "peft"])
def test_every_custom_of_naming_gives_the_same_model(custom: str, expected: torch.Tensor, tmp_path: Path) -> None:
    model = _model()
    save_file(_named(custom), tmp_path / "lora.safetensors")
    assert model.merge_lora(tmp_path / "lora.safetensors") == len(MODULES)
    assert torch.allclose(_output(model), expected, atol=1e-6)
    assert (_output(_model()) - expected).abs().max() > 1e-2  # the LoRA matters


@pytest.mark.parametrize("custom", ["lightx2v", "kijai", "musubi", "diffusers"])
def test_diffusers_own_loader_gives_the_same_model(custom: str, expected: torch.Tensor) -> None:
    pytest.importorskip("peft")
    model = _model()
    state = WanLoraLoaderMixin.lora_state_dict(_named(custom))
    model.load_lora_adapter(state, prefix="transformer", adapter_name="fast")
    assert torch.allclose(_output(model), expected, atol=1e-5)
    model.set_adapters("fast", 0.0)
    assert torch.allclose(_output(model), _output(_model()), atol=1e-6)
    model.set_adapters("fast", 1.0)
    with torch.no_grad():
        off = model(**INPUTS, attention_kwargs={"scale": 0.0}).sample
    assert torch.allclose(off, _output(_model()), atol=1e-6)
    model.fuse_lora()
    assert torch.allclose(_output(model), expected, atol=1e-5)
    model.unload_lora()


def test_strength_scales_the_difference() -> None:
    half, twice = _model(), _model()
    half.merge_lora(_named("lightx2v"), strength=0.5)
    half.merge_lora(_named("lightx2v"), strength=0.5)
    twice.merge_lora(_named("lightx2v"))
    assert torch.allclose(_output(half), _output(twice), atol=1e-6)
    twice.merge_lora(_named("lightx2v"), strength=-1.0)
    assert torch.allclose(_output(twice), _output(_model()), atol=1e-5)


def test_biases_norms_and_modulations_are_differences_too() -> None:
    """lightx2v's and AccVideo's files carry them; a plain LoRA loader drops those of norms."""
    g = torch.Generator().manual_seed(6)
    differences = {
        "diffusion_model.blocks.0.self_attn.q.diff_b": ("blocks.0.attn1.to_q.bias", (48,)),
        "diffusion_model.blocks.1.norm3.diff": ("blocks.1.norm2.weight", (48,)),
        "diffusion_model.blocks.1.norm3.diff_b": ("blocks.1.norm2.bias", (48,)),
        "diffusion_model.blocks.1.self_attn.norm_k.diff": ("blocks.1.attn1.norm_k.weight", (48,)),
        "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": ("blocks.0.attn2.norm_added_k.weight", (48,)),
        "diffusion_model.blocks.0.diff_m": ("blocks.0.scale_shift_table", (1, 6, 48)),
        "diffusion_model.head.diff_m": ("scale_shift_table", (1, 2, 48)),
        "diffusion_model.head.head.diff": ("proj_out.weight", (64, 48)),
        "diffusion_model.time_projection.1.diff_b": ("condition_embedder.time_proj.bias", (288,)),
        "diffusion_model.text_embedding.0.diff": ("condition_embedder.text_embedder.linear_1.weight", (48, 32)),
        "diffusion_model.img_emb.proj.1.diff_b": ("condition_embedder.image_embedder.ff.net.0.proj.bias", (32,)),
        "diffusion_model.patch_embedding.diff": ("patch_embedding.weight", (48, 36, 1, 2, 2)),
    }
    state = {key: torch.randn(shape, generator=g) for key, (_, shape) in differences.items()}
    model, before = _model(), {name: value.clone() for name, value in _model().state_dict().items()}
    assert model.merge_lora(state) == len(state)
    after = model.state_dict()
    for key, (name, _) in differences.items():
        assert torch.allclose(after[name], before.pop(name) + state[key], atol=1e-6), name
    assert all(torch.equal(after[name], value) for name, value in before.items())  # nothing else


def test_a_lora_of_a_text_model_goes_onto_a_picture_model() -> None:
    text_only = {key: value for key, value in _named("lightx2v").items() if "_img" not in key}
    assert _model().merge_lora(text_only) == len(MODULES) - 4


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"diffusion_model.blocks.7.ffn.0.diff_b": torch.zeros(96)},
            "changes blocks.7.ffn.net.0.proj.bias, which this",
        ),
        ({"diffusion_model.blocks.0.ffn.0.diff_b": torch.zeros(9)}, "is \\(9,\\); the weight is \\(96,\\)"),
        ({"diffusion_model.blocks.0.ffn.0.dora_scale": torch.zeros(9)}, "is no part of a LoRA that is known here"),
        ({"diffusion_model.blocks.0.ffn.0.lora_up.weight": torch.zeros(96, 2)}, "only one of the two matrices"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(state: dict[str, Any], words: str) -> None:
    model = _model()
    with pytest.raises(OptionError, match=words):
        model.merge_lora({**_named("lightx2v"), **state} if "lora_up" not in next(iter(state)) else state)
    assert torch.equal(_output(model), _output(_model()))
