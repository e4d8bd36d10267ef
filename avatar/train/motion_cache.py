"""What the generator is trained on, made once: augmented speech with its features, and the motion that goes with it.

Item k is a function of (seed, k) alone, so the cache can be made in pieces, by several processes, and resumed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import Wav2Vec2Model

from avatar.audio.encoder import encode_speech
from avatar.codec.mesh.rig import Rig, default_rig
from avatar.data.synthetic.augment import SPEED_RANGE, change_speed, colour
from avatar.data.synthetic.corpus import SpeechShard, load_speech
from avatar.data.synthetic.faces import random_face
from avatar.data.synthetic.motion import Performance, expression_weights, perform
from avatar.data.synthetic.phones import SILENCE
from avatar.data.synthetic.synthesise import Utterance
from avatar.identity.features import geometry_features
from avatar.types import MODEL_SAMPLE_RATE_HZ, Waveform

ITEMS_PER_SHARD = 100
_MAX_UTTERANCE_S = 12.0
_VOICE_HOURS_WEIGHT = {"espeak": 0.6, "flite": 1.0, "festival": 0.8, "recordings": 1.6}


@dataclass(frozen=True)
class MotionItem:
    """One performance of one utterance.

    Attributes:
        features: (N, D) float16 speech features, 50 Hz.
        weights: (T, P) float16 rig weights, 25 fps.
        rotation: (T, 3) float16 head rotation, radians.
        labels: (8,) emotion weights; NaN where the expression has no name.
        expression: (P_named,) the emotion's expression weights.
        identity: (N_geo, D_in) geometry features of the speaker's face.
    """

    features: np.ndarray
    weights: np.ndarray
    rotation: np.ndarray
    labels: np.ndarray
    expression: np.ndarray
    identity: np.ndarray


class ItemMaker:
    """Makes item k of a split."""

    def __init__(self, corpus: Path, split: str, seed: int) -> None:
        self._shards = load_speech(corpus, split)
        hours = np.array([sum(u.duration_s for u in shard.utterances) for shard in self._shards])
        self._weights = hours * [_VOICE_HOURS_WEIGHT[shard.voice.engine] for shard in self._shards]
        self._weights /= self._weights.sum()
        self._seed = seed
        self._is_training = split == "train"
        self.rig: Rig = default_rig()

    def motion(self, index: int) -> dict[str, np.ndarray]:
        """Everything of an item but its features."""
        rng = self._rng(index, 1)
        face, amplitude = random_face(rng)
        performance = Performance.sample(rng, amplitude)
        motion = perform(self._utterance(index), self.rig, performance, rng)
        labels = np.array(performance.emotion, np.float32)
        if performance.expression:  # it has no name
            labels[:] = np.nan
        return {
            "weights": motion.weights.astype(np.float16),
            "rotation": motion.rotation.astype(np.float16),
            "labels": labels,
            "expression": expression_weights(performance, self.rig)[: self.rig.num_named],
            "identity": geometry_features(face),
        }

    @torch.no_grad()
    def features(self, index: int, encoder: Wav2Vec2Model) -> np.ndarray:
        """(N, D) float16 features of the item's speech as a microphone would have heard it."""
        return torch.cat(list(encode_speech(encoder, self.heard(index)))).numpy().astype(np.float16)

    def heard(self, index: int) -> Waveform:
        """The item's speech as a microphone would have heard it, with its silences gated."""
        utterance = self._utterance(index)
        rng = self._rng(index, 2)
        samples = utterance.samples.astype(np.float32) / 32768
        if self._is_training:
            samples = colour(samples, rng, self._somebody_else(rng, len(samples))) * 0.1
            samples *= _gate(utterance)  # in silence the pipeline feeds digital zeros
        return Waveform(samples)

    def _utterance(self, index: int) -> Utterance:
        """A sentence at a changed speed, with silence before and after."""
        rng = self._rng(index, 0)
        shard: SpeechShard = self._shards[rng.choice(len(self._shards), p=self._weights)]
        utterance = shard.utterances[rng.integers(len(shard.utterances))]
        factor = rng.uniform(*SPEED_RANGE) if self._is_training else 1.0
        samples = change_speed(utterance.samples.astype(np.float32) / 32768, factor)[
            : int(_MAX_UTTERANCE_S * MODEL_SAMPLE_RATE_HZ)
        ]
        ends = utterance.ends_s / factor
        keep = ends <= len(samples) / MODEL_SAMPLE_RATE_HZ + 0.01
        lead_s, tail_s = (rng.exponential(0.5), rng.exponential(0.9)) if self._is_training else (0.2, 0.2)
        lead, tail = int(lead_s * MODEL_SAMPLE_RATE_HZ), int(tail_s * MODEL_SAMPLE_RATE_HZ)
        padded = np.pad((samples.clip(-1, 1) * 32767).astype(np.int16), (lead, tail))
        phones = np.concatenate([[SILENCE], utterance.phones[keep], [SILENCE]]).astype(np.int16)
        times = np.concatenate([[lead_s], ends[keep] + lead_s, [len(padded) / MODEL_SAMPLE_RATE_HZ]]).astype(np.float32)
        return Utterance(padded, phones, times, utterance.text)

    def _somebody_else(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        shard = self._shards[rng.integers(len(self._shards))]
        samples = shard.utterances[rng.integers(len(shard.utterances))].samples.astype(np.float32) / 32768
        return np.resize(samples, num_samples)

    def _rng(self, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, int(self._is_training), index, purpose))


def _gate(utterance: Utterance) -> np.ndarray:
    """0 in silences of 0.4 s and more, 1 elsewhere, as `audio.voice_activity` would have it."""
    gate = np.ones(len(utterance.samples), np.float32)
    starts = np.concatenate([[0.0], utterance.ends_s[:-1]])
    for phone, start, end in zip(utterance.phones, starts, utterance.ends_s, strict=True):
        if phone == SILENCE and end - start > 0.4:
            low, high = (int((t) * MODEL_SAMPLE_RATE_HZ) for t in (start + 0.15, end - 0.1))
            gate[low:high] = 0
    gate[int(utterance.ends_s[-1] * MODEL_SAMPLE_RATE_HZ) :] = 0
    return gate


def make_motion_shard(maker: ItemMaker, out: Path, shard: int) -> None:
    """Writes the motions of one shard, unless they are there."""
    _write(out / f"motion-{shard:04d}.npz", [maker.motion(k) for k in _items(shard)])


def make_feature_shard(maker: ItemMaker, encoder: Wav2Vec2Model, out: Path, shard: int) -> None:
    """Writes the features of one shard, unless they are there."""
    _write(out / f"features-{shard:04d}.npz", [{"features": maker.features(k, encoder)} for k in _items(shard)])


def prepare(
    corpus: Path,
    encoder: Wav2Vec2Model,
    out: Path,
    split: str,
    num_shards: int,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    """Makes what is missing of a split's cache.

    Args:
        corpus: folder of the synthetic speech.
        encoder: the trained speech encoder.
        out: folder of the cache.
        split: `"train"` or `"held-out"`.
        num_shards: of `ITEMS_PER_SHARD` items each.
        seed: of the whole cache.
        progress: told the fraction done.
    """
    out.mkdir(parents=True, exist_ok=True)
    maker: ItemMaker | None = None
    for shard in range(num_shards):
        for name in ("motion", "features"):
            if (out / f"{name}-{shard:04d}.npz").exists():
                continue
            maker = maker or ItemMaker(corpus, split, seed)
            if name == "motion":
                make_motion_shard(maker, out, shard)
            else:
                make_feature_shard(maker, encoder, out, shard)
        progress((shard + 1) / num_shards)


def load_items(folder: Path, num_shards: int) -> list[MotionItem]:
    """Reads a finished cache."""
    items = []
    for shard in range(num_shards):
        motions = _read(folder / f"motion-{shard:04d}.npz")
        features = _read(folder / f"features-{shard:04d}.npz")
        items += [MotionItem(**motion, **feature) for motion, feature in zip(motions, features, strict=True)]
    return items


def _items(shard: int) -> range:
    return range(shard * ITEMS_PER_SHARD, (shard + 1) * ITEMS_PER_SHARD)


def _write(path: Path, items: list[dict[str, np.ndarray]]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez(file, **{f"{k}.{name}": value for k, item in enumerate(items) for name, value in item.items()})
    temporary.replace(path)


def _read(path: Path) -> list[dict[str, np.ndarray]]:
    items: list[dict[str, np.ndarray]] = [{} for _ in range(ITEMS_PER_SHARD)]
    with np.load(path) as data:
        for key in data.files:
            k, name = key.split(".")
            items[int(k)][name] = data[key]
    return items
