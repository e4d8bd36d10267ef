"""The transformer: Wan's own when nothing is added to it, and still a diffusers model when something is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from avatar.dit.block import AvatarBlock
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import OptionError
from avatar.types import Conditioning

MakeModel = Callable[..., AvatarTransformer3DModel]
TOKEN_DIM = 20


def adapter(tokens: str, kind: str = "residual", **settings: Any) -> dict[str, Any]:
    return {"tokens": tokens, "kind": kind, "token_dim": TOKEN_DIM, **settings}


ADAPTERS = (
    adapter("identity", key_norm=True),
    adapter("audio", masked=True, gated=True),
    adapter("emotion", bias=False),
)
BATCH, FRAMES, HEIGHT, WIDTH = 2, 3, 4, 6
WAN: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 10,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
}


def _latents(seed: int = 1) -> torch.Tensor:
    return torch.randn(BATCH, 4, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def _conditioning(**more: torch.Tensor) -> Conditioning:
    g = torch.Generator().manual_seed(2)
    tokens = {
        "audio_tokens": torch.randn(BATCH, 1, FRAMES, 5, TOKEN_DIM, generator=g),
        "face_mask": torch.rand(BATCH, 1, FRAMES, HEIGHT // 2, WIDTH // 2, generator=g),
        "identity_tokens": torch.randn(BATCH, 6, TOKEN_DIM, generator=g),
        "emotion_tokens": torch.randn(BATCH, FRAMES, 2, TOKEN_DIM, generator=g),
    }
    return Conditioning(**{**tokens, **more})


TIMESTEP = torch.tensor([700.0, 300.0])


@torch.no_grad()
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("with_image", [False, True])
def test_without_adapters_it_is_wan(make_model: MakeModel, per_token: bool, with_image: bool) -> None:
    settings = dict(WAN, image_dim=14, added_kv_proj_dim=24) if with_image else WAN
    torch.manual_seed(0)
    wan = WanTransformer3DModel(**settings).eval()
    for parameter in wan.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    ours = make_model(**settings)
    ours.load_state_dict(wan.state_dict())  # the same names and shapes, too
    text = torch.randn(BATCH, 512, 10)
    image = torch.randn(BATCH, 9, 14) if with_image else None
    timestep = torch.tensor([[0.0, 500.0, 1000.0], [250.0, 250.0, 250.0]]) if per_token else TIMESTEP
    tokens_per_frame = HEIGHT // 2 * WIDTH // 2
    wans = timestep.repeat_interleave(tokens_per_frame, 1) if per_token else timestep
    expected = wan(_latents(), wans, text, image).sample
    got = ours(_latents(), timestep, Conditioning(text_tokens=text, image_tokens=image)).sample
    # per token, Wan embeds each token's level by itself, in another order of sums
    assert torch.allclose(got, expected, atol=1e-5) if per_token else torch.equal(got, expected)


@torch.no_grad()
def test_reference_latents_are_wans_extra_channels(make_model: MakeModel) -> None:
    settings = dict(WAN, in_channels=9)
    wan = WanTransformer3DModel(**settings).eval()
    ours = make_model(**settings)
    ours.load_state_dict(wan.state_dict())
    text, reference = torch.randn(BATCH, 7, 10), torch.randn(BATCH, 5, FRAMES, HEIGHT, WIDTH)
    expected = wan(torch.cat([_latents(), reference], 1), TIMESTEP, text).sample
    got = ours(_latents(), TIMESTEP, Conditioning(text_tokens=text, reference_latents=reference)).sample
    assert torch.equal(got, expected)


@torch.no_grad()
def test_one_level_for_all_frames_is_that_level(make_model: MakeModel) -> None:
    model = make_model(adapters=ADAPTERS, region_grid=(HEIGHT, WIDTH))
    one = model(_latents(), TIMESTEP, _conditioning()).sample
    each = model(_latents(), TIMESTEP[:, None].expand(-1, FRAMES), _conditioning()).sample
    assert torch.allclose(one, each, atol=1e-5)


@torch.no_grad()
def test_a_batch_is_its_items(make_model: MakeModel) -> None:
    model = make_model(adapters=ADAPTERS, region_grid=(HEIGHT, WIDTH))
    both, full = model(_latents(), TIMESTEP, _conditioning()).sample, _conditioning()
    for item in range(BATCH):
        one = slice(item, item + 1)
        alone = Conditioning(
            full.audio_tokens[one],
            full.face_mask[one],
            full.identity_tokens[one],
            full.emotion_tokens[one],  # type: ignore[index]
        )
        assert torch.allclose(model(_latents()[one], TIMESTEP[one], alone).sample, both[one], atol=1e-5)


@torch.no_grad()
def test_every_condition_is_heard(make_model: MakeModel) -> None:
    model, full = make_model(adapters=ADAPTERS), _conditioning()
    base = model(_latents(), TIMESTEP, full).sample
    for name in ("audio", "identity", "emotion"):
        assert (model(_latents(), TIMESTEP, full.with_dropped(name)).sample - base).abs().max() > 1e-3, name


@torch.no_grad()
def test_region_codes_tell_cells_apart(make_model: MakeModel) -> None:
    """With equal content everywhere, a shared patch embedding gives equal tokens unless the cells are coded."""
    model = make_model(region_grid=(HEIGHT, WIDTH), num_layers=1)
    same = torch.ones(1, 4, 1, HEIGHT, WIDTH)
    coded = model(same, TIMESTEP[:1], Conditioning()).sample[0, :, 0, ::2, ::2].flatten(1)
    assert torch.cdist(coded.T, coded.T).fill_diagonal_(9).min() > 1e-3


@torch.no_grad()
def test_a_predicted_sample_becomes_the_velocity_that_leads_to_it(make_model: MakeModel) -> None:
    model = make_model(adapters=ADAPTERS, prediction="sample")
    sample_net = make_model(adapters=ADAPTERS)
    sample_net.load_state_dict(model.state_dict())
    timestep = torch.tensor([[0.0, 400.0, 900.0]]).expand(BATCH, -1)
    sample = sample_net(_latents(), timestep, _conditioning()).sample  # what the network itself puts out
    velocity = model(_latents(), timestep, _conditioning()).sample
    sigma = (timestep / 1000)[:, None, :, None, None]
    assert torch.allclose((_latents() - sigma * velocity)[:, :, 1:], sample[:, :, 1:], atol=1e-5)
    assert velocity.isfinite().all()  # also where nothing is noisy


@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(adapters=ADAPTERS, region_grid=(HEIGHT, WIDTH), prediction="sample")
    model.save_pretrained(tmp_path)
    loaded = AvatarTransformer3DModel.from_pretrained(tmp_path)
    assert loaded.config.adapters == model.config.adapters or list(loaded.config.adapters) == list(ADAPTERS)
    assert torch.equal(
        loaded(_latents(), TIMESTEP, _conditioning()).sample, model(_latents(), TIMESTEP, _conditioning()).sample
    )


def _gradients(model: AvatarTransformer3DModel, conditioning: Conditioning) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(_latents(), TIMESTEP, conditioning).sample.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradient_checkpointing_gives_equal_gradients_of_weights_and_tokens(make_model: MakeModel) -> None:
    model = make_model(adapters=ADAPTERS, region_grid=(HEIGHT, WIDTH)).train()
    audio = _conditioning().audio_tokens.clone().requires_grad_()  # type: ignore[union-attr]
    conditioning = _conditioning(audio_tokens=audio)
    plain = _gradients(model, conditioning)
    plain_audio, audio.grad = audio.grad.clone(), None  # type: ignore[union-attr]
    calls = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    model.enable_gradient_checkpointing()
    checkpointed = _gradients(model, conditioning)
    assert len(calls) == 2 * len(model.blocks)  # each block was computed again on the way back
    assert plain.keys() == checkpointed.keys()
    assert any(name.startswith("blocks.0.adapters.audio") for name in plain)
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], atol=1e-6), name
    assert plain_audio.any()
    assert torch.allclose(audio.grad, plain_audio, atol=1e-6)  # type: ignore[arg-type]


def test_lora_attaches_to_attention_and_adapters(make_model: MakeModel) -> None:
    peft = pytest.importorskip("peft")
    model = make_model(adapters=(adapter("audio", "shared_query"), adapter("emotion")), text_dim=10)
    conditioning = _conditioning(text_tokens=torch.randn(BATCH, 7, 10))
    with torch.no_grad():
        base = model(_latents(), TIMESTEP, conditioning).sample
    targets = ["attn1.to_q", "attn2.to_v", "adapters.audio.to_v", "adapters.emotion.to_kv"]
    model.add_adapter(peft.LoraConfig(r=2, target_modules=targets))
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)
    for target in targets:
        assert sum(f"blocks.1.{target}.lora_A" in name for name in trainable) == 1, target
    with torch.no_grad():
        assert torch.allclose(model(_latents(), TIMESTEP, conditioning).sample, base, atol=1e-6)  # B starts at zero
    model(_latents(), TIMESTEP, conditioning).sample.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lora_B" in name)


def test_repeated_blocks_are_found_for_compilation(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, compiled = make_model(adapters=ADAPTERS), []
    monkeypatch.setattr(AvatarBlock, "compile", lambda self, *args, **kwargs: compiled.append(self))
    model.compile_repeated_blocks()
    assert compiled == list(model.blocks)
    assert model._no_split_modules == ["AvatarBlock"] and isinstance(model.blocks[0], AvatarBlock)


@torch.no_grad()
def test_first_block_cache_knows_the_block(make_model: MakeModel) -> None:
    model = make_model(adapters=ADAPTERS, num_layers=3)
    plain = model(_latents(), TIMESTEP, _conditioning()).sample
    calls = []
    model.blocks[1].ffn.register_forward_hook(lambda *_: calls.append(1))
    model.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    with model.cache_context("cond"):
        assert torch.allclose(model(_latents(), TIMESTEP, _conditioning()).sample, plain, atol=1e-6)
        num_before = len(calls)
        again = model(_latents(), TIMESTEP, _conditioning()).sample
    assert len(calls) == num_before  # nothing has changed, so the later blocks were left out
    assert torch.allclose(again, plain, atol=1e-5)


def test_layerwise_casting_keeps_working(make_model: MakeModel) -> None:
    model = make_model(adapters=ADAPTERS, region_grid=(HEIGHT, WIDTH))
    plain = model(_latents(), TIMESTEP, _conditioning()).sample
    model.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    with torch.no_grad():
        cast = model(_latents(), TIMESTEP, _conditioning()).sample
    assert model.blocks[0].adapters["audio"].to_q.weight.dtype == torch.bfloat16
    assert model.region_codes.dtype == torch.float32
    assert (cast - plain).norm() < 0.05 * plain.norm()


def test_a_model_with_text_needs_text(make_model: MakeModel) -> None:
    with pytest.raises(OptionError, match="this model attends to text: give text_tokens"):
        make_model(**WAN)(_latents(), TIMESTEP, Conditioning())


def test_an_unknown_prediction_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(OptionError, match="prediction must be velocity or sample, not 'noise'"):
        make_model(prediction="noise")


def test_it_comes_back_as_a_tuple_when_asked(make_model: MakeModel) -> None:
    (output,) = make_model()(_latents(), TIMESTEP, Conditioning(), return_dict=False)
    assert output.shape == _latents().shape
