"""Trains the embedded speech encoder on synthetic speech: which phone, and what the mouth does, every 20 ms.

One process, CPU or GPU; checkpoints every few minutes and goes on bit-exactly where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Model

from avatar.audio.encoder import FEATURE_RATE_HZ, encode_batch, small_encoder_config
from avatar.data.synthetic.articulation import aperture, articulate, phone_frames
from avatar.data.synthetic.augment import SPEED_RANGE, change_speed, colour
from avatar.data.synthetic.corpus import SpeechShard, load_speech
from avatar.data.synthetic.phones import CHANNELS, PHONE_NAMES
from avatar.data.synthetic.synthesise import Utterance
from avatar.train.checkpoint import Stateful, log_line, resume_checkpoint, save_checkpoint
from avatar.train.prefetch import batches
from avatar.train.schedule import learning_rate_factor
from avatar.types import MODEL_SAMPLE_RATE_HZ

LOG_STEPS, CHECKPOINT_STEPS = 50, 250


@dataclass(frozen=True)
class EncoderRecipe:
    """Everything that decides the result besides the corpus."""

    seed: int = 0
    steps: int = 8000
    batch_size: int = 8
    crop_s: float = 4.0
    learning_rate: float = 1e-3
    warmup_steps: int = 150
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    curve_weight: float = 8.0
    hidden_size: int = 256
    num_layers: int = 4


class SpeechTeacher(nn.Module):
    """The encoder with the heads it is trained through; only the encoder is kept."""

    def __init__(self, recipe: EncoderRecipe) -> None:
        super().__init__()
        self.encoder = Wav2Vec2Model(small_encoder_config(recipe.hidden_size, recipe.num_layers))
        gabor_stem(self.encoder)
        self.phones = nn.Linear(recipe.hidden_size, len(PHONE_NAMES))
        self.curves = nn.Linear(recipe.hidden_size, len(CHANNELS) + 1)

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) to phone logits (B, N, P) and mouth curves with the aperture last (B, N, 8)."""
        features = encode_batch(self.encoder, samples)
        return self.phones(features), self.curves(features)


def gabor_stem(encoder: Wav2Vec2Model) -> None:
    """Starts the first convolution as a mel-spaced Gabor filter bank, four phases each.

    Source: N. Zeghidour et al., "Learning filterbanks from raw speech for phone recognition", ICASSP 2018.
    """
    conv = encoder.feature_extractor.conv_layers[0].conv
    num_filters, _, width = conv.weight.shape
    num_bands = num_filters // 4
    mel = np.linspace(_mel(60.0), _mel(7600.0), num_bands + 2)
    edges_hz = 700 * (np.exp(mel / 1127) - 1)
    t = (np.arange(width) - width / 2) / MODEL_SAMPLE_RATE_HZ
    bank = np.empty((num_filters, width), np.float32)
    for band in range(num_bands):
        centre, bandwidth = edges_hz[band + 1], (edges_hz[band + 2] - edges_hz[band]) / 2
        envelope = np.exp(-((t * bandwidth * 1.5) ** 2)) * np.hanning(width)
        envelope /= np.sqrt((envelope**2).sum())
        for phase in range(4):
            bank[4 * band + phase] = envelope * np.cos(2 * np.pi * centre * t + phase * np.pi / 2)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(bank)[:, None] * 0.5)
        conv.bias.zero_()


def _mel(frequency_hz: float) -> float:
    return 1127 * math.log1p(frequency_hz / 700)


class SpeechCrops:
    """Endless augmented crops with targets; the crop of (seed, step) is always the same."""

    def __init__(self, shards: list[SpeechShard], recipe: EncoderRecipe, *, augment: bool = True) -> None:
        self._shards = shards
        self._weights = np.array([_sampling_weight(shard) for shard in shards])
        self._weights /= self._weights.sum()
        self._recipe = recipe
        self._augment = augment

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples (B, S), phones (B, N) and curves (B, N, 8) of one training step."""
        items = [
            self._crop(np.random.default_rng((self._recipe.seed, step, k))) for k in range(self._recipe.batch_size)
        ]
        samples, phones, curves = zip(*items, strict=True)
        return (
            torch.from_numpy(np.stack(samples)),
            torch.from_numpy(np.stack(phones)),
            torch.from_numpy(np.stack(curves)),
        )

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num_frames = int(self._recipe.crop_s * FEATURE_RATE_HZ)
        num_samples = num_frames * MODEL_SAMPLE_RATE_HZ // FEATURE_RATE_HZ
        utterance = self._utterance(rng, num_samples)
        phones = phone_frames(utterance, FEATURE_RATE_HZ)
        curves = articulate(utterance, FEATURE_RATE_HZ)
        curves = np.concatenate([curves, aperture(curves)[:, None]], axis=1)
        first = int(rng.integers(0, max(1, len(phones) - num_frames)))
        start = first * MODEL_SAMPLE_RATE_HZ // FEATURE_RATE_HZ
        samples = utterance.samples[start : start + num_samples].astype(np.float32) / 32768
        samples = np.pad(samples, (0, num_samples - len(samples)))
        phones, curves = phones[first : first + num_frames], curves[first : first + num_frames]
        missing = num_frames - len(phones)
        phones, curves = np.pad(phones, (0, missing)), np.pad(curves, ((0, missing), (0, 0)))
        if self._augment:
            samples = colour(samples, rng, self._somebody_else(rng, num_samples))
        else:
            samples = (samples - samples.mean()) / (samples.std() + 1e-5)
        return samples.astype(np.float32), phones, curves.astype(np.float32)

    def _utterance(self, rng: np.random.Generator, num_samples: int) -> Utterance:
        """One or more utterances of a voice in a row, long enough for a crop, at a changed speed."""
        shard = self._shards[rng.choice(len(self._shards), p=self._weights)]
        factor = rng.uniform(*SPEED_RANGE) if self._augment else 1.0
        parts: list[Utterance] = []
        while sum(len(part.samples) for part in parts) < num_samples * factor:
            parts.append(shard.utterances[rng.integers(len(shard.utterances))])
        offsets = np.cumsum([0] + [len(part.samples) for part in parts[:-1]]) / MODEL_SAMPLE_RATE_HZ
        samples = np.concatenate([part.samples for part in parts])
        ends = np.concatenate([part.ends_s + offset for part, offset in zip(parts, offsets, strict=True)])
        if factor != 1.0:
            samples = (change_speed(samples.astype(np.float32) / 32768, factor).clip(-1, 1) * 32767).astype(np.int16)
        return Utterance(
            samples, np.concatenate([part.phones for part in parts]), (ends / factor).astype(np.float32), ""
        )

    def _somebody_else(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        shard = self._shards[rng.integers(len(self._shards))]
        samples = shard.utterances[rng.integers(len(shard.utterances))].samples.astype(np.float32) / 32768
        return np.resize(samples, num_samples)


def _sampling_weight(shard: SpeechShard) -> float:
    """Voices built from human recordings count most; all the espeak languages together about a quarter."""
    weights = {"espeak": 0.035, "flite": 0.5, "festival": 0.35, "recordings": 1.4}
    return weights[shard.voice.engine]


def train_encoder(
    corpus: Path,
    out: Path,
    recipe: EncoderRecipe,
    *,
    device: str = "cpu",
    log: Callable[[dict[str, float]], None] | None = None,
) -> Path:
    """Trains, or goes on with, the encoder.

    Args:
        corpus: folder made by scripts/make_embedded_corpus.py.
        out: receives `checkpoint.pt`, `log.jsonl` and at the end `speech_encoder/`.
        recipe: what to train.
        device: where.
        log: told each logged line.

    Returns:
        The folder of the finished encoder, readable by `Wav2Vec2Model.from_pretrained`.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    crops = SpeechCrops(load_speech(corpus, "train"), recipe)
    held_out = SpeechCrops(load_speech(corpus, "held-out"), recipe, augment=False)
    model = SpeechTeacher(recipe).to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, recipe.warmup_steps, recipe.steps)
    )
    parts: dict[str, Stateful] = {"model": model, "optimiser": optimiser, "schedule": schedule}
    first = resume_checkpoint(out / "checkpoint.pt", asdict(recipe), parts)
    started = time.time()
    for step, batch in batches(crops.batch, first, recipe.steps):
        samples, phones, curves = (x.to(device) for x in batch)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits, predicted = model(samples)
        loss = _loss(logits.float(), predicted.float(), phones, curves, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % LOG_STEPS == 0 or step + 1 == recipe.steps:
            line = {"step": step + 1, "loss": loss.item(), "seconds": time.time() - started}
            if (step + 1) % CHECKPOINT_STEPS == 0:
                line |= _score(model, held_out, device)
            log_line(out / "log.jsonl", line, log)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == recipe.steps:
            save_checkpoint(out / "checkpoint.pt", asdict(recipe), step + 1, parts)
    model.encoder.save_pretrained(out / "speech_encoder")
    return out / "speech_encoder"


def _loss(logits: Tensor, predicted: Tensor, phones: Tensor, curves: Tensor, recipe: EncoderRecipe) -> Tensor:
    cross_entropy = nn.functional.cross_entropy(
        logits.flatten(0, 1), phones.flatten(), label_smoothing=recipe.label_smoothing
    )
    weight = torch.ones(curves.shape[-1], device=curves.device)
    weight[-1] = 2.0  # the aperture is what a viewer sees first, and lips that fail to meet
    weight[CHANNELS.index("close")] = 2.0
    return cross_entropy + recipe.curve_weight * ((predicted - curves) ** 2 * weight).mean()


@torch.no_grad()
def _score(model: SpeechTeacher, crops: SpeechCrops, device: str, num_batches: int = 6) -> dict[str, float]:
    """Phone accuracy and aperture correlation on voices that were never trained on."""
    model.eval()
    hits, opening = [], []
    for step in range(num_batches):
        samples, phones, curves = (x.to(device) for x in crops.batch(step))
        logits, predicted = model(samples)
        hits.append((logits.argmax(-1) == phones).float().mean().item())
        for p, c in zip(predicted[..., -1], curves[..., -1], strict=True):
            opening.append(torch.corrcoef(torch.stack([p, c]))[0, 1].nan_to_num().item())
    model.train()
    return {"held_out_phone_accuracy": float(np.mean(hits)), "held_out_aperture_r": float(np.mean(opening))}
