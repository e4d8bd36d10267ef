"""diffusers' quantisation of a base, with an adapter on top at full precision; each test needs its package, none a GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import GGUFQuantizationConfig, QuantoConfig, TorchAoConfig

from avatar.debug import load_debug_adapter, write_debug_repository
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.types import Conditioning

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own


def _needs(package: str) -> pytest.MarkDecorator:
    """Looks without importing: what a package changes in torch at import is not for other tests."""
    root = package.split(".")[0]
    return pytest.mark.skipif(importlib.util.find_spec(root) is None, reason=f"needs {package}")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_debug_repository(tmp_path_factory.mktemp("wan") / "i2v", num_layers=2)


@torch.no_grad()
def _output(model: AvatarTransformer3DModel, audio: torch.Tensor | None = None) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    told = Conditioning(
        text_tokens=torch.randn(1, 512, 32, generator=g),
        image_tokens=torch.randn(1, 257, 32, generator=g),
        audio_tokens=audio,
    )
    return model(torch.randn(1, 36, 3, 4, 6, generator=g), torch.tensor([700.0]), told).sample


def _check(model: AvatarTransformer3DModel, repository: Path, kind: str, within: float) -> None:
    """Fewer bytes, nearly the same output, and an adapter on top that is heard and not quantised."""
    assert type(model).__name__ == "AvatarTransformer3DModel"
    layer = model.get_submodule("blocks.0.ffn.net.2")  # 96 wide; GGUF stores blocks of 32
    assert kind in f"{type(layer).__name__} {type(layer.weight).__name__}"
    expected = _output(AvatarTransformer3DModel.from_wan(repository))
    assert 0 < (_output(model) - expected).norm() / expected.norm() < within
    load_debug_adapter("fantasytalking", model)
    adapter = model.get_submodule("blocks.1.adapters.audio.to_k")
    assert type(adapter) is torch.nn.Linear and adapter.weight.dtype == torch.float32
    audio = torch.randn(1, 1, 3, 5, 24, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(_output(model, audio), _output(model, torch.zeros_like(audio)))


@_needs("optimum.quanto")
@pytest.mark.parametrize(("weights", "within"), [("int8", 0.02), ("float8", 0.1)])
def test_quanto(repository: Path, weights: str, within: float) -> None:
    config = QuantoConfig(weights_dtype=weights)
    model = AvatarTransformer3DModel.from_wan(repository, quantization_config=config)
    _check(model, repository, "QLinear", within)


@_needs("torchao")
def test_torchao(repository: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig

    config: Any = TorchAoConfig(Int8WeightOnlyConfig())
    model = AvatarTransformer3DModel.from_wan(repository, quantization_config=config, dtype=torch.float32)
    _check(model, repository, "Int8Tensor", 0.02)


@_needs("gguf")
def test_gguf(repository: Path, tmp_path: Path) -> None:
    """A file as they are published, but for diffusers' names, loaded by diffusers' own loader of single files."""
    import gguf

    path, q8 = tmp_path / "wan.gguf", gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(str(path), "wan")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, value in AvatarTransformer3DModel.from_wan(repository).state_dict().items():
        if name.startswith("blocks.") and value.ndim == 2 and value.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(value.numpy(), q8), raw_dtype=q8)
        else:
            writer.add_tensor(name, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = AvatarTransformer3DModel.from_single_file(
        str(path),
        config=str(repository),
        subfolder="transformer",
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )
    stored = {p.dtype for p in model.parameters()}
    assert stored == {torch.uint8, torch.float32}
    _check(model, repository, "GGUFLinear", 0.02)
