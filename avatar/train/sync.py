"""Trains the audio-lip model of the sync scorer on the synthetic corpus: exact timing, shifted and swapped sound as negatives.

The sound's features are fixed (the shipped speech encoder's, over augmented sound); the lips are the rig's motion, made to
look as a tracker would see a person who does not articulate by the rules. About a minute of one CPU thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from avatar.codec.mesh.rig import default_rig
from avatar.data.sync.lag_curve import MAX_OFFSET_FRAMES
from avatar.data.sync.lips import lip_matrix
from avatar.data.sync.model import SyncModel, SyncModelConfig, cosines_by_offset, windowed_logits
from avatar.data.sync.sound import per_frame
from avatar.train.motion_cache import MotionItem
from avatar.types import DEFAULT_FPS

LOG_STEPS = 100
_LEAST_FRAMES = 40
_PCA_ITEMS = 700
_PCA_FLOOR = 0.02  # of the largest component: what varies less than that is not blown up


@dataclass(frozen=True)
class SyncRecipe:
    """Everything that decides the result besides the items.

    Attributes:
        steps, batch_size, learning_rate, seed: of the optimiser.
        num_frames: length of a crop.
        windows: least and largest number of frames whose evidence is taken together: 0.2 to 1 s.
        soft_target: share of the right offset's weight that goes to each neighbour: nobody's lips keep time to a frame.
    """

    seed: int = 0
    steps: int = 800
    batch_size: int = 16
    num_frames: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    windows: tuple[int, int] = (5, 25)
    soft_target: float = 0.1
    dropout: float = 0.1


@dataclass(frozen=True)
class SyncItem:
    """One utterance: (T, D) speech features and (T, 12) numbers of the lips, both at 25 fps."""

    sound: np.ndarray
    lips: np.ndarray


def sync_items(items: Sequence[MotionItem]) -> list[SyncItem]:
    """What of the generator's training data this model sees."""
    shapes = np.einsum("pvc,kvc->pk", default_rig().shapes, lip_matrix())
    made = []
    for item in items:
        sound, lips = per_frame(item.features), item.weights.astype(np.float32) @ shapes
        frames = min(len(sound), len(lips))
        if frames >= _LEAST_FRAMES:
            made.append(SyncItem(sound[:frames], lips[:frames]))
    return made


def as_tracked(lips: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The rules' lips as a tracker would report a person's.

    In turn: movements that are not speech (another clip's, quietly), a manner and a face of one's own (gains and cross-talk
    between the numbers), a turning head that leaks in, smoothing, noise fast and slow, another frame rate, lost frames.

    Args:
        lips: (T, 12).
        other: (T', 12) of another clip.
        rng: source of chance.

    Returns:
        Lips (T, 12) float32 without their mean, filled in where lost; and found (T,) float32.
    """
    frames, count = lips.shape
    x = lips - lips.mean(axis=0)
    if rng.random() < 0.5:
        x = x + rng.uniform(0, 0.4) * np.resize(other - other.mean(axis=0), x.shape)
    x = x @ (np.eye(count) + 0.12 * rng.normal(size=(count, count)))
    x = x * np.exp(0.3 * rng.normal(size=count) + 0.4 * rng.normal())
    pose = sum(_slow_noise(frames, 3, width, rng) for width in (3.0, 8.0, 20.0))
    x = x + pose @ (rng.normal(size=(3, count)) * 0.09 * rng.random())
    if rng.random() < 0.7:
        x = gaussian_filter1d(x, rng.uniform(0.3, 1.3), axis=0)
    mixing = np.eye(count) + 0.5 * rng.normal(size=(count, count))
    x = x + 0.04 * rng.exponential() * rng.normal(size=x.shape) @ mixing
    x = x + 0.05 * rng.exponential() * _slow_noise(frames, count, 2.0, rng)
    if rng.random() < 0.4:
        x = _at_another_rate(x, rng.choice([15.0, 20.0, 23.976, 24.0, 29.97, 30.0]))
    found = np.ones(frames, np.float32)
    if rng.random() < 0.25:
        x, found = _with_lost_frames(x, rng)
    return (x - x.mean(axis=0)).astype(np.float32), found


def fit_components(model: SyncModel, items: Sequence[SyncItem]) -> None:
    """Sets the model's first, fixed layer: principal components of the speech features, brought to similar size."""
    features = np.concatenate([item.sound for item in items[:_PCA_ITEMS]]).astype(np.float32)
    mean = features.mean(axis=0)
    centred = features - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    count = model.config.sound_components
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    weight = (vectors / np.sqrt(values + _PCA_FLOOR * values[0])).T
    with torch.no_grad():
        model.components.weight.copy_(torch.from_numpy(weight.astype(np.float32).copy()))
        model.components.bias.copy_(torch.from_numpy((-weight @ mean).astype(np.float32)))


def train_sync(
    items: Sequence[SyncItem],
    config: SyncModelConfig,
    recipe: SyncRecipe,
    log: Callable[[dict[str, float]], None] | None = None,
) -> SyncModel:
    """Trains a model; the same items, recipe and seed give the same weights on the same machine."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = SyncModel(config)
    fit_components(model, items)
    items = [_projected(model, item) for item in items]
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    total = 0.0
    for step in range(recipe.steps):
        loss = contrastive_loss(model, *_batch(items, recipe, rng), recipe, int(rng.integers(*recipe.windows) + 1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        total += loss.item()
        if (step + 1) % LOG_STEPS == 0:
            if log is not None:
                log({"step": step + 1, "loss": total / LOG_STEPS})
            total = 0.0
    return model.eval()


def contrastive_loss(
    model: SyncModel, sound: Tensor, lips: Tensor, found: Tensor, recipe: SyncRecipe, window_frames: int
) -> Tensor:
    """Cross-entropy of the right sound for a window of lips among ±15 frames of its clip and the other clips of the batch.

    `sound` (B, T, components) is what the model's first, fixed layer makes of the speech features.
    """
    sound = nn.functional.dropout(sound, recipe.dropout, model.training)
    sound_at = nn.functional.normalize(model.sound(sound), dim=-1)
    lips_at = model.embed_lips(lips, found)
    inner = slice(MAX_OFFSET_FRAMES, -MAX_OFFSET_FRAMES)
    shifted = cosines_by_offset(sound_at, lips_at)[0][:, inner]
    swapped = torch.einsum("bte,cte->btc", lips_at[:, inner], sound_at[:, inner])
    logits = windowed_logits(model, torch.cat([shifted, swapped], dim=-1), window_frames)
    own = torch.eye(len(lips), dtype=torch.bool)[:, None]
    offsets = 2 * MAX_OFFSET_FRAMES + 1
    logits = torch.cat([logits[..., :offsets], logits[..., offsets:].masked_fill(own, -1e4)], dim=-1)
    target = logits.new_zeros(logits.shape[-1])
    target[MAX_OFFSET_FRAMES - 1 : MAX_OFFSET_FRAMES + 2] = recipe.soft_target
    target[MAX_OFFSET_FRAMES] = 1 - 2 * recipe.soft_target
    return -(logits.log_softmax(dim=-1)[..., :offsets] @ target[:offsets]).mean()


@torch.no_grad()
def _projected(model: SyncModel, item: SyncItem) -> SyncItem:
    return SyncItem(model.components(torch.from_numpy(item.sound.astype(np.float32))).numpy(), item.lips)


def _batch(items: Sequence[SyncItem], recipe: SyncRecipe, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    sounds, lips, founds = [], [], []
    for _ in range(recipe.batch_size):
        item = items[rng.integers(len(items))]
        missing = max(0, recipe.num_frames - len(item.lips))
        sound, motion = (np.pad(part, ((0, missing), (0, 0)), "edge") for part in (item.sound, item.lips))
        first = int(rng.integers(0, len(motion) - recipe.num_frames + 1))
        crop = slice(first, first + recipe.num_frames)
        seen, found = as_tracked(motion[crop], items[rng.integers(len(items))].lips, rng)
        sounds.append(sound[crop].astype(np.float32))
        lips.append(seen)
        founds.append(found)
    return (torch.from_numpy(np.stack(sounds)), torch.from_numpy(np.stack(lips)), torch.from_numpy(np.stack(founds)))


def _slow_noise(frames: int, count: int, width_frames: float, rng: np.random.Generator) -> np.ndarray:
    """(frames, count) of about unit variance."""
    margin = int(4 * width_frames)
    noise = gaussian_filter1d(rng.normal(size=(frames + 2 * margin, count)), width_frames, axis=0)
    return noise[margin : margin + frames] * math.sqrt(2 * math.sqrt(math.pi) * width_frames)


def _at_another_rate(x: np.ndarray, fps: float) -> np.ndarray:
    """As video of that rate shows it at 25 fps: the nearest frame."""
    shown = np.round(np.arange(len(x)) / DEFAULT_FPS * fps) / fps * DEFAULT_FPS
    return np.stack([np.interp(shown, np.arange(len(x)), column) for column in x.T], axis=1)


def _with_lost_frames(x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A few gaps of up to half a second, filled in."""
    found = np.ones(len(x), np.float32)
    for _ in range(rng.integers(1, 4)):
        first = int(rng.integers(1, len(x)))
        found[first : first + int(rng.integers(1, 12))] = 0
    known = np.flatnonzero(found)
    return np.stack([np.interp(np.arange(len(x)), known, column[known]) for column in x.T], axis=1), found
