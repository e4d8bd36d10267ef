"""What diffusers gives a Wan transformer, ours keeps, with adapters on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FirstBlockCacheConfig,
    QuantoConfig,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.embeddings import Timesteps
from diffusers.quantizers.auto import DiffusersAutoQuantizer

from avatar.debug import write_debug_repository
from avatar.dit.block import AvatarBlock
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError
from avatar.types import Conditioning

FRAMES, HEIGHT, WIDTH, TOKEN_DIM = 3, 4, 6, 20
ADAPTERS: tuple[dict[str, Any], ...] = (
    {"tokens": "identity", "kind": "residual", "token_dim": TOKEN_DIM, "gated": True},
    {"tokens": "audio", "kind": "shared_query", "token_dim": TOKEN_DIM, "masked": True, "key_norm": True},
    {"tokens": "emotion", "kind": "residual", "token_dim": TOKEN_DIM},
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_debug_repository(tmp_path_factory.mktemp("wan") / "i2v", "i2v", num_layers=3)


@pytest.fixture
def model(repository: Path) -> AvatarTransformer3DModel:
    torch.manual_seed(0)
    model = AvatarTransformer3DModel.from_wan(repository, ADAPTERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".adapters." in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def _inputs(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    g = torch.Generator().manual_seed(seed)
    conditioning = Conditioning(
        audio_tokens=torch.randn(1, 2, FRAMES, 5, TOKEN_DIM, generator=g),
        face_mask=torch.rand(1, 2, FRAMES, HEIGHT // 2, WIDTH // 2, generator=g),
        identity_tokens=torch.randn(1, 6, TOKEN_DIM, generator=g),
        emotion_tokens=torch.randn(1, FRAMES, 2, TOKEN_DIM, generator=g),
        text_tokens=torch.randn(1, 512, 32, generator=g),
        image_tokens=torch.randn(1, 257, 32, generator=g),
        reference_latents=torch.randn(1, 20, FRAMES, HEIGHT, WIDTH, generator=g),
    )
    return torch.randn(1, 16, FRAMES, HEIGHT, WIDTH, generator=g), torch.tensor([700.0]), conditioning


@torch.no_grad()
def _output(model: AvatarTransformer3DModel) -> torch.Tensor:
    return model(*_inputs()).sample


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("kind", ["i2v", "t2v", "i2v-2.2"])
def test_diffusers_own_pipeline_makes_the_same_video_with_it(kind: str, tmp_path: Path) -> None:
    folder = write_debug_repository(tmp_path / "wan", kind, num_layers=2)  # type: ignore[arg-type]
    pipeline_class = WanPipeline if kind == "t2v" else WanImageToVideoPipeline
    options: dict[str, Any] = {
        "prompt_embeds": torch.randn(1, 512, 32),
        "negative_prompt_embeds": torch.randn(1, 512, 32),
        **{"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 3, "guidance_scale": 3.0},
    }
    videos = []
    for ours in (False, True):
        pipeline = pipeline_class.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        if ours:
            for name in ("transformer", "transformer_2"):
                if getattr(pipeline, name) is not None:
                    wan = getattr(pipeline, name)
                    pipeline.register_modules(**{name: AvatarTransformer3DModel.from_wan(wan, ADAPTERS)})
        if kind != "t2v":
            options["image"] = pipeline.video_processor.numpy_to_pil(np.full((1, 32, 48, 3), 0.3))[0]
        generator = torch.Generator().manual_seed(0)
        videos.append(pipeline(**options, output_type="latent", generator=generator).frames)
    assert torch.equal(*videos)


def test_saved_and_loaded_it_is_the_same(model: AvatarTransformer3DModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AvatarTransformer3DModel.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.allclose(_output(loaded), _output(model), atol=1e-5)  # memory is laid out differently


def test_checkpointed_gradients_are_the_gradients(model: AvatarTransformer3DModel) -> None:
    model.train()
    latents, timestep, conditioning = _inputs()

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(latents, timestep, conditioning).sample.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.enable_gradient_checkpointing()
    checkpointed = gradients()
    assert plain.keys() == checkpointed.keys()
    assert {"blocks.0.adapters.audio.to_k.weight", "blocks.2.adapters.identity.gate"} <= plain.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], rtol=1e-4, atol=1e-4 * gradient.abs().max().item()), name


def test_one_compiled_block_without_a_break_serves_all(model: AvatarTransformer3DModel) -> None:
    expected, graphs = _output(model), []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return eager(graph, example_inputs)

    torch._dynamo.reset()
    eager = torch._dynamo.lookup_backend("aot_eager")
    model.compile_repeated_blocks(backend=backend, fullgraph=True)
    assert torch.allclose(_output(model), expected, atol=1e-5)
    _output(model)
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_weights_stored_in_eight_bits_compute_in_more(model: AvatarTransformer3DModel) -> None:
    expected = _output(model)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    block = model.blocks[0]
    stored = {name for name, p in model.named_parameters() if p.dtype == torch.float8_e4m3fn}
    assert {f"blocks.1.adapters.{x}.weight" for x in ("audio.to_k", "identity.to_q", "emotion.proj")} <= stored
    assert block.norm2.weight.dtype == model.patch_embedding.weight.dtype == torch.float32
    assert block.adapters["audio"].norm_k.weight.dtype == torch.float32
    assert _distance(_output(model), expected) < 0.1


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_groups_of_layers_come_and_go(model: AvatarTransformer3DModel, level: str, tmp_path: Path) -> None:
    """The part of group offloading that a CPU can show: every group is brought in, none is missed, none is left changed."""
    expected = _output(model)
    cpu = torch.device("cpu")
    model.enable_group_offload(
        onload_device=cpu,
        offload_device=cpu,
        offload_type=level,
        num_blocks_per_group=2 if level == "block_level" else None,
        offload_to_disk_path=str(tmp_path),
    )
    assert any(tmp_path.iterdir())
    assert torch.allclose(_output(model), expected, atol=1e-5)
    assert torch.allclose(_output(model), expected, atol=1e-5)


def test_the_first_block_decides_whether_the_others_are_computed(model: AvatarTransformer3DModel) -> None:
    expected, calls = _output(model), []
    model.blocks[1].ffn.register_forward_hook(lambda *_: calls.append(1))
    model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    latents, timestep, conditioning = _inputs()
    with torch.no_grad(), model.cache_context("cond"):
        assert torch.allclose(model(latents, timestep, conditioning).sample, expected, atol=1e-6)
        assert len(calls) == 1
        model(latents, timestep, conditioning)
        assert len(calls) == 1  # nothing has changed
        model(3 * latents, timestep, conditioning)
        assert len(calls) == 2
    with torch.no_grad(), model.cache_context("uncond"):  # branches of guidance do not see one another
        model(latents, timestep, conditioning)
        assert len(calls) == 3
    model.disable_cache()
    assert torch.equal(_output(model), expected)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
def test_attention_back_ends_agree(model: AvatarTransformer3DModel, backend: str) -> None:
    expected, default = _output(model), _AttentionBackendRegistry.get_active_backend()
    model.set_attention_backend(backend)
    assert model.blocks[0].attn2.processor._attention_backend == AttentionBackendName(backend)
    assert torch.allclose(_output(model), expected, atol=1e-5)
    assert _AttentionBackendRegistry.get_active_backend() == default  # diffusers would choose for other models, too
    model.reset_attention_backend()
    assert torch.equal(_output(model), expected)


def test_joined_projections_give_the_same(model: AvatarTransformer3DModel) -> None:
    expected = _output(model)
    model.fuse_qkv_projections()
    assert model.blocks[0].attn1.fused_projections
    assert torch.allclose(_output(model), expected, atol=1e-5)
    model.unfuse_qkv_projections()
    assert torch.allclose(_output(model), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_dynamic_eight_bit_layers_take_the_place_of_linear_ones(model: AvatarTransformer3DModel) -> None:
    """PyTorch's own quantisation; diffusers' configs are handed to `from_pretrained`, see the next test."""
    expected = _output(model)
    targets = {
        name for name, m in model.blocks.named_modules() if isinstance(m, torch.nn.Linear) and "adapters" not in name
    }
    torch.ao.quantization.quantize_dynamic(
        model.blocks, {name: torch.ao.quantization.default_dynamic_qconfig for name in targets}, inplace=True
    )
    assert not isinstance(model.blocks[0].ffn.net[2], torch.nn.Linear)
    assert isinstance(model.blocks[0].adapters["audio"].to_k, torch.nn.Linear)
    assert _distance(_output(model), expected) < 0.05


def test_a_quantisation_config_reaches_diffusers_loader(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(DiffusersAutoQuantizer, "from_config", lambda config, **_: seen.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        AvatarTransformer3DModel.from_wan(repository, quantization_config=QuantoConfig(weights_dtype="int8"))
    assert isinstance(seen[0], QuantoConfig)


def test_blocks_are_declared_by_name() -> None:
    names = ["AvatarBlock"]
    assert AvatarTransformer3DModel._no_split_modules == AvatarTransformer3DModel._repeated_blocks == names
    assert AvatarBlock.__name__ == names[0]


def test_adapters_and_splitting_by_tokens_do_not_go_together(model: AvatarTransformer3DModel) -> None:
    with pytest.raises(OptionError, match="a model with adapters cannot be split over devices by tokens"):
        model.enable_parallelism(config=None)


def test_text_for_a_picture_model_has_512_tokens(model: AvatarTransformer3DModel) -> None:
    """diffusers would take all but the last 512 tokens for the picture's, whatever they are."""
    latents, timestep, conditioning = _inputs()
    short = Conditioning(text_tokens=conditioning.text_tokens[:, :511], image_tokens=conditioning.image_tokens)  # type: ignore[index]
    inputs = torch.cat([latents, conditioning.reference_latents], dim=1)  # type: ignore[list-item]
    with pytest.raises(OptionError, match="takes exactly 512 text tokens, padded with zeros, not 511"):
        model(inputs, timestep, short)
    with pytest.raises(OptionError, match="attends to a picture: give image_tokens"):
        model(inputs, timestep, Conditioning(text_tokens=conditioning.text_tokens))


def test_picture_tokens_are_counted_not_guessed(model: AvatarTransformer3DModel) -> None:
    """Any number of picture tokens is told apart from the text; here one more, which must change the output."""
    latents, timestep, full = _inputs()
    image = full.image_tokens
    assert image is not None
    more = replace(full, image_tokens=torch.cat([image, 5 * torch.randn(1, 1, 32)], dim=1))
    with torch.no_grad():
        assert (model(latents, timestep, more).sample - _output(model)).abs().max() > 1e-4


def test_the_sinusoid_of_the_noise_level_can_be_wans_own(repository: Path) -> None:
    """Wan computes it in float64; diffusers in float32, which at 999 is off by up to 3e-5."""
    exact = AvatarTransformer3DModel.from_wan(repository, timestep_precision="float64")
    plain = AvatarTransformer3DModel.from_wan(repository)
    seen: dict[str, torch.Tensor] = {}
    for name, one in (("exact", exact), ("plain", plain)):
        embedder = one.condition_embedder.time_embedder
        embedder.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    latents, _, conditioning = _inputs()
    timestep = torch.tensor([999.0])
    with torch.no_grad():
        for one in (exact, plain):
            one(latents, timestep, conditioning)
    angles = 999.0 * 10_000.0 ** (-np.arange(16) / 16)
    expected = torch.from_numpy(np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32))[None]
    assert torch.equal(seen["exact"], expected)
    assert torch.equal(seen["plain"], Timesteps(32, flip_sin_to_cos=True, downscale_freq_shift=0)(timestep))
    assert 1e-6 < (seen["plain"] - expected).abs().max() < 1e-4
    with pytest.raises(OptionError, match="timestep_precision must be float32 or float64, not 'float16'"):
        AvatarTransformer3DModel(num_layers=0, timestep_precision="float16")


def test_a_level_per_token_is_wans_own(repository: Path) -> None:
    """The form in which diffusers' pipeline of the 5B model gives noise levels."""
    wan = WanTransformer3DModel.from_pretrained(repository, subfolder="transformer")
    ours = AvatarTransformer3DModel.from_wan(wan)
    latents, _, conditioning = _inputs()
    noisy = torch.cat([latents, conditioning.reference_latents], dim=1)  # type: ignore[list-item]
    levels = torch.rand(1, FRAMES * HEIGHT // 2 * WIDTH // 2) * 1000
    with torch.no_grad():
        expected = wan(noisy, levels, conditioning.text_tokens, conditioning.image_tokens).sample
        got = ours(
            noisy, levels, Conditioning(text_tokens=conditioning.text_tokens, image_tokens=conditioning.image_tokens)
        )
    assert torch.equal(got.sample, expected)
