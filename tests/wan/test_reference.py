"""Identity and emotion at Wan's size: adapters that begin by changing nothing, and what they are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from avatar.codec.wan import WanCodec
from avatar.debug import debug_components
from avatar.dit.adapters import AdapterInputs, ResidualAdapter, adapter_update
from avatar.dit.block import AvatarBlock
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError, WeightsError
from avatar.identity.choose import load_portrait
from avatar.identity.tokens import FeatureEmbedder
from avatar.types import Conditioning, Portrait, Waveform
from avatar.wan.reference import (
    attach_reference,
    emotion_face,
    emotion_tokens,
    identity_tokens,
    reference_adapters,
)
from avatar.wan.reference_file import load_reference, save_reference

PHOTO = Path(__file__).resolve().parent.parent.parent / "examples" / "astronaut.png"
FRAMES, HEIGHT, WIDTH = 2, 4, 6  # of the latents; tokens are half as many a side
SILENCE = Waveform(np.zeros(16_000, np.float32))


@pytest.fixture(scope="module")
def base() -> WanTransformer3DModel:
    return debug_components("i2v", num_layers=2)["transformer"]


@pytest.fixture
def model(base: WanTransformer3DModel) -> AvatarTransformer3DModel:
    torch.manual_seed(1)
    return attach_reference(base, identity="features").eval()


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return load_portrait(PHOTO)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _conditioning(**more: torch.Tensor) -> Conditioning:
    told = {
        "text_tokens": _random(1, 512, 32, seed=1),
        "image_tokens": _random(1, 257, 32, seed=2),
        "reference_latents": _random(1, 20, FRAMES, HEIGHT, WIDTH, seed=3),
    }
    return Conditioning(**(told | more))


def _references() -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 1, FRAMES, HEIGHT // 2, WIDTH // 2)
    mask[..., :1] = 1
    return {
        "identity_tokens": _random(1, 8, 512, seed=4),
        "emotion_tokens": _random(1, FRAMES, 9, 64, seed=5),
        "reference_mask": mask,
    }


def _run(model: WanTransformer3DModel, conditioning: Conditioning) -> torch.Tensor:
    return model(_random(1, 16, FRAMES, HEIGHT, WIDTH), torch.tensor([500.0]), conditioning, return_dict=False)[0]


def _open_gates(model: AvatarTransformer3DModel, value: float = 1.0) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(value)


@torch.no_grad()
def test_fresh_adapters_leave_the_base_as_it_is_to_the_bit(
    base: WanTransformer3DModel, model: AvatarTransformer3DModel
) -> None:
    plain = _run(AvatarTransformer3DModel.from_wan(base), _conditioning())
    assert torch.equal(_run(model, _conditioning(**_references())), plain)
    _open_gates(model)
    assert not torch.allclose(_run(model, _conditioning(**_references())), plain, atol=1e-3)


@pytest.mark.parametrize("tokens", ["identity", "emotion"])
@torch.no_grad()
def test_an_open_gate_moves_the_masked_tokens_alone(model: AvatarTransformer3DModel, tokens: str) -> None:
    _open_gates(model)
    block = model.blocks[0]
    assert isinstance(block, AvatarBlock)
    told = _conditioning(**_references())
    inputs = AdapterInputs(told.adapter_tokens())
    (config,) = (each for each in block.adapter_configs if each.tokens == tokens)
    stream = _random(1, FRAMES * HEIGHT * WIDTH // 4, 48, seed=6)
    update = adapter_update(block.adapters[tokens], config, stream, inputs)
    assert told.reference_mask is not None
    inside = told.reference_mask.flatten().bool()
    assert (update[0, ~inside] == 0).all() and (update[0, inside].abs().amax(-1) > 1e-3).all()


def test_gradients_reach_a_closed_gate(model: AvatarTransformer3DModel) -> None:
    _run(model, _conditioning(**_references())).square().sum().backward()
    gates = {name: parameter.grad for name, parameter in model.named_parameters() if name.endswith(".gate")}
    assert len(gates) == 4 and all(grad is not None and grad.abs() > 0 for grad in gates.values())


@torch.no_grad()
def test_adapters_are_saved_with_the_model(model: AvatarTransformer3DModel, tmp_path: Path) -> None:
    _open_gates(model, 0.5)
    model.save_pretrained(tmp_path)
    again = AvatarTransformer3DModel.from_pretrained(tmp_path).eval()
    kept = again.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    told = _conditioning(**_references())
    assert torch.allclose(_run(again, told), _run(model, told), atol=1e-5)
    assert reference_adapters(again) == reference_adapters(model)
    assert reference_adapters(again)["identity"].made_of == "features"


@torch.no_grad()
def test_adapters_alone_are_a_small_file(
    base: WanTransformer3DModel, model: AvatarTransformer3DModel, tmp_path: Path
) -> None:
    _open_gates(model, 0.5)
    path = save_reference(model, tmp_path / "reference.safetensors")
    again = load_reference(AvatarTransformer3DModel.from_wan(base), path).eval()
    told = _conditioning(**_references())
    assert reference_adapters(again) == reference_adapters(model)
    assert torch.allclose(_run(again, told), _run(model, told), atol=1e-5)
    with pytest.raises(OptionError, match="one adapter for each kind of tokens"):
        load_reference(again, path)


def test_files_of_adapters_that_do_not_fit_are_refused(
    base: WanTransformer3DModel, model: AvatarTransformer3DModel, tmp_path: Path
) -> None:
    plain = AvatarTransformer3DModel.from_wan(base)
    with pytest.raises(OptionError, match="no identity or emotion adapter that could be saved"):
        save_reference(plain, tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        load_reference(plain, tmp_path / "none.safetensors")
    (tmp_path / "words.safetensors").write_text("words")
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_reference(plain, tmp_path / "words.safetensors")
    other = AvatarTransformer3DModel.from_wan(debug_components("i2v", num_layers=1)["transformer"])
    with pytest.raises(WeightsError, match=r"another size than this one \(1 blocks of 48\)"):
        load_reference(other, save_reference(model, tmp_path / "reference.safetensors"))
    assert not other.config.adapters


def test_emotion_is_queried_frame_by_frame_after_the_sound(base: WanTransformer3DModel) -> None:
    """The order of arXiv 2505.20156, section 3.3: first the sound moves the stream, then the emotion."""
    model = AvatarTransformer3DModel.from_wan(base, [{"tokens": "audio", "kind": "residual", "token_dim": 8}])
    attach_reference(model, identity=False, blocks=(0, 1))
    first, second = model.blocks
    assert isinstance(first, AvatarBlock) and isinstance(second, AvatarBlock)
    assert [config.tokens for config in first.adapter_configs] == ["audio", "emotion"]
    assert [config.tokens for config in second.adapter_configs] == ["audio"]
    adapter = first.adapters["emotion"]
    assert isinstance(adapter, ResidualAdapter) and adapter.gate is not None and adapter.gate.item() == 0


def test_what_cannot_be_attached_is_refused(model: AvatarTransformer3DModel) -> None:
    with pytest.raises(OptionError, match="one adapter for each kind of tokens"):
        attach_reference(model)
    with pytest.raises(OptionError, match="an identity adapter, an emotion adapter or both"):
        attach_reference(model, identity=False, emotion=False)


@torch.no_grad()
def test_two_people_each_have_their_own_identity_and_feeling(model: AvatarTransformer3DModel) -> None:
    _open_gates(model)
    masks = torch.zeros(1, 2, FRAMES, HEIGHT // 2, WIDTH // 2)
    masks[:, 0, ..., :1] = masks[:, 1, ..., 2:] = 1
    block = model.blocks[0]
    assert isinstance(block, AvatarBlock)
    stream = _random(1, masks[0, 0].numel(), 48, seed=6)
    for config, tokens in zip(
        block.adapter_configs, (_random(1, 2, 8, 512), _random(1, 2, FRAMES, 9, 64)), strict=True
    ):
        other = tokens.clone()
        other[:, 1] += 1
        updates = [
            adapter_update(
                block.adapters[config.tokens],
                config,
                stream,
                AdapterInputs({config.tokens: each}, masks.flatten(2)[..., None]),
            )
            for each in (tokens, other)
        ]
        moved = (updates[0] != updates[1]).any(-1)[0]
        assert torch.equal(moved, masks[0, 1].flatten().bool()), config.tokens


def test_identity_tokens_are_the_rows_of_the_features(portrait: Portrait) -> None:
    tokens = identity_tokens(FeatureEmbedder(), portrait)
    assert tokens.shape == (8, 512)
    rows = torch.stack([tokens[i, 64 * i : 64 * (i + 1)] for i in range(8)])
    assert tokens.count_nonzero() == rows.count_nonzero()
    assert torch.allclose(rows.flatten(), torch.from_numpy(FeatureEmbedder().embed(portrait)) * 512**0.5)


def test_a_label_is_shown_by_the_portraits_own_face(portrait: Portrait) -> None:
    neutral, happy, angry = (emotion_face(each, SILENCE, portrait) for each in ("neutral", "happy", "angry"))
    assert happy.shape == (256, 256, 3)
    corners, brows = (slice(160, 215), slice(70, 190)), (slice(60, 115), slice(50, 200))
    assert _difference(happy, neutral, corners) > 2 and _difference(angry, neutral, brows) > 2
    assert np.array_equal(emotion_face("auto", SILENCE, portrait), neutral)  # nothing is heard in silence
    assert _difference(happy, neutral, (slice(0, 8), slice(None))) < 1  # the background stays


def _difference(a: np.ndarray, b: np.ndarray, where: tuple[slice, slice]) -> float:
    return float(np.abs(a[where].astype(float) - b[where]).mean())


def test_emotion_tokens_are_patches_of_the_codecs_latents(portrait: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avatar.wan.reference.EMOTION_PX", 64)
    codec = WanCodec(debug_components("i2v", num_layers=1)["vae"])
    tokens = emotion_tokens(codec, PHOTO, SILENCE, portrait)
    assert tokens.shape == (16, 64)
    latents = codec.encode(codec.pixels(emotion_face(PHOTO, SILENCE, portrait), (64, 64)))
    assert torch.equal(tokens[4 + 3].view(16, 2, 2), latents[:, 0, 2:4, 6:8])
    with pytest.raises(OptionError, match="'cheerful' is neither an emotion nor a picture"):
        emotion_tokens(codec, "cheerful", SILENCE, portrait)
