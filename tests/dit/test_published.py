"""Loaders of published adapter files: what they take, what they refuse, and what they say."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avatar.debug.adapters import DEBUG_SYSTEMS, debug_adapter
from avatar.dit.published import PUBLISHED_PRESETS, load_adapter
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError, WeightsError
from avatar.types import Conditioning

DIM, BLOCKS, FEATURES, FRAMES = 48, 4, 8, 13
LAYERS = 12


def _base(image_to_video: bool = True, num_layers: int = BLOCKS, head_dim: int = 24) -> AvatarTransformer3DModel:
    torch.manual_seed(0)
    return AvatarTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=head_dim,
        in_channels=36 if image_to_video else 16,
        text_dim=16,
        freq_dim=16,
        ffn_dim=96,
        num_layers=num_layers,
        image_dim=16 if image_to_video else None,
        added_kv_proj_dim=2 * head_dim if image_to_video else None,
    ).eval()


def _options(system: str) -> dict[str, float]:
    return {"lora_alpha": 2.0} if system.startswith("omniavatar") else {}


def _file(system: str) -> dict[str, torch.Tensor]:
    return debug_adapter(system, DIM, BLOCKS, FEATURES)


def _features(system: str, speakers: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    layers = PUBLISHED_PRESETS[system].front_end.layers
    shape = {"last": (27, FEATURES), "stack": (FRAMES, LAYERS, FEATURES), "all": (FRAMES, (LAYERS + 2) * FEATURES)}
    return [torch.randn(shape[layers], generator=generator) for _ in range(speakers)]


@torch.no_grad()
def _velocity(
    system: str, dropped: tuple[str, ...] = (), speakers: int = 1, changed: int | None = None
) -> torch.Tensor:
    model = _base(DEBUG_SYSTEMS[system] == "i2v")
    adapter = load_adapter(system, model, _file(system), **_options(system))
    features = _features(system, speakers)
    if changed is not None:
        features[changed] = features[changed] + 1
    sound = adapter.projector.audio_tokens(features, FRAMES)
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(1, 16, 4, 4, 8, generator=generator)
    halves = torch.zeros(1, speakers, 4, 2, 4)
    for speaker in range(speakers):
        halves[:, speaker, :, :, speaker : speaker + 1] = 1
    told = Conditioning(
        audio_tokens=sound.tokens,
        audio_lengths=sound.lengths,
        audio_null=sound.null,
        face_mask=halves if speakers > 1 else None,
        text_tokens=torch.randn(1, 512, 16, generator=generator),
        image_tokens=torch.randn(1, 257, 16, generator=generator) if DEBUG_SYSTEMS[system] == "i2v" else None,
        reference_latents=torch.randn(1, model.config.in_channels - 16, 4, 4, 8, generator=generator),
    )
    told = adapter.at_step(latents, torch.tensor([500.0]), told)
    return model(latents, torch.tensor([500.0]), told.with_dropped(*dropped), return_dict=False)[0]


@pytest.mark.parametrize("system", DEBUG_SYSTEMS)
def test_sound_is_heard_by_every_system(system: str) -> None:
    assert (_velocity(system) - _velocity(system, ("audio",))).abs().max() > 1e-2


@pytest.mark.parametrize("system", DEBUG_SYSTEMS)
@pytest.mark.parametrize("speakers", [2, 4])
def test_several_people_are_each_heard(system: str, speakers: int) -> None:
    before, after = (_velocity(system, speakers=speakers, changed=changed) for changed in (None, speakers - 1))
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("system", DEBUG_SYSTEMS)
def test_sizes_are_read_from_the_tensors_and_the_model_survives_saving(system: str, tmp_path: Path) -> None:
    model = _base(DEBUG_SYSTEMS[system] == "i2v")
    load_adapter(system, model, _file(system), **_options(system))
    assert model.config.timestep_precision == "float64"
    model.save_pretrained(tmp_path)
    again = AvatarTransformer3DModel.from_pretrained(tmp_path)
    assert {name: v.shape for name, v in again.state_dict().items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("system", DEBUG_SYSTEMS)
def test_missing_and_surplus_keys_are_listed_and_nothing_is_changed(system: str) -> None:
    state = _file(system)
    parts = ("blocks.1", "audio_cond_projs", ".processor.")
    del state[[key for key in state if any(part in key for part in parts)][-1]]
    state["blocks.1.cross_attn.k_smell.weight"] = torch.zeros(2)
    model = _base(DEBUG_SYSTEMS[system] == "i2v")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match="missing|surplus"):
        load_adapter(system, model, state, **_options(system))
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_the_message_names_what_differs_block_by_block() -> None:
    state = {key: value for key, value in _file("multitalk").items() if "norm_x.bias" not in key}
    state["blocks.2.audio_cross_attn.proj.weight"] = torch.zeros(DIM, DIM + 1)
    state["surprise.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        load_adapter("multitalk", _base(), state)
    assert "missing: blocks.N.norm.bias (4)" in str(caught.value)
    assert "surplus: surprise.weight" in str(caught.value)
    assert "blocks.N.proj.weight 48x49 instead of 48x48" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_to_video": False}, "kind: a text-to-video model instead of an image-to-video model"),
        ({"num_layers": 2}, "of 4 blocks does not fit FantasyTalking on a base of 2 blocks"),
        ({"head_dim": 36}, "48x24 instead of 72x24"),
    ],
    ids=["kind", "blocks", "width"],
)
def test_another_base_is_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        load_adapter("fantasytalking", _base(**settings), _file("fantasytalking"))


def test_another_systems_file_is_refused() -> None:
    with pytest.raises(WeightsError, match="no adapter file of FantasyTalking"):
        load_adapter("fantasytalking", _base(), _file("multitalk"))


def test_a_second_adapter_is_refused() -> None:
    model = _base()
    load_adapter("fantasytalking", model, _file("fantasytalking"))
    with pytest.raises(WeightsError, match="adapters: audio instead of none"):
        load_adapter("echomimic-v3", model, _file("echomimic-v3"))


def test_an_unknown_system_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        OptionError, match="no published adapter is called 'hallo'; known: fantasytalking, echomimic-v3"
    ):
        load_adapter("hallo", _base(), {})


def test_weights_of_the_base_in_the_file_replace_the_bases_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    state = {
        **_file("infinitetalk"),
        "blocks.1.norm3.weight": torch.full((DIM,), 3.0),
        "head.head.bias": torch.ones(64),
    }
    model = _base()
    with caplog.at_level(logging.INFO):
        adapter = load_adapter("infinitetalk", model, state)
    assert adapter.overridden == ("blocks.1.norm2.weight", "proj_out.bias")
    assert (model.get_parameter("blocks.1.norm2.weight") == 3).all() and (model.proj_out.bias == 1).all()
    assert "4 blocks with adapters" in caplog.text and "2 weights of the base replaced" in caplog.text


def test_the_dead_query_of_flash_is_ignored_by_name() -> None:
    adapter = load_adapter("echomimic-v3-flash", _base(), _file("echomimic-v3-flash"))
    assert len(adapter.ignored) == 2 * BLOCKS and all("q_audio" in name for name in adapter.ignored)


def test_a_pickle_is_the_same_as_safetensors_and_runs_no_code(tmp_path: Path) -> None:
    state = _file("fantasytalking")
    nested: dict[str, dict[str, torch.Tensor]] = {"proj_model": {}, "audio_processor": {}}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        nested[part][rest] = value
    torch.save(nested, tmp_path / "model.ckpt")
    save_file(state, tmp_path / "model.safetensors")
    models = [_base(), _base()]
    for model, name in zip(models, ("model.ckpt", "model.safetensors"), strict=True):
        load_adapter("fantasytalking", model, tmp_path / name)
    assert all(torch.equal(v, models[1].state_dict()[name]) for name, v in models[0].state_dict().items())

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(InputError, match="could run code|cannot be read"):
        load_adapter("fantasytalking", _base(), tmp_path / "evil.ckpt")
    assert not Path("ran").exists()


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_a_lora_of_another_width_is_refused_before_anything_is_changed() -> None:
    state = _file("omniavatar-14b")
    state["blocks.3.ffn.2.lora_A.default.weight"] = torch.zeros(4, 7)
    model = _base(False)
    with pytest.raises(WeightsError, match=r"blocks.3.ffn.net.2 are \(48, 4\) and \(4, 7\); the weight is \(48, 96\)"):
        load_adapter("omniavatar-14b", model, state, lora_alpha=2.0)
    assert model.config.in_channels == 16 and not model.config.adapters


def test_omniavatars_alpha_comes_from_the_file_beside_or_by_hand(tmp_path: Path) -> None:
    save_file(_file("omniavatar-14b"), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="config.json beside the file"):
        load_adapter("omniavatar-14b", _base(False), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"lora_rank": 4, "lora_alpha": 2}))
    models = [_base(False), _base(False)]
    load_adapter("omniavatar-14b", models[0], tmp_path / "model.safetensors")
    load_adapter("omniavatar-14b", models[1], tmp_path / "model.safetensors", lora_alpha=2.0)
    assert models[0].config.in_channels == 33
    assert all(torch.equal(v, models[1].state_dict()[name]) for name, v in models[0].state_dict().items())


def test_every_preset_names_its_files_licences_and_encoder() -> None:
    for name, preset in PUBLISHED_PRESETS.items():
        assert preset.name == name and (preset.chunk_frames - 1) % 4 == 0
        assert preset.front_end.encoder == preset.encoder.repository
        assert all(each.licence and each.files for each in (preset.base.download, preset.adapter, preset.encoder))
        assert preset.guidance.rule() and len(preset.schedule.sigmas()) == preset.schedule.num_inference_steps + 1
