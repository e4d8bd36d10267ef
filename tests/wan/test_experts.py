"""Wan 2.2's two experts: both loaded with their adapters, each asked at its noise levels, with sound of its own projector."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatar.debug import debug_adapter, write_debug_repository
from avatar.dit.adapters import AdapterConfig
from avatar.dit.published.fantasytalking import LAYOUT
from avatar.dit.published.loading import PublishedAdapter, install
from avatar.dit.published.presets import FANTASYTALKING
from avatar.dit.published.projectors import WindowProjector
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError
from avatar.types import Waveform
from avatar.wan.experts import LITTLE_NOISE, MUCH_NOISE, SECOND
from avatar.wan.memory import use_memory
from avatar.wan.pipeline import WanAvatarPipeline

PRESET = replace(
    FANTASYTALKING,
    base=replace(FANTASYTALKING.base, image_to_video=False),
    front_end=replace(FANTASYTALKING.front_end, hidden_size=32),
)
PHOTO = Path(__file__).resolve().parent.parent.parent / "examples" / "astronaut.png"
SMALL: dict[str, Any] = {"size_px": 32, "num_inference_steps": 4, "chunk_frames": 13, "shift": 1.0}


def _load(seed: int) -> Callable[[AvatarTransformer3DModel], PublishedAdapter]:
    def load(model: AvatarTransformer3DModel) -> PublishedAdapter:
        config = AdapterConfig("audio", "shared_query", token_dim=24, masked=True, bias=False)
        heaps = LAYOUT.sort(debug_adapter("fantasytalking", seed=seed))
        return install(PRESET, model, heaps, config, lambda: WindowProjector(32, 24))

    return load


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_debug_repository(tmp_path_factory.mktemp("wan") / "i2v", "i2v-2.2")


def _speech() -> Waveform:
    return Waveform((0.1 * np.random.default_rng(0).normal(size=9600)).astype(np.float32))


def _same_weights(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_both_experts_are_loaded_with_their_adapters_and_share_the_noise_levels(repository: Path) -> None:
    pipeline = WanAvatarPipeline.from_folders(repository, _load(0), load_adapter_2=_load(1))
    assert pipeline.experts.boundary == 0.9
    wan = AvatarTransformer3DModel.from_wan(repository, subfolder=SECOND)
    assert torch.equal(pipeline.transformer_2.get_parameter("proj_out.weight"), wan.get_parameter("proj_out.weight"))
    asked: dict[str, list[tuple[float, torch.Tensor]]] = {"transformer": [], "transformer_2": []}
    for name, seen in asked.items():
        getattr(pipeline, name).register_forward_pre_hook(
            lambda _, args, seen=seen: seen.append((args[1].item() / 1000, args[2].audio_tokens))
        )
    clip = pipeline(PHOTO, _speech(), **SMALL)
    frames = clip.frames()
    assert len(frames) == 14  # 23 frames a second; two chunks
    levels = {name: {round(level, 3) for level, _ in seen} for name, seen in asked.items()}
    assert levels == {"transformer": {1.0}, "transformer_2": {0.75, 0.5, 0.25}}
    first, second = (next(tokens for _, tokens in seen if tokens.any()) for seen in asked.values())
    assert first.shape == second.shape and not torch.equal(first, second)


def test_one_adapter_file_serves_both_where_no_other_is_named(repository: Path) -> None:
    pipeline = WanAvatarPipeline.from_folders(repository, _load(0), boundary_ratio=0.6)
    assert _same_weights(pipeline.audio_projector, pipeline.audio_projector_2)
    assert not _same_weights(pipeline.transformer, pipeline.transformer_2)
    assert pipeline.experts.boundary == 0.6
    low = use_memory(pipeline, "low", "cpu")
    stored = {p.dtype for name, p in low.transformer_2.named_parameters() if "attn1.to_q.weight" in name}
    assert stored == {torch.float8_e4m3fn}
    assert len(low(PHOTO, _speech(), **SMALL).frames()) == 14


def test_wans_own_folders_are_the_same_model(repository: Path, tmp_path: Path) -> None:
    named = tmp_path / "Wan2.2-I2V-A14B"
    for ours, wans in (("transformer", MUCH_NOISE), (SECOND, LITTLE_NOISE)):
        AvatarTransformer3DModel.from_wan(repository, subfolder=ours).save_pretrained(named / wans)
    plain = WanAvatarPipeline.from_folders(repository, _load(0))
    other = WanAvatarPipeline.from_folders(repository, _load(0), transformer=named)
    assert _same_weights(plain.transformer, other.transformer)
    assert _same_weights(plain.transformer_2, other.transformer_2)
    (named / LITTLE_NOISE).rename(tmp_path / "away")
    with pytest.raises(InputError, match="has no folder low_noise_model: Wan 2.2 needs both experts"):
        WanAvatarPipeline.from_folders(repository, _load(0), transformer=named)


def test_without_a_word_on_it_the_boundary_is_wans_own(repository: Path, tmp_path: Path) -> None:
    index = json.loads((repository / "model_index.json").read_text())
    folder = tmp_path / "wan"
    folder.mkdir()
    for part in repository.iterdir():
        if part.is_dir():
            (folder / part.name).symlink_to(part)
    (folder / "model_index.json").write_text(json.dumps({**index, "boundary_ratio": None}))
    assert WanAvatarPipeline.from_folders(folder, _load(0)).experts.boundary == 0.9
    (folder / SECOND).unlink()
    one = WanAvatarPipeline.from_folders(folder, _load(0))
    assert one.transformer_2 is None and list(one.experts) == [one.experts.much_noise]
    with pytest.raises(OptionError, match="a second expert needs a boundary between 0 and 1"):
        WanAvatarPipeline.from_folders(folder, _load(0), boundary_ratio=0.9)
