"""Our audio-lip model: features of speech and numbers of the lips to points of one space, near where they belong together.

Two small convolutional towers, a vector per video frame each, trained with shifted and swapped sound as negatives
(`avatar.train.sync`; A. van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4, with
the negatives of S.-W. Chung et al., "Perfect Match", ICASSP 2019).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avatar.data.sync.lag_curve import MAX_OFFSET_FRAMES
from avatar.data.sync.lips import LIP_NUMBERS
from avatar.data.sync.sound import encoder_fingerprint
from avatar.errors import WeightsError

MIN_WINDOWS = 12  # fewer frames than this say nothing about an offset
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class SyncModelConfig:
    """Sizes.

    Attributes:
        sound_dim: of the speech features of one frame.
        sound_components: principal components of them that are kept.
        width: of both towers.
        embedding: of the space they share.
        encoder_sha256: of the weights of the speech encoder it was trained behind; empty: not checked.
    """

    sound_dim: int = 512
    sound_components: int = 96
    width: int = 64
    embedding: int = 32
    encoder_sha256: str = ""


class SyncModel(nn.Module):
    """See the module."""

    def __init__(self, config: SyncModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SyncModelConfig()
        self.components = nn.Linear(config.sound_dim, config.sound_components).requires_grad_(False)
        self.sound = _tower(config.sound_components, config)
        self.lips = _tower(2 * len(LIP_NUMBERS) + 1, config)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def embed_sound(self, features: Tensor) -> Tensor:
        """Speech features (B, T, D) to unit vectors (B, T, E)."""
        return nn.functional.normalize(self.sound(self.components(features)), dim=-1)

    def embed_lips(self, numbers: Tensor, found: Tensor | None = None) -> Tensor:
        """Lips to unit vectors.

        Args:
            numbers: (B, T, 12) `LIP_NUMBERS`, canonical units; their mean over the clip is taken off.
            found: (B, T), 0 where the numbers are filled in; None for 1 throughout.

        Returns:
            (B, T, E).
        """
        found = numbers.new_ones(numbers.shape[:2]) if found is None else found.to(numbers)
        numbers = numbers - numbers.mean(dim=1, keepdim=True)
        speed = nn.functional.pad(numbers[:, 1:] - numbers[:, :-1], (0, 0, 1, 0))
        return nn.functional.normalize(self.lips(torch.cat([numbers, 2 * speed, found[..., None]], dim=-1)), dim=-1)

    @torch.no_grad()
    def distances(self, features: np.ndarray, numbers: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean distance at every offset.

        Args:
            features: (S, D) speech features, from the video's start.
            numbers: (T, 12) lips.
            found: (T,) bool: frames that count.

        Returns:
            (31,) 1 minus the cosine, 0 to 2, NaN where fewer than 12 frames can be compared; and how many they are.
        """
        if not len(features) or not len(numbers):
            return np.full(2 * MAX_OFFSET_FRAMES + 1, np.nan), np.zeros(2 * MAX_OFFSET_FRAMES + 1, int)
        sound = self.embed_sound(torch.from_numpy(features.astype(np.float32))[None])[0]
        seen = torch.from_numpy(found.astype(np.float32))[None]
        lips = self.embed_lips(torch.from_numpy(numbers.astype(np.float32))[None], seen)[0]
        cosines, is_inside = cosines_by_offset(sound[None], lips[None])
        counted = (is_inside & torch.from_numpy(found.astype(bool))[:, None]).numpy()
        counts = counted.sum(axis=0)
        total = np.where(counted, 1 - cosines[0].numpy(), 0.0).sum(axis=0)
        return np.where(counts >= MIN_WINDOWS, total / np.maximum(counts, 1), np.nan), counts

    def save(self, folder: Path) -> None:
        """Writes config.json and model.safetensors, half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        save_file({name: value.half().contiguous() for name, value in self.state_dict().items()}, folder / _WEIGHTS)

    @classmethod
    def load(cls, folder: Path | None = None, *, check_encoder: bool = True) -> SyncModel:
        """Reads what `save` wrote.

        Args:
            folder: None for the one that ships with the package.
            check_encoder: whether the shipped speech encoder must be the one it was trained behind.

        Raises:
            WeightsError: the files are missing or do not fit, or it belongs to another encoder.
        """
        if folder is None:
            with as_file(files("avatar").joinpath("weights", "sync")) as shipped:
                return cls.load(shipped, check_encoder=check_encoder)
        try:
            stored = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            config = SyncModelConfig(**{field.name: stored[field.name] for field in fields(SyncModelConfig)})
            model = cls(config)
            model.load_state_dict({name: value.float() for name, value in load_file(folder / _WEIGHTS).items()})
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as err:
            raise WeightsError(f"{folder} holds no sync model that fits: {err}; make one: {_REMAKE}") from err
        if check_encoder and config.encoder_sha256 not in ("", encoder_fingerprint()):
            raise WeightsError(
                f"the sync model in {folder} was trained behind another speech encoder than the one that is shipped; "
                f"train it again: {_REMAKE}"
            )
        return model.eval()


_REMAKE = "python scripts/train_sync_scorer.py CORPUS_DIR CACHE_DIR"


@cache
def shipped_model() -> SyncModel:
    """The sync model that ships with the package, to judge with; loaded once."""
    return SyncModel.load()


def cosines_by_offset(sound: Tensor, lips: Tensor, max_offset: int = MAX_OFFSET_FRAMES) -> tuple[Tensor, Tensor]:
    """How alike lips and sound are at every place and offset.

    Args:
        sound: (B, S, E) unit vectors.
        lips: (B, T, E) unit vectors.
        max_offset: frames both ways.

    Returns:
        (B, T, 2 M + 1): lips of frame i against sound of frame i - offset, offsets rising from -M; and (T, 2 M + 1) bool:
        where there is such a frame of sound.
    """
    frames, heard = lips.shape[1], sound.shape[1]
    index = torch.arange(frames)[:, None] - torch.arange(-max_offset, max_offset + 1)[None]
    is_inside = (index >= 0) & (index < heard)
    shifted = sound[:, index.clamp(0, heard - 1).to(sound.device)]
    return torch.einsum("bte,btoe->bto", lips, shifted), is_inside


def sync_loss(
    model: SyncModel,
    lip_motion: Tensor,
    speech_features: Tensor,
    found: Tensor | None = None,
    window_frames: int = 10,
    *,
    per_clip: bool = False,
) -> Tensor:
    """How surely the lips do not belong to the sound as it stands: a loss for whatever makes the lips.

    The loss that the model itself was trained with, without swapped clips: cross-entropy of offset 0 among ±15 frames, over
    windows. Gradients reach `lip_motion`; freeze the model.

    Args:
        model: a trained one, frozen.
        lip_motion: (B, T, 12) `lips.LIP_NUMBERS`, T > 30 + window_frames (`lips.lip_numbers` makes them of a mesh).
        speech_features: (B, T, D) of the same frames (`sound.per_frame`).
        found: (B, T), 0 where lips are filled in; None for 1 throughout.
        window_frames: frames whose evidence is taken together, 5 to 25.
        per_clip: whether each clip's own is wanted.

    Returns:
        The mean, or (B,) by clip: near 0 for lips in time, 3.4 = log 31 where nothing can be told, more for lips that clearly
        belong elsewhere.
    """
    cosines, _ = cosines_by_offset(model.embed_sound(speech_features), model.embed_lips(lip_motion, found))
    inner = cosines[:, MAX_OFFSET_FRAMES:-MAX_OFFSET_FRAMES]
    logits = windowed_logits(model, inner, window_frames)
    target = logits.new_full(logits.shape[:2], MAX_OFFSET_FRAMES, dtype=torch.long)
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return losses.view(target.shape).mean(1) if per_clip else losses.mean()


def windowed_logits(model: SyncModel, cosines: Tensor, window_frames: int) -> Tensor:
    """Cosines (B, T, K) averaged over half-overlapping windows and scaled, (B, windows, K)."""
    step = max(1, window_frames // 2)
    means = nn.functional.avg_pool1d(cosines.transpose(1, 2), window_frames, stride=step).transpose(1, 2)
    return means * (model.log_scale.exp() * math.sqrt(window_frames * model.config.embedding))


def _tower(inputs: int, config: SyncModelConfig) -> nn.Sequential:
    blocks = [_Block(config.width, dilation) for dilation in (1, 2, 1)]
    return nn.Sequential(
        nn.Linear(inputs, config.width), *blocks, nn.LayerNorm(config.width), nn.Linear(config.width, config.embedding)
    )


class _Block(nn.Module):
    """Five frames of each channel, then all channels of a frame; added to what came in."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.time = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation, groups=width)
        self.channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.time(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(mixed)
