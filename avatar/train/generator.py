"""Trains the embedded motion generator: flow matching on geometry latents, conditioned on sound, identity and emotion.

Every latent frame may have its own noise level: a sequence starts with clean frames (the portrait alone, or the end of the
chunk before) and goes on with noisy ones, which is how it is used (B. Chen et al., "Diffusion Forcing", arXiv 2407.01392).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avatar.audio.alignment import audio_windows, window_length
from avatar.audio.projector import AudioProjector
from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.latent import LATENT_CHANNELS, LATENT_GRID, GeometryLatent
from avatar.codec.mesh.rig import default_rig
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.tokens import EmotionEncoder
from avatar.face_mesh import INNER_LIP_PAIRS
from avatar.identity.features import FEATURE_DIM, NUM_APPEARANCE_TOKENS, NUM_FEATURE_TOKENS
from avatar.identity.tokens import IdentityEncoder
from avatar.train.checkpoint import Stateful, log_line, resume_checkpoint, save_checkpoint
from avatar.train.motion_cache import MotionItem
from avatar.train.prefetch import batches
from avatar.train.schedule import learning_rate_factor
from avatar.types import Conditioning

MARGIN_FEATURES = 4
FEATURES_PER_VIDEO_FRAME = 2
_SPREAD_ITEMS = 200  # whose features tell how large they are
LOG_STEPS, CHECKPOINT_STEPS = 50, 250  # a checkpoint is also logged, so the second is a multiple of the first


@dataclass(frozen=True)
class GeneratorRecipe:
    """Everything that decides the result besides the cache.

    The last `noisy_steps` of the `steps` hear the speech features with noise of up to `feature_noise` times their
    spread; the learning rate rises once more for them, to `noisy_learning_rate`.
    """

    seed: int = 0
    steps: int = 5000
    noisy_steps: int = 1000
    batch_size: int = 16
    latent_frames: int = 16
    context_frames: int = 4
    learning_rate: float = 1e-3
    noisy_learning_rate: float = 3e-4
    warmup_steps: int = 200
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    hidden_size: int = 256
    num_layers: int = 6
    ffn_dim: int = 768
    feature_dim: int = 256
    token_dim: int = 192
    lip_weight: float = 0.5
    closure_weight: float = 4.0
    audio_dropout: float = 0.1
    feature_noise: float = 1.0
    min_loss_sigma: float = 0.25


class Generator(nn.Module):
    """The networks that are trained together; each is a component of the pipeline."""

    def __init__(self, recipe: GeneratorRecipe) -> None:
        super().__init__()
        width = recipe.token_dim
        self.audio_projector = AudioProjector(
            recipe.feature_dim, width, window_length(GROUP_FRAMES, MARGIN_FEATURES), MARGIN_FEATURES
        )
        self.identity_encoder = IdentityEncoder(token_dim=width, hidden_dim=width)
        self.emotion_encoder = EmotionEncoder(default_rig().num_named, width)
        self.transformer = AvatarTransformer3DModel(
            num_attention_heads=recipe.hidden_size // 64,
            attention_head_dim=64,
            text_dim=None,
            ffn_dim=recipe.ffn_dim,
            num_layers=recipe.num_layers,
            cross_attn_norm=False,
            adapters=tuple(
                {"tokens": name, "kind": "residual", "token_dim": width, "masked": name == "audio", "key_norm": True}
                for name in ("identity", "audio", "emotion")
            ),
            region_grid=LATENT_GRID,
            prediction="sample",
        )

    def components(self) -> dict[str, nn.Module]:
        return dict(self.named_children())


@dataclass(frozen=True)
class MotionBatch:
    """Clean latents [B, 16, F, 4, 4] and raw conditions; `clean_frames` (B,) leading latent frames are given, not made."""

    latents: Tensor
    windows: Tensor
    labels: Tensor
    expression: Tensor
    identity: Tensor
    clean_frames: Tensor

    def to(self, device: str) -> MotionBatch:
        return MotionBatch(*(getattr(self, f.name).to(device) for f in fields(self)))


class MotionCrops:
    """Endless random crops of the cache; the batch of (seed, step) is always the same.

    Noise of a random strength on the speech features, in the recipe's last steps, keeps the transformer from reading in them
    what only synthetic voices have (C. M. Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural
    Computation 7, 1995).
    """

    def __init__(
        self, items: list[MotionItem], recipe: GeneratorRecipe, latent: GeometryLatent, *, augment: bool = True
    ) -> None:
        need = 1 + GROUP_FRAMES * (recipe.latent_frames + 1)
        self._items = [item for item in items if len(item.weights) >= need]
        self._recipe = recipe
        self._latent = latent
        self._matrix = latent.rig_matrix(default_rig())
        self._noise = recipe.feature_noise if augment else 0.0
        if self._noise > 0:
            some = np.concatenate([item.features for item in self._items[:_SPREAD_ITEMS]]).astype(np.float32)
            self._spread = torch.from_numpy(some.std(axis=0))

    def batch(self, step: int) -> MotionBatch:
        rng = np.random.default_rng((self._recipe.seed, 7, step))
        samples = [self._sample(rng) for _ in range(self._recipe.batch_size)]
        batch = MotionBatch(*(torch.stack(column) for column in zip(*samples, strict=True)))
        is_noisy = self._noise > 0 and step >= self._recipe.steps - self._recipe.noisy_steps
        return replace(batch, windows=self._noisy(batch.windows, step)) if is_noisy else batch

    def _noisy(self, windows: Tensor, step: int) -> Tensor:
        """Noise of a strength of its own for each crop (B, F, M, D), by dimension as large as the features' spread."""
        rng = np.random.default_rng((self._recipe.seed, 8, step))
        strength = torch.from_numpy(rng.random((len(windows), 1, 1, 1), np.float32)) * self._noise
        return windows + strength * self._spread * torch.from_numpy(rng.standard_normal(windows.shape, np.float32))

    def _sample(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        recipe = self._recipe
        item = self._items[rng.integers(len(self._items))]
        frames = recipe.latent_frames
        is_start = rng.random() < 0.35  # the first chunk: one picture, then groups; later chunks: groups only
        length = 1 + GROUP_FRAMES * (frames - 1 if is_start else frames)
        begin = 0 if is_start and rng.random() < 0.8 else int(rng.integers(0, len(item.weights) - length + 1))
        part = slice(begin, begin + length)
        still = np.zeros((length, 3), np.float32)
        latents = self._latent.encode_rig(
            item.weights[part].astype(np.float32),
            item.rotation[part].astype(np.float32),
            still,
            still[:, :2],
            self._matrix,
        )
        first = 0 if is_start else 1
        windows = audio_windows(
            torch.from_numpy(item.features.astype(np.float32)),
            first,
            first + frames,
            temporal_stride=GROUP_FRAMES,
            margin_features=MARGIN_FEATURES,
            offset=-begin * FEATURES_PER_VIDEO_FRAME,
        )
        clean = (
            1
            if is_start
            else int(rng.integers(1, recipe.context_frames + 1))
            if rng.random() < 0.3
            else recipe.context_frames
        )
        labels, expression = _hide_some(item.labels, item.expression, rng, frames)
        return latents[:, first:], windows, labels, expression, _identity(item.identity, rng), torch.tensor(clean)


def _hide_some(
    labels: np.ndarray, expression: np.ndarray, rng: np.random.Generator, frames: int
) -> tuple[Tensor, Tensor]:
    """Either description of the emotion may be missing, or both."""
    unknown = rng.random(2) < (0.35, 0.35 if not np.isnan(labels).any() else 0.1)
    shown = [
        torch.from_numpy(np.full_like(x, np.nan) if hide else x)
        for x, hide in zip((labels, expression), unknown, strict=True)
    ]
    return shown[0].expand(frames, -1).float(), shown[1].expand(frames, -1).float()


def _identity(geometry: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Geometry rows, and appearance rows that mean nothing for the motion: noise, or unknown."""
    appearance = rng.normal(size=(NUM_APPEARANCE_TOKENS, FEATURE_DIM)) * (rng.random() < 0.5)
    rows = np.concatenate([geometry * (rng.random() > 0.1), appearance]).astype(np.float32)
    assert len(rows) == NUM_FEATURE_TOKENS
    return torch.from_numpy(rows)


class LipGap(nn.Module):
    """Latents to the height between the inner lips, a linear read-out used by the loss."""

    matrix: Tensor

    def __init__(self, latent: GeometryLatent) -> None:
        super().__init__()
        size = LATENT_CHANNELS * LATENT_GRID[0] * LATENT_GRID[1]
        probe = torch.eye(size).unflatten(1, (LATENT_CHANNELS, *LATENT_GRID)).permute(1, 0, 2, 3).contiguous()
        expression, _ = latent.decode_groups(probe)  # (size, 4, 478, 3)
        upper, lower = ([pair[k] for pair in INNER_LIP_PAIRS] for k in (0, 1))
        gap = expression[:, :, upper, 1] - expression[:, :, lower, 1]
        self.register_buffer("matrix", torch.from_numpy(gap.reshape(size, -1)).float())

    def forward(self, latents: Tensor) -> Tensor:
        """[B, 16, F, 4, 4] to (B, F, 4 * 9), canonical units."""
        return latents.permute(0, 2, 1, 3, 4).flatten(2) @ self.matrix


def generator_loss(model: Generator, batch: MotionBatch, lips: LipGap, recipe: GeneratorRecipe, seed: int) -> Tensor:
    """Flow-matching loss of one batch on its noisy latent frames.

    Source: arXiv 2210.02747, eq. 9, for a network that predicts the sample: |v' - v| = |x' - x| / sigma.
    """
    generator = torch.Generator().manual_seed(seed)
    latents, device = batch.latents, batch.latents.device
    count, _, frames = latents.shape[:3]
    sigma = torch.sigmoid(0.5 + 1.2 * torch.randn(count, generator=generator)).to(device)[:, None].expand(-1, frames)
    noisy_frame = torch.arange(frames, device=device) >= batch.clean_frames[:, None]
    sigma = sigma * noisy_frame
    noise = torch.randn(latents.shape, generator=generator).to(device)
    level = sigma[:, None, :, None, None]
    noisy = (1 - level) * latents + level * noise

    audio = model.audio_projector(batch.windows)[:, None]
    keep = (torch.rand(count, generator=generator) > recipe.audio_dropout).to(device)
    conditioning = Conditioning(
        audio_tokens=audio * keep[:, None, None, None, None],
        face_mask=MeshCodec.face_mask(frames).to(device).expand(count, 1, -1, -1, -1),
        identity_tokens=model.identity_encoder(batch.identity),
        emotion_tokens=model.emotion_encoder(batch.labels, batch.expression),
    )
    velocity = model.transformer(noisy, 1000 * sigma, conditioning).sample.float()
    predicted = noisy - level * velocity
    weight = noisy_frame / sigma.clamp_min(recipe.min_loss_sigma) ** 2
    per_frame = (predicted - latents).square().mean(dim=(1, 3, 4))
    gap, true_gap = lips(predicted), lips(latents)
    # a closed mouth that is not closed is what one notices
    lip_error = ((gap - true_gap).square() * (1 + recipe.closure_weight * (true_gap < 0.15))).mean(-1)
    total = (weight * (per_frame + recipe.lip_weight * lip_error)).sum() / noisy_frame.sum()
    return total


def train_generator(
    items: list[MotionItem],
    out: Path,
    recipe: GeneratorRecipe,
    *,
    held_out: list[MotionItem],
    device: str = "cpu",
    log: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Trains, or goes on with, the generator.

    Args:
        items: training cache.
        out: receives `checkpoint.pt`, `log.jsonl` and, at every checkpoint, the averaged networks in `generator/`.
        recipe: what to train.
        held_out: cache of voices that are not trained on.
        device: where.
        log: told each logged line.

    Returns:
        The folder with one subfolder per network.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    latent = GeometryLatent()
    crops, test_crops = MotionCrops(items, recipe, latent), MotionCrops(held_out, recipe, latent, augment=False)
    lips = LipGap(latent).to(device)
    model = Generator(recipe).to(device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate_factor(step, recipe))
    parts: dict[str, Stateful] = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
    first = resume_checkpoint(out / "checkpoint.pt", asdict(recipe), parts)
    started, losses = time.time(), []
    for step, batch in batches(crops.batch, first, recipe.steps):
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = generator_loss(model, batch.to(device), lips, recipe, seed=step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _update_average(average, model, min(recipe.ema_decay, (1 + step) / (10 + step)))
        losses.append(loss.item())
        done = step + 1
        if done % LOG_STEPS == 0 or done == recipe.steps:
            line = {"step": done, "loss": float(np.mean(losses)), "seconds": time.time() - started}
            losses.clear()
            if done % CHECKPOINT_STEPS == 0 or done == recipe.steps:
                line["held_out_loss"] = _held_out_loss(average, test_crops, lips, recipe, device)
                save_checkpoint(out / "checkpoint.pt", asdict(recipe), done, parts)
                for name, network in average.components().items():
                    network.save_pretrained(out / "generator" / name)  # type: ignore[operator]
            log_line(out / "log.jsonl", line, log)
    return out / "generator"


def _rate_factor(step: int, recipe: GeneratorRecipe) -> float:
    """Warm-up and cosine over the clean steps, and again, lower, over the noisy ones."""
    clean_steps = recipe.steps - recipe.noisy_steps
    if step < clean_steps:
        return learning_rate_factor(step, recipe.warmup_steps, clean_steps)
    factor = learning_rate_factor(step - clean_steps, recipe.warmup_steps // 4, recipe.noisy_steps)
    return factor * recipe.noisy_learning_rate / recipe.learning_rate


@torch.no_grad()
def _held_out_loss(
    model: Generator, crops: MotionCrops, lips: LipGap, recipe: GeneratorRecipe, device: str, num_batches: int = 4
) -> float:
    batches = (crops.batch(k).to(device) for k in range(num_batches))
    return float(np.mean([generator_loss(model, x, lips, recipe, seed=k).item() for k, x in enumerate(batches)]))


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)
