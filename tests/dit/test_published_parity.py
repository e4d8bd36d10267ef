"""Our adapters against golden values of the published code; and that the comparison notices what matters."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avatar.dit.adapters import AdapterConfig, ResidualAdapter, SharedQueryAdapter, build_adapter
from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.published.multitalk import LAYOUT
from avatar.dit.published.projectors import PackProjector
from avatar.dit.wan_keys import diffusers_state
from avatar.evaluate.parity import Row, TransformerCase
from avatar.evaluate.parity_parts import check_case, check_folder

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.rglob("case.json"))
FANTASYTALKING, ECHOMIMIC = GOLDEN / "fantasytalking" / "i2v", GOLDEN / "echomimicv3_preview" / "i2v"


def _failed(rows: list[Row]) -> list[str]:
    return [f"{row.quantity}: {row.difference} > {row.tolerance}" for row in rows if not row.passed]


@pytest.mark.parametrize("folder", CASES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_golden_tensor_is_met(folder: Path) -> None:
    rows = check_case(folder)
    assert len(rows) > 4 and all(row.difference is not None for row in rows)
    assert _failed(rows) == []


def _rows(folder: Path, change: Callable[[PublishedAdapter], None]) -> list[Row]:
    case = TransformerCase(folder)
    adapter = case.load()
    with torch.no_grad():
        change(adapter)
    return list(case.rows(adapter))


def _audio_adapters(adapter: PublishedAdapter) -> list[SharedQueryAdapter]:
    return [part for part in adapter.transformer.modules() if isinstance(part, SharedQueryAdapter)]


def _drop_key_norm(adapter: PublishedAdapter) -> None:
    for part in _audio_adapters(adapter):
        part.norm_k = torch.nn.Identity()


def _drop_mask(adapter: PublishedAdapter) -> None:
    for block in adapter.transformer.blocks:
        block.adapter_configs = tuple(replace(config, masked=False) for config in block.adapter_configs)


def _drop_base_overrides(adapter: PublishedAdapter) -> None:
    assert adapter.overridden
    base = diffusers_state(load_file(ECHOMIMIC / "base.safetensors"))
    adapter.transformer.load_base_overrides({name: base[name] for name in adapter.overridden})


def _hear_padding(adapter: PublishedAdapter) -> None:
    adapter.projector.register_to_config(mask_padding=False)


def _float32_sinusoid(adapter: PublishedAdapter) -> None:
    adapter.transformer.register_to_config(timestep_precision="float32")


def _wide_epsilon(adapter: PublishedAdapter) -> None:
    adapter.projector.norm.eps = 1e-4  # type: ignore[union-attr]


def _swap_keys_and_values(adapter: PublishedAdapter) -> None:
    for part in _audio_adapters(adapter):
        part.to_k, part.to_v = part.to_v, part.to_k


@pytest.mark.parametrize(
    ("folder", "change", "notices"),
    [
        (ECHOMIMIC, _drop_key_norm, "block0.cross_attn"),
        (ECHOMIMIC, _drop_mask, "block0.cross_attn"),
        (ECHOMIMIC, _drop_base_overrides, "block0"),
        (FANTASYTALKING, _hear_padding, "masked.t500.full"),
        (FANTASYTALKING, _float32_sinusoid, "time_sinusoid"),
        (FANTASYTALKING, _wide_epsilon, "inter.projected_tokens"),
        (FANTASYTALKING, _swap_keys_and_values, "guided.t500"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_a_part_left_out_is_noticed(folder: Path, change: Callable[[PublishedAdapter], None], notices: str) -> None:
    assert any(notices in failure for failure in _failed(_rows(folder, change)))


def test_a_missing_shape_or_a_nan_is_not_a_match(tmp_path: Path) -> None:
    case = TransformerCase(FANTASYTALKING)
    case.golden["masked.t500.full"] = case.golden["masked.t500.full"][..., :-1]
    case.golden["inter.audio_tokens"][0, 0, 0, 0] = float("nan")
    failed = _failed(list(case.rows(case.load())))
    assert [line.split(":")[0] for line in failed] == ["inter.audio_tokens", "masked.t500.full"]
    assert not list(check_folder(tmp_path))


@pytest.mark.parametrize("run", ["t999.null", "t999.full"], ids=["one speaker", "two speakers"])
def test_multitalks_adapter_gives_its_golden_update(run: str) -> None:
    tensors = load_file(GOLDEN / "multitalk_block" / "tensors.safetensors")
    weights = {name.removeprefix("adapter."): v for name, v in tensors.items() if name.startswith("adapter.")}
    tokens = tensors[f"{run}.projected_tokens"]  # (speakers, F, M, D)
    settings = AdapterConfig("audio", "residual", token_dim=tokens.shape[-1], speaker_positions=True)
    adapter = build_adapter(48, 2, settings)
    assert isinstance(adapter, ResidualAdapter)
    adapter.load_state_dict(LAYOUT.sort(weights).adapter[0])
    frames = tokens.shape[1]
    adapter.norm = torch.nn.Identity()  # type: ignore[assignment]  # the golden input has been normalised
    stream = tensors[f"{run}.block0.norm_x"].reshape(frames, -1, 48)
    positions = None
    if len(tokens) == 2:
        places = tensors[f"{run}.block0.lrope.query_positions"].reshape(frames, -1)
        positions = (places, tensors[f"{run}.block0.lrope.key_positions"])
    update = adapter(stream, torch.cat(list(tokens), dim=1), positions=positions)
    golden = tensors[f"{run}.block0.audio_cross_attn"].reshape(update.shape)
    assert (update - golden).abs().max() < 1e-5


def test_omniavatars_sound_is_packed_as_published() -> None:
    tensors = load_file(GOLDEN / "omniavatar_sound" / "tensors.safetensors")
    features = tensors["audio_features"]
    projector = PackProjector(features.shape[-1], token_dim=32)
    projector.load_state_dict(
        {name.removeprefix("audio_proj."): value for name, value in tensors.items() if name.startswith("audio_proj.")}
    )
    packed = projector.audio_tokens([features[0]], features.shape[1]).tokens[:, 0, :, 0]
    assert (packed - tensors["inter.packed_audio"]).abs().max() < 5e-6
    condition = packed @ tensors["audio_cond_projs.0.weight"].mT + tensors["audio_cond_projs.0.bias"]
    assert (condition - tensors["inter.audio_conditions"][:, 0]).abs().max() < 5e-6


def test_the_script_prints_the_table_and_exits_1_where_one_row_is_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = runpy.run_path(str(GOLDEN.parent.parent / "scripts" / "check_parity.py"), run_name="imported")["main"]
    monkeypatch.setattr(sys, "argv", ["check_parity.py", str(GOLDEN / "lrope")])
    assert main() == 0 and "query_rotated" in capsys.readouterr().out
    off = tmp_path / "lrope" / "two_speakers"
    shutil.copytree(GOLDEN / "lrope" / "two_speakers", off)
    tensors = load_file(off / "outputs.safetensors")
    tensors["query_rotated"][0, 0, 0, 0] += 1e-3
    save_file(tensors, off / "outputs.safetensors")
    monkeypatch.setattr(sys, "argv", ["check_parity.py", str(tmp_path)])
    assert main() == 1
    assert "1.0e-03     5e-05  FAILED" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["check_parity.py", str(tmp_path / "nothing")])
    assert main() == 1
