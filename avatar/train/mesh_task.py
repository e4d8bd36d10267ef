"""The embedded model as something to train: crops of tracked faces and their sound, and the loss on geometry latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avatar.audio.alignment import audio_windows, first_feature, window_length
from avatar.audio.projector import AudioProjector
from avatar.codec.mesh.bases import GROUP_FRAMES
from avatar.codec.mesh.codec import MeshCodec
from avatar.codec.mesh.latent import LATENT_GRID, GeometryLatent
from avatar.data.clip_dataset import ClipEntry, ClipStore
from avatar.dit.transformer import AvatarTransformer3DModel
from avatar.emotion.labels import EMOTIONS, shapes_of
from avatar.emotion.tokens import EmotionEncoder
from avatar.errors import OptionError
from avatar.identity.tokens import IdentityEncoder
from avatar.pipeline import AvatarPipeline
from avatar.train.config import TrainConfig
from avatar.train.generator import FEATURES_PER_VIDEO_FRAME, Generator, GeneratorRecipe, LipGap
from avatar.train.mesh_sync import SyncTerm, validation_sync
from avatar.train.noise import add_noise, noise_levels, velocity_weight
from avatar.train.task import Sample
from avatar.types import Conditioning

NETWORKS = ("transformer", "audio_projector", "identity_encoder", "emotion_encoder")
_TOKENS_OF = {"audio_projector": "audio", "identity_encoder": "identity", "emotion_encoder": "emotion"}
_CLOSED = 0.15  # lip gap, canonical units
_STILL = 1e-4  # of a product of sums of squared gaps: lips that do not move have no course


def fresh_networks(config: TrainConfig, feature_dim: int) -> dict[str, nn.Module]:
    """Networks of the sizes that the config asks for, by the pipeline's names for them."""
    model = config.model
    recipe = GeneratorRecipe(
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        ffn_dim=model.ffn_dim,
        token_dim=model.token_dim,
        feature_dim=feature_dim,
    )
    return Generator(recipe).components()


class MeshNetworks(nn.Module):
    """The pipeline's trained networks, with the loss as their forward pass.

    Args:
        networks: by the names in `NETWORKS`.
        config: of the run.
    """

    transformer: AvatarTransformer3DModel
    audio_projector: AudioProjector
    identity_encoder: IdentityEncoder
    emotion_encoder: EmotionEncoder

    def __init__(self, networks: Mapping[str, nn.Module], config: TrainConfig) -> None:
        super().__init__()
        for name in NETWORKS:
            setattr(self, name, networks[name].train())
        self._config = config
        self.lips = LipGap(GeometryLatent())
        margin = self.audio_projector.config.margin_features
        self.sync = SyncTerm(margin) if config.loss.sync_weight > 0 else None
        if config.model.train == "lora":
            raise OptionError('model.train = "lora" is for wan; the mesh model is small: train "all" or "adapters"')
        if config.model.train == "adapters":
            freeze_all_but_adapters(self, config.model.adapters)
        if config.model.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()

    def forward(self, batch: Sample) -> Sample:
        """The loss of every sample (B,) and its parts.

        Source: arXiv 2210.02747, eq. 9; the error of the lips' opening as in `avatar.train.generator`.
        """
        options, latents, sigma = self._config.loss, batch["latents"], batch["sigma"]
        noisy = add_noise(latents, batch["noise"], sigma)
        frames = latents.shape[2]
        audio = self.audio_projector(batch["windows"])[:, None] * batch["keep_audio"][:, None, None, None, None]
        emotion = self.emotion_encoder(
            batch["labels"][:, None].expand(-1, frames, -1), batch["expression"][:, None].expand(-1, frames, -1)
        )
        conditioning = Conditioning(
            audio_tokens=audio,
            face_mask=MeshCodec.face_mask(frames).to(latents).expand(len(latents), 1, -1, -1, -1),
            identity_tokens=self.identity_encoder(batch["identity"]),
            emotion_tokens=emotion,
        )
        velocity = self.transformer(noisy, 1000 * sigma, conditioning, return_dict=False)[0].float()
        is_sample = self.transformer.config.prediction == "sample"
        weight = velocity_weight(sigma, options, predicts_sample=is_sample)
        made = (sigma > 0).sum(1).clamp_min(1)
        level = sigma[:, None, :, None, None]
        predicted = noisy - level * velocity
        scale = weight / sigma.clamp_min(1e-4) ** 2  # from an error of the sample to one of the velocity
        flow = (scale * (predicted - latents).square().mean(dim=(1, 3, 4))).sum(1) / made
        gap, true_gap = self.lips(predicted), self.lips(latents)
        closed = 1 + options.closure_weight * (true_gap < _CLOSED)
        lips = (scale * ((gap - true_gap).square() * closed).mean(-1)).sum(1) / made
        parts = {"loss": flow + options.lip_weight * lips, "flow": flow.detach(), "lips": lips.detach()}
        if options.lip_course_weight > 0:
            course = course_error(gap, true_gap, sigma) * batch["keep_audio"]
            parts["loss"] = parts["loss"] + options.lip_course_weight * course
            parts["lip_course"] = course.detach()
        sync = self._sync_of(predicted, batch["windows"])
        if sync is not None:
            parts["sync"] = sync.detach()
        if sync is not None and options.sync_weight > 0:
            parts["loss"] = parts["loss"] + options.sync_weight * sync
        return parts

    def _sync_of(self, predicted: Tensor, windows: Tensor) -> Tensor | None:
        """(B,) the sync scorer's loss, where it is trained on, and in validation wherever the scorer can tell."""
        term = self.sync
        if term is None and not self.training:
            term = validation_sync(self.audio_projector.config.margin_features, predicted.device)
            term = term if term is not None and term.can_judge(predicted, windows) else None
        return None if term is None else term(predicted, windows)


def course_error(gap: Tensor, true_gap: Tensor, sigma: Tensor) -> Tensor:
    """(B,) how little the lips' opening goes with the true one over the noisy frames: (1 - Pearson's r) of the video frames.

    Args:
        gap, true_gap: (B, F, 36), of `LipGap`.
        sigma: (B, F) noise levels; the highest of a sample weighs its error, since with little noise the answer is in sight.
    """
    noisy = (sigma > 0).float().repeat_interleave(GROUP_FRAMES, dim=1)
    count = noisy.sum(1, keepdim=True).clamp_min(1)

    def varying(opening: Tensor) -> Tensor:
        each = opening.unflatten(2, (GROUP_FRAMES, -1)).mean(-1).flatten(1)
        return (each - (each * noisy).sum(1, keepdim=True) / count) * noisy

    made, true = varying(gap), varying(true_gap)
    r = (made * true).sum(1) / (made.square().sum(1) * true.square().sum(1) + _STILL).sqrt()
    return (1 - r) * sigma.amax(1)


def freeze_all_but_adapters(networks: nn.Module, adapters: tuple[str, ...]) -> None:
    """Only the named adapters, and what makes their tokens, keep gradients.

    Raises:
        OptionError: a name that no part of the networks has.
    """
    parts = tuple(f".adapters.{name}." for name in adapters)
    makers = tuple(f"{maker}." for maker, tokens in _TOKENS_OF.items() if tokens in adapters)
    for name, value in networks.named_parameters():
        value.requires_grad_(
            any(part in name for part in parts) or name.startswith(makers)
        )  # the sync model stays frozen
    for adapter, part in zip(adapters, parts, strict=True):
        if not any(part in name for name, _ in networks.named_parameters()):
            raise OptionError(f"model.adapters names {adapter!r}, which this model does not have")


class MeshTask:
    """Implements `Task`.

    Args:
        pipeline: whose networks are trained.
        store: prepared clips.
        clips: which of them.
        config: of the run.
        networks: of another task, so that both share them; None prepares the pipeline's own.

    Raises:
        OptionError: no clip is as long as a crop.
    """

    def __init__(
        self,
        pipeline: AvatarPipeline,
        store: ClipStore,
        clips: Sequence[int],
        config: TrainConfig,
        networks: MeshNetworks | None = None,
    ) -> None:
        self.networks: MeshNetworks = networks or MeshNetworks({n: getattr(pipeline, n) for n in NETWORKS}, config)
        self._pipeline, self._config, self._store = pipeline, config, store
        self._margin = pipeline.audio_projector.config.margin_features
        self.clips = long_enough(store, clips, config)
        self.entries: list[ClipEntry] = [store.entries[k] for k in self.clips]

    def sample(self, clip: int, rng: np.random.Generator, *, training: bool) -> Sample:
        """See `Task.sample`."""
        data, drop, index = self._config.data, self._config.drop, self.clips[clip]
        entry, frames = self.entries[clip], data.latent_frames
        is_start = bool(rng.random() < data.start_share)
        length = 1 + GROUP_FRAMES * (frames - 1 if is_start else frames)
        begin = int(rng.integers(0, entry.num_frames - length + 1))
        latents = self._latents(index, begin, frames, is_start)
        windows = self._windows(index, begin, frames, is_start, rng if training else None)
        clean = 1 if is_start else int(rng.integers(1, data.context_frames + 1))
        sigma = noise_levels(rng, frames, clean, self._config.loss)
        noise = rng.standard_normal(latents.shape, np.float32)
        hidden = rng.random(4) < (drop.audio, drop.identity, drop.emotion, drop.emotion)
        if not training:
            hidden[:] = False
        labels = emotion_weights(entry)
        expression = np.zeros(0, np.float32) if labels is None else MeshCodec.felt_weights(shapes_of(labels.tolist()))
        identity = self._store.read(index, "identity").astype(np.float32)
        return {
            "latents": torch.from_numpy(latents),
            "windows": windows,
            "labels": _known_or_nan(labels, len(EMOTIONS), bool(hidden[2])),
            "expression": _known_or_nan(expression, _num_shapes(), bool(hidden[3]) or labels is None),
            "identity": torch.from_numpy(identity * (not hidden[1])),
            "keep_audio": torch.tensor(float(not hidden[0])),
            "sigma": torch.from_numpy(sigma),
            "noise": torch.from_numpy(noise),
        }

    def _latents(self, index: int, begin: int, frames: int, is_start: bool) -> np.ndarray:
        """(16, F, 4, 4) of the crop; groups of four frames are kept at all four phases."""
        phase, first = (begin + 1) % GROUP_FRAMES, (begin + 1) // GROUP_FRAMES
        groups = self._store.read(index, f"groups{phase}", slice(first, first + frames - is_start))
        if is_start:
            groups = np.concatenate([self._store.read(index, "singles", slice(begin, begin + 1)), groups])
        return np.ascontiguousarray(groups.astype(np.float32).reshape(frames, -1, *LATENT_GRID).swapaxes(0, 1))

    def _windows(self, index: int, begin: int, frames: int, is_start: bool, rng: np.random.Generator | None) -> Tensor:
        """(F, M, D) of one of the clip's versions of the sound; the clean one where there is no chance."""
        variants = self._config.data.speech_variants
        name = f"features{rng.integers(0, variants + 1) if rng is not None and variants else 0}"
        start = 0 if is_start else 1
        shift = begin * FEATURES_PER_VIDEO_FRAME
        low = first_feature(start, GROUP_FRAMES, self._margin) + shift
        per_frame = window_length(GROUP_FRAMES, self._margin) - 2 * self._margin
        high = low + per_frame * (frames - 1) + window_length(GROUP_FRAMES, self._margin)
        low = max(0, low)
        features = torch.from_numpy(self._store.read(index, name, slice(low, max(low, high))).astype(np.float32))
        return audio_windows(
            features,
            start,
            start + frames,
            temporal_stride=GROUP_FRAMES,
            margin_features=self._margin,
            offset=low - shift,
        )

    def save(self, folder: Path) -> None:
        """The whole pipeline, for `AvatarPipeline.from_pretrained`."""
        self._pipeline.save_pretrained(folder)

    def video(self, portrait: Path, speech: Path, out: Path) -> Path:
        """See `Task.video`."""
        self._pipeline.to(self.networks.transformer.device)
        return self._pipeline(portrait, speech).save(out, overwrite=True)


def crop_frames(config: TrainConfig) -> int:
    """Video frames that a clip must have for a crop to fit, wherever it begins."""
    return 1 + GROUP_FRAMES * (config.data.latent_frames + 1)


def long_enough(store: ClipStore, clips: Sequence[int], config: TrainConfig) -> list[int]:
    """Those of some clips that a crop fits into.

    Raises:
        OptionError: there is none.
    """
    need = crop_frames(config)
    kept = [k for k in clips if store.entries[k].num_frames >= need]
    if not kept:
        raise OptionError(
            f"no clip of {store.folder} is as long as a crop ({need} frames, {need / MeshCodec.fps:.1f} s); use longer clips, "
            "or a smaller data.latent_frames"
        )
    return kept


def emotion_weights(entry: ClipEntry) -> np.ndarray | None:
    """(8,) float32 weights of `EMOTIONS`; None where the emotion is not known or has another name."""
    told = entry.labels.get("emotion")
    if not told:
        return None
    weights = np.zeros(len(EMOTIONS), np.float32)
    for name, share in ({told: 1.0} if isinstance(told, str) else told).items():
        if name in EMOTIONS:
            weights[EMOTIONS.index(name)] = share
    return weights / weights.sum() if weights.sum() > 0 else None


def _known_or_nan(values: np.ndarray | None, size: int, hide: bool) -> Tensor:
    return (
        torch.full((size,), float("nan"))
        if hide or values is None
        else torch.from_numpy(np.asarray(values, np.float32))
    )


def _num_shapes() -> int:
    return len(MeshCodec.felt_weights({}))
