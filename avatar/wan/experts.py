"""The model that denoises, or Wan 2.2's two: one for much noise, one for little, with a noise level between them.

Source: Wan 2.2's repository, `wan/configs/wan_i2v_A14B.py` and `wan_t2v_A14B.py` (folders and boundaries).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from avatar.dit.published.loading import PublishedAdapter
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.errors import InputError, OptionError

LoadAdapter = Callable[[AvatarTransformer3DModel], PublishedAdapter]
MUCH_NOISE, LITTLE_NOISE = "high_noise_model", "low_noise_model"  # folders as Wan publishes them
SECOND = "transformer_2"  # as diffusers calls the expert for little noise
_BOUNDARY_I2V, _BOUNDARY_T2V = 0.9, 0.875  # Wan 2.2's own
_ROUNDING = 1e-6  # noise levels are float32


@dataclass(frozen=True)
class Experts:
    """The model that denoises, or Wan 2.2's two.

    Attributes:
        much_noise: the adapter on its transformer; the only one of Wan 2.1.
        little_noise: the same on the other expert.
        boundary: noise level sigma from which upwards `much_noise` is asked.
    """

    much_noise: PublishedAdapter
    little_noise: PublishedAdapter | None = None
    boundary: float = 0.0

    def __post_init__(self) -> None:
        if (self.little_noise is None) != (self.boundary == 0):
            raise OptionError("a second expert needs a boundary between 0 and 1, and a boundary a second expert")

    def __iter__(self) -> Iterator[PublishedAdapter]:
        yield self.much_noise
        if self.little_noise is not None:
            yield self.little_noise

    def is_little(self, sigma: float) -> bool:
        """Whether a noise level is the second expert's."""
        return self.little_noise is not None and sigma <= self.boundary - _ROUNDING

    def at(self, sigma: float) -> PublishedAdapter:
        return self.little_noise if self.is_little(sigma) else self.much_noise  # type: ignore[return-value]


def load_experts(
    components: Path,
    load_adapter: LoadAdapter,
    transformer: str | Path | None,
    load_adapter_2: LoadAdapter,
    dtype: torch.dtype | None,
) -> tuple[PublishedAdapter, PublishedAdapter | None]:
    """Both experts with their adapters; the second is None for a model of one.

    Args:
        components: a diffusers repository; the second expert is in its `transformer_2`.
        load_adapter, load_adapter_2: put an adapter onto the one and the other.
        transformer: another transformer, or a folder with `high_noise_model` and `low_noise_model`; None for the
            repository's.
        dtype: of the weights; None for as stored.

    Raises:
        InputError: a folder or a part of it is missing.
        OptionError, WeightsError: parts that do not fit one another.
    """
    for part in ("tokenizer", "text_encoder", "vae"):
        if not (components / part).is_dir():
            raise InputError(f"{components} has no folder {part}: give a Wan repository in diffusers' layout")
    first, second = _places(components, None if transformer is None else Path(transformer))
    adapter = load_adapter(AvatarTransformer3DModel.from_wan(first, dtype=dtype))
    if second is None:
        return adapter, None
    return adapter, load_adapter_2(AvatarTransformer3DModel.from_wan(second, dtype=dtype))


def _places(components: Path, transformer: Path | None) -> tuple[Path, Path | None]:
    if transformer is None:
        second = components / SECOND
        return components, second if second.is_dir() else None
    if not (transformer / MUCH_NOISE).is_dir() and not (transformer / LITTLE_NOISE).is_dir():
        return transformer, None
    for name in (MUCH_NOISE, LITTLE_NOISE):
        if not (transformer / name).is_dir():
            raise InputError(f"{transformer} has no folder {name}: Wan 2.2 needs both experts")
    return transformer / MUCH_NOISE, transformer / LITTLE_NOISE


def boundary_of(components: Path, transformer: AvatarTransformer3DModel) -> float:
    """The noise level between two experts: what the repository says, or else Wan 2.2's own."""
    index = components / "model_index.json"
    said = json.loads(index.read_text(encoding="utf-8")).get("boundary_ratio") if index.is_file() else None
    if said is not None:
        return float(said)
    return _BOUNDARY_T2V if transformer.config.in_channels == transformer.config.out_channels else _BOUNDARY_I2V
