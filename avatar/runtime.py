"""The two networks that run all the time, transformer and speech encoder, as OpenVINO graphs: PyTorch's numbers to
rounding, in about 0.6 of the time on a CPU.

A graph is traced from the loaded module once, then kept on disk, ready compiled. Its name there is a hash of everything
it depends on: weights, configuration, code, versions, processor. The modules themselves stay as they are, so a pipeline
that runs on graphs is saved like any other.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn
from transformers import Wav2Vec2Model
from transformers.modeling_outputs import BaseModelOutput

from avatar.audio.encoder import SAMPLES_PER_FEATURE, pad_for_frames
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import MissingDependencyError, OptionError
from avatar.types import Conditioning

RUNTIMES = ("torch", "openvino")
LOG = logging.getLogger(__name__)

_TOKENS = ("face_mask", "identity_tokens", "emotion_tokens", "audio_tokens")  # the inputs after latents and timestep
_ANY = -1  # a size that is free
_EXAMPLE_FRAMES, _EXAMPLE_TOKENS, _EXAMPLE_FEATURES = 5, 3, 50

Notify = Callable[[str], None]


def check_runtime(name: str) -> None:
    """Checks that a runtime can be used, before any time is spent on loading.

    Raises:
        OptionError: there is no such runtime.
        MissingDependencyError: its package is not installed.
    """
    if name not in RUNTIMES:
        raise OptionError(f"no runtime is called {name!r}; accepted: {', '.join(RUNTIMES)}")
    if name == "openvino" and find_spec("openvino") is None:
        raise MissingDependencyError(
            'the openvino runtime needs a package that is not installed: pip install "avatar[openvino]"'
        )


def default_cache_dir() -> Path:
    """Where graphs are kept: the platform's folder for caches (`XDG_CACHE_HOME` is heeded), `avatar/openvino` in it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or base) / "avatar" / "openvino"


class GraphTransformer:
    """Stands in for the transformer it is made from while videos are made.

    Args:
        model: a transformer of facial geometry (with `region_grid`, without text), float32.
        cache_dir: where compiled graphs are kept; None for the platform's cache folder.
        notify: told in a sentence what takes long.

    Raises:
        OptionError: another kind of transformer.
        MissingDependencyError: OpenVINO is not installed.
    """

    def __init__(
        self, model: AvatarTransformer3DModel, cache_dir: Path | None = None, notify: Notify | None = None
    ) -> None:
        config = model.config
        if config.region_grid is None or config.text_dim is not None:
            raise OptionError("the openvino runtime is for models of facial geometry, such as the preset embedded")
        self._model = model
        widths = {adapter["tokens"]: adapter["token_dim"] for adapter in config.adapters}
        if set(widths) != {"audio", "identity", "emotion"}:
            raise OptionError(f"the openvino runtime needs adapters for audio, identity and emotion, not {set(widths)}")
        (height, width), (_, p_h, p_w) = config.region_grid, config.patch_size
        shapes = (
            (1, config.in_channels, _ANY, height, width),
            (1, _ANY),
            (1, 1, _ANY, height // p_h, width // p_w),
            (1, _ANY, widths["identity"]),
            (1, _ANY, _ANY, widths["emotion"]),
            (1, 1, _ANY, _ANY, widths["audio"]),
        )
        frames_at = (2, 1, 2, None, 1, 2)
        example = [
            torch.ones(
                [_EXAMPLE_FRAMES if axis == at else _EXAMPLE_TOKENS if n == _ANY else n for axis, n in enumerate(s)]
            )
            for s, at in zip(shapes, frames_at, strict=True)
        ]
        free_batch = [(_ANY, *shape[1:]) for shape in shapes]
        self._graph = _Graph("transformer", _TracedTransformer(model), model, example, free_batch, cache_dir, notify)

    def __call__(
        self, hidden_states: Tensor, timestep: Tensor, conditioning: Conditioning, return_dict: bool = False
    ) -> tuple[Tensor]:
        """Velocity as `AvatarTransformer3DModel.forward` gives it, for a noise level per latent frame."""
        tokens = [getattr(conditioning, name) for name in _TOKENS]
        audio = conditioning.audio_tokens
        if any(value is None for value in tokens) or audio is None or audio.shape[1] != 1 or timestep.ndim != 2:
            return self._model(hidden_states, timestep, conditioning, return_dict=False)
        return (self._graph(hidden_states, timestep, *tokens).to(hidden_states),)


class GraphSpeechEncoder:
    """Stands in for the speech encoder it is made from; see `GraphTransformer` for the arguments.

    Attributes:
        config, device, dtype: the encoder's.
    """

    def __init__(self, encoder: Wav2Vec2Model, cache_dir: Path | None = None, notify: Notify | None = None) -> None:
        self.config, self.device, self.dtype = encoder.config, encoder.device, encoder.dtype
        example = pad_for_frames(torch.ones(1, _EXAMPLE_FEATURES * SAMPLES_PER_FEATURE), encoder.config)
        module = _TracedEncoder(encoder)
        self._graph = _Graph("speech-encoder", module, encoder, [example], [(_ANY, _ANY)], cache_dir, notify)

    def __call__(self, samples: Tensor) -> BaseModelOutput:
        """Padded sound (B, S) to features, as `Wav2Vec2Model.forward`."""
        return BaseModelOutput(last_hidden_state=self._graph(samples).to(samples))


class _TracedTransformer(nn.Module):
    """The transformer with one argument a tensor, in the order of `_TOKENS`."""

    def __init__(self, model: AvatarTransformer3DModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, latents: Tensor, timestep: Tensor, mask: Tensor, identity: Tensor, emotion: Tensor, audio: Tensor
    ) -> Tensor:
        conditioning = Conditioning(**dict(zip(_TOKENS, (mask, identity, emotion, audio), strict=True)))
        return self.model(latents, timestep, conditioning, return_dict=False)[0]


class _TracedEncoder(nn.Module):
    def __init__(self, encoder: Wav2Vec2Model) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, samples: Tensor) -> Tensor:
        return self.encoder(samples).last_hidden_state


class _Graph:
    """One module, compiled for the processor, from the cache where it is there."""

    def __init__(
        self,
        name: str,
        traced: nn.Module,
        source: nn.Module,
        example: Sequence[Tensor],
        shapes: Sequence[tuple[int, ...]],
        cache_dir: Path | None,
        notify: Notify | None,
    ) -> None:
        wrong = {str(parameter.dtype) for parameter in source.parameters()} - {"torch.float32"}
        if wrong:
            raise OptionError(f"the openvino runtime computes in float32; the {name} was loaded as {', '.join(wrong)}")
        ov = _import_openvino()
        core, options = ov.Core(), _options()
        key = _key(source, (ov.__version__, core.get_property("CPU", "FULL_DEVICE_NAME"), *map(str, shapes)))
        path = (cache_dir or default_cache_dir()) / f"{name}-{key}.blob"
        compiled = _from_cache(core, path, options)
        if compiled is None:
            if notify is not None:
                notify(f"making the graph of the {name.replace('-', ' ')}; it is kept in {path.parent}")
            compiled = core.compile_model(_convert(ov, traced, example, shapes), "CPU", options)
            _to_cache(compiled, path)
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()  # one request, and its buffers, for all threads

    def __call__(self, *inputs: Tensor) -> Tensor:
        arrays = [value.detach().float().cpu().contiguous().numpy() for value in inputs]
        with self._lock:
            self._request.infer(arrays, share_inputs=True)
            return torch.from_numpy(self._request.get_output_tensor(0).data.copy())


def _options() -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # it would take bfloat16 where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }


def _import_openvino() -> ModuleType:
    """OpenVINO without its telemetry, which would report home at import."""
    check_runtime("openvino")
    with _hidden("openvino_telemetry"):
        import openvino
    return openvino


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Makes a package look absent; OpenVINO has a stub for when its telemetry is."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _key(source: nn.Module, environment: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(source.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config: Any = source.config  # diffusers' are dictionaries, transformers' have a method
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    for path in (Path(__file__), *sorted((Path(__file__).parent / "dit").glob("*.py"))):
        digest.update(path.read_bytes())
    versions = (torch.__version__, diffusers.__version__, transformers.__version__)
    digest.update(json.dumps([*versions, *environment, _options()], default=str).encode())
    return digest.hexdigest()


def _convert(ov: ModuleType, traced: nn.Module, example: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are constants here
        model = ov.convert_model(traced.eval(), example_input=tuple(example))
    model.reshape({index: ov.PartialShape(list(shape)) for index, shape in enumerate(shapes)})
    return model


def _from_cache(core: Any, path: Path, options: dict[str, Any]) -> Any | None:
    try:
        blob = path.read_bytes()
    except OSError:
        return None
    body, checksum = blob[:-16], blob[-16:]
    if _checksum(body) != checksum:
        return None
    try:
        return core.import_model(io.BytesIO(body), "CPU", options)
    except RuntimeError as err:
        LOG.warning("%s cannot be used and is made again: %s", path, err)
        return None


def _to_cache(compiled: Any, path: Path) -> None:
    stream = io.BytesIO()
    compiled.export_model(stream)
    body = stream.getvalue()
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(body + _checksum(body))
        beside.replace(path)
    except OSError as err:
        LOG.warning("the compiled graph cannot be kept, so the next start takes as long: %s", err)
        with suppress(OSError):
            beside.unlink()


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()
