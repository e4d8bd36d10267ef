"""OpenVINO graphs in place of the networks: the same numbers, kept on disk, and no harm done to what they stand in for."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar import runtime
from avatar.audio.encoder import pad_for_frames
from avatar.cli import build_parser, main
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import MissingDependencyError, OptionError
from avatar.pipeline import AvatarPipeline, debug_pipeline
from avatar.runtime import RUNTIMES, GraphSpeechEncoder, GraphTransformer, check_runtime, default_cache_dir
from avatar.types import Conditioning, Waveform

PORTRAIT = Path(__file__).resolve().parent.parent / "examples" / "astronaut.png"
SPEECH = PORTRAIT.parent / "hello.wav"
TOLERANCE = 1e-4  # of latents, whose spread is about 1

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason='openvino is not installed: pip install "avatar[openvino]"'
)


@pytest.fixture(scope="module")
def pipe() -> AvatarPipeline:
    return debug_pipeline()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "avatar" / "openvino"


@pytest.fixture
def graph(pipe: AvatarPipeline, cache: Path) -> GraphTransformer:
    return GraphTransformer(pipe.transformer, cache)


@pytest.fixture
def on_graphs(pipe: AvatarPipeline, cache: Path) -> Iterator[AvatarPipeline]:
    yield pipe.use_runtime("openvino", cache)
    pipe.use_runtime("torch")


def _inputs(frames: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    def chance(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    generator = torch.Generator().manual_seed(frames)
    timestep = torch.full((batch, frames), 700.0)
    timestep[:, 0] = 0
    conditioning = Conditioning(
        audio_tokens=chance(1, frames, 16, 32),
        face_mask=chance(1, frames, 2, 2).sigmoid(),
        identity_tokens=chance(7, 32),
        emotion_tokens=chance(frames, 2, 32),
    )
    return chance(16, frames, 4, 4), timestep, conditioning


def _no_conversion(*args: object) -> None:
    raise AssertionError("a graph was made although it is in the cache")


@needs_openvino
@pytest.mark.parametrize(("frames", "batch"), [(16, 1), (13, 1), (2, 1), (5, 2)])
def test_the_graph_gives_the_transformers_velocity(
    frames: int, batch: int, pipe: AvatarPipeline, graph: GraphTransformer
) -> None:
    inputs = _inputs(frames, batch)
    with torch.no_grad():
        (expected,) = pipe.transformer(*inputs, return_dict=False)
    (velocity,) = graph(*inputs)
    assert velocity.shape == expected.shape
    spread = float(expected.std())
    assert float((velocity - expected).abs().max()) < TOLERANCE * max(1.0, spread)


@needs_openvino
def test_what_the_graph_was_not_made_for_is_left_to_the_transformer(
    pipe: AvatarPipeline, graph: GraphTransformer
) -> None:
    latents, timestep, conditioning = _inputs(3)
    deaf = Conditioning(identity_tokens=conditioning.identity_tokens)
    with torch.no_grad():
        (expected,) = pipe.transformer(latents, timestep, deaf, return_dict=False)
        assert torch.equal(graph(latents, timestep, deaf)[0], expected)


@needs_openvino
@pytest.mark.parametrize("num_features", [1, 50, 500])
def test_the_graph_gives_the_encoders_features(num_features: int, pipe: AvatarPipeline, cache: Path) -> None:
    sound = torch.randn(1, num_features * 320, generator=torch.Generator().manual_seed(0))
    samples = pad_for_frames(sound, pipe.speech_encoder.config)
    with torch.no_grad():
        expected = pipe.speech_encoder(samples).last_hidden_state
    features = GraphSpeechEncoder(pipe.speech_encoder, cache)(samples).last_hidden_state
    assert features.shape == expected.shape == (1, num_features, 64)
    assert float((features - expected).abs().max()) < TOLERANCE


@needs_openvino
def test_the_video_is_the_same_on_graphs(pipe: AvatarPipeline, cache: Path) -> None:
    speech = Waveform(np.random.default_rng(0).normal(size=40_000).astype(np.float32) * 0.1)
    frames = []
    for name in RUNTIMES:
        pipe.use_runtime(name, cache)
        frames.append(pipe(PORTRAIT, speech, size_px=96).frames().astype(int))
    pipe.use_runtime("torch")
    difference = np.abs(frames[0] - frames[1])
    assert difference.max() <= 4
    assert (difference > 0).mean() < 1e-3


@needs_openvino
def test_a_graph_is_made_once_and_kept(
    pipe: AvatarPipeline, graph: GraphTransformer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_convert", _no_conversion)
    told: list[str] = []
    again = GraphTransformer(pipe.transformer, cache, told.append)
    assert torch.equal(again(*_inputs(4))[0], graph(*_inputs(4))[0])
    assert told == []


@needs_openvino
def test_other_weights_are_another_graph(graph: GraphTransformer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_convert", _no_conversion)
    told: list[str] = []
    with pytest.raises(AssertionError, match="a graph was made"):
        GraphTransformer(debug_pipeline(seed=1).transformer, cache, told.append)
    assert told == [f"making the graph of the transformer; it is kept in {cache}"]


@needs_openvino
def test_a_damaged_graph_is_made_again(pipe: AvatarPipeline, tmp_path: Path) -> None:
    encoder = pipe.speech_encoder
    GraphSpeechEncoder(encoder, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    told: list[str] = []
    GraphSpeechEncoder(encoder, tmp_path, told.append)
    assert len(told) == 1
    assert len(path.read_bytes()) == len(whole)
    assert list(tmp_path.iterdir()) == [path]  # nothing half-written beside it


@needs_openvino
def test_a_cache_that_cannot_be_written_costs_time_only(
    pipe: AvatarPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        graph = GraphSpeechEncoder(pipe.speech_encoder, tmp_path / "file" / "cache")
    assert "cannot be kept" in caplog.text
    assert graph(torch.zeros(1, 16_000)).last_hidden_state.shape[0] == 1


@needs_openvino
def test_a_pipeline_on_graphs_is_saved_like_any_other(on_graphs: AvatarPipeline, tmp_path: Path) -> None:
    on_graphs.save_pretrained(tmp_path)
    loaded = AvatarPipeline.from_pretrained(tmp_path)
    assert set(loaded.components) == set(on_graphs.components)
    for name, value in on_graphs.transformer.state_dict().items():
        assert torch.equal(loaded.transformer.state_dict()[name], value)


@needs_openvino
def test_openvino_does_not_report_home() -> None:
    runtime._import_openvino()
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__.endswith("telemetry_stub")


@needs_openvino
def test_networks_it_cannot_run_are_refused(pipe: AvatarPipeline, cache: Path) -> None:
    with pytest.raises(OptionError, match="models of facial geometry"):
        GraphTransformer(AvatarTransformer3DModel(num_attention_heads=1, attention_head_dim=12, num_layers=1), cache)
    half = debug_pipeline().transformer.to(torch.bfloat16)
    with pytest.raises(OptionError, match="computes in float32; the transformer was loaded as torch.bfloat16"):
        GraphTransformer(half, cache)


def test_a_missing_package_names_the_extra(pipe: AvatarPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "avatar\[openvino\]"'):
        pipe.use_runtime("openvino")
    with pytest.raises(MissingDependencyError, match="openvino"):
        AvatarPipeline.from_pretrained("debug", runtime="openvino")


def test_the_command_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    out = tmp_path / "video.mp4"
    assert main(["animate", str(PORTRAIT), str(SPEECH), "-o", str(out), "--runtime", "openvino"]) == 1
    assert 'pip install "avatar[openvino]"' in capsys.readouterr().err
    assert not out.exists()


@needs_openvino
def test_the_command_line_runs_on_graphs(
    pipe: AvatarPipeline,
    graph: GraphTransformer,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent.parent))
    monkeypatch.setattr(AvatarPipeline, "from_pretrained", lambda preset, runtime, notify: pipe.use_runtime(runtime))
    monkeypatch.setattr(AvatarTransformer3DModel, "forward", _no_conversion)  # whoever calls it, it is not the graph
    out = tmp_path / "video.mp4"
    assert main(["animate", str(PORTRAIT), str(SPEECH), "-o", str(out), "--size", "96", "--runtime", "openvino"]) == 0
    pipe.use_runtime("torch")
    printed = capfd.readouterr()
    assert printed.out == f"{out}\n"
    assert [line for line in printed.err.splitlines() if not line.startswith("avatar: ")] == []


def test_an_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="no runtime is called 'onnx'; accepted: torch, openvino"):
        check_runtime("onnx")
    with pytest.raises(OptionError, match="accepted: torch, openvino"):
        AvatarPipeline.from_pretrained("debug", runtime="onnx")


def test_the_command_line_offers_every_runtime() -> None:
    (commands,) = (action for action in build_parser()._actions if action.dest not in ("help", "version"))
    (option,) = (a for a in commands.choices["animate"]._actions if a.dest == "runtime")  # type: ignore[index,union-attr]
    assert tuple(option.choices) == RUNTIMES


def test_graphs_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "avatar" / "openvino"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert os.fspath(default_cache_dir()).endswith(os.path.join("avatar", "openvino"))
