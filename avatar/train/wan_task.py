"""A Wan model as something to train: adapters or a LoRA on a frozen backbone, or everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avatar.data.clip_dataset import ClipEntry, ClipStore
from avatar.dit.adapters import AdapterConfig, build_adapter
from avatar.dit.published.loading import Projector
from avatar.dit.published.projectors import PackProjector, SlotProjector, WindowProjector
from avatar.dit.transformer import WAN_TEXT_TOKENS, AvatarTransformer3DModel
from avatar.errors import MissingDependencyError, OptionError
from avatar.train.config import TrainConfig
from avatar.train.noise import add_noise, noise_levels, velocity_weight
from avatar.train.task import Sample
from avatar.types import Conditioning, LatentShape
from avatar.wan.pipeline import WanAvatarPipeline
from avatar.wan.reference import attach_reference, reference_adapters
from avatar.wan.trained_file import LORA_NAME, lora_config, save_trained

_LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")


class WanNetworks(nn.Module):
    """Transformer and audio projector, with the loss as their forward pass.

    Args:
        pipeline: whose networks are trained; its transformer gets the adapters that it lacks.
        config: of the run.

    Raises:
        OptionError: a system that cannot be trained, or a config that does not fit it.
    """

    transformer: AvatarTransformer3DModel
    projector: Projector

    def __init__(self, pipeline: WanAvatarPipeline, config: TrainConfig) -> None:
        super().__init__()
        if pipeline.transformer_2 is not None:
            raise OptionError(f"{pipeline.preset.title} has two transformers, which cannot be trained together here")
        if not isinstance(pipeline.audio_projector, WindowProjector | SlotProjector | PackProjector):
            raise OptionError(f"{pipeline.preset.title}'s projector looks at the noise; it cannot be trained here")
        for name in ("sync_weight", "lip_course_weight"):
            if getattr(config.loss, name) > 0:
                raise OptionError(
                    f"loss.{name} is for the mesh model, whose lips can be read off its latents; set it to 0"
                )
        self.transformer, self.projector = pipeline.transformer, pipeline.audio_projector
        self._config, self._masked, self._stride = config, pipeline.preset.face_mask, pipeline.codec.stride
        if config.model.fresh_audio:
            freshen_audio(self.transformer, self.projector)
        self._choose(config)
        if config.model.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.train()

    def _choose(self, config: TrainConfig) -> None:
        """Freezes what is not trained; what is trained is kept in float32."""
        model = config.model
        there = {values["tokens"] for values in self.transformer.config.adapters}
        missing = set(model.adapters) - there
        if missing:
            raise OptionError(f"model.adapters names {', '.join(sorted(missing))}, which this model does not have")
        if model.train == "lora":
            add_lora(self.transformer, model.lora_rank)
        parts = tuple(f".adapters.{name}." for name in model.adapters)
        for name, value in self.named_parameters():
            chosen = any(part in name for part in parts) or (
                "audio" in model.adapters and name.startswith("projector.")
            )
            wanted = model.train == "all" or chosen or (model.train == "lora" and "lora_" in name)
            value.requires_grad_(wanted)
            if wanted:
                value.data = value.data.float()

    def forward(self, batch: Sample) -> Sample:
        """The loss of every sample (B,) and its parts.

        Source: flow matching, arXiv 2210.02747, eq. 9, with Wan's sign: the velocity is noise - clean.
        """
        options, latents, sigma = self._config.loss, batch["latents"], batch["sigma"]
        noisy = add_noise(latents, batch["noise"], sigma)
        level = 1000 * (sigma if options.chunk_noise else sigma.amax(1))
        dtype = self.transformer.dtype
        told = self._conditioning(batch)
        velocity = self.transformer(noisy.to(dtype), level, told, return_dict=False)[0].float()
        error = (velocity - (batch["noise"] - latents)).square().mean(1)  # (B, F, h, w)
        where = 1 + options.face_weight * batch["face"] + options.lip_weight * batch["lips"]
        where = (where / where.mean(dim=(1, 2), keepdim=True))[:, None]
        is_sample = self.transformer.config.prediction == "sample"
        weight = velocity_weight(sigma, options, predicts_sample=is_sample)
        made = (sigma > 0).sum(1).clamp_min(1)
        loss = (weight * (error * where).mean(dim=(2, 3))).sum(1) / made
        plain = ((sigma > 0) * error.mean(dim=(2, 3))).sum(1) / made
        return {"loss": loss, "flow": plain.detach()}

    def _conditioning(self, batch: Sample) -> Conditioning:
        frames, dtype = batch["latents"].shape[2], self.transformer.dtype
        num_frames = LatentShape(1, frames, 1, 1).num_video_frames(self._stride)
        each = []
        for features in batch["features"]:
            features = features.to(next(self.projector.parameters()).dtype)
            if isinstance(self.projector, SlotProjector | PackProjector):
                each.append(self.projector.audio_tokens([features], num_frames, start=0))
            else:
                each.append(self.projector.audio_tokens([features], num_frames))
        tokens = torch.cat([sound.tokens for sound in each])
        nulls = torch.cat([torch.zeros_like(s.tokens) if s.null is None else s.null for s in each])
        heard = batch["keep_audio"][:, None, None, None, None] > 0
        mask = batch["speaker"][:, None, None].expand(-1, 1, frames, -1, -1).to(dtype)
        references = reference_adapters(self.transformer)
        return Conditioning(
            audio_tokens=torch.where(heard, tokens, nulls).to(dtype),
            audio_lengths=None
            if each[0].lengths is None
            else torch.cat([s.lengths for s in each if s.lengths is not None]),
            face_mask=mask if self._masked else None,
            reference_mask=mask if references else None,
            identity_tokens=batch["identity"].to(dtype) if "identity" in references else None,
            emotion_tokens=batch["emotion"][:, None].expand(-1, frames, -1, -1).to(dtype)
            if "emotion" in references
            else None,
            text_tokens=batch["text"].to(dtype),
            image_tokens=batch["image"].to(dtype) if "image" in batch else None,
            reference_latents=batch["condition"].to(dtype) if "condition" in batch else None,
        )


class WanTask:
    """Implements `Task`.

    Args:
        pipeline: whose networks are trained.
        store: prepared clips.
        clips: which of them.
        config: of the run.
        networks: of another task, so that both share them; None prepares the pipeline's own.
    """

    def __init__(
        self,
        pipeline: WanAvatarPipeline,
        store: ClipStore,
        clips: Sequence[int],
        config: TrainConfig,
        networks: WanNetworks | None = None,
    ) -> None:
        self.networks: WanNetworks = networks or WanNetworks(pipeline, config)
        self._pipeline, self._store, self._config, self.clips = pipeline, store, config, list(clips)
        self._references = reference_adapters(pipeline.transformer)
        if not self.clips:
            raise OptionError(f"{store.folder} has no clip to train on")
        self.entries: list[ClipEntry] = [store.entries[k] for k in self.clips]

    def sample(self, clip: int, rng: np.random.Generator, *, training: bool) -> Sample:
        """See `Task.sample`."""
        drop, data, index = self._config.drop, self._config.data, self.clips[clip]
        names = self._store.names(index)
        window = int(rng.integers(0, self._store.length(index, "latents")))
        begins = "start" if rng.random() < data.start_share else "later"
        hidden = rng.random(4) < (drop.audio, drop.identity, drop.emotion, drop.text)
        if not training:
            hidden[:] = False

        def read(name: str, at: slice | None = None) -> Tensor:
            values = self._store.read(index, name, at).astype(np.float32)
            return torch.from_numpy(values if at is None else values[0])

        one = slice(window, window + 1)
        out = {name: read(name, one) for name in ("latents", "features", "face", "lips", "speaker")}
        if "image" in names:
            out["image"] = read("image", one)
        if f"condition_{begins}" in names:
            out["condition"] = read(f"condition_{begins}", one)
        text = read("text_null" if hidden[3] else "text")
        out["text"] = torch.nn.functional.pad(text, (0, 0, 0, WAN_TEXT_TOKENS - len(text)))
        for name, hide in (("identity", hidden[1]), ("emotion", hidden[2])):
            if name in self._references:
                out[name] = read(name) * (not hide)
        frames = out["latents"].shape[1]
        # where the condition has no place for known frames, they are clean frames of the video itself
        clean = 0 if "condition" in out else 1 if begins == "start" else data.context_frames
        if clean and not self._config.loss.chunk_noise:
            clean = 0
        out["sigma"] = torch.from_numpy(noise_levels(rng, frames, clean, self._config.loss))
        out["noise"] = torch.from_numpy(rng.standard_normal(out["latents"].shape, np.float32))
        out["keep_audio"] = torch.tensor(float(not hidden[0]))
        return out

    def save(self, folder: Path) -> None:
        """What was trained, for `AvatarPipeline.from_pretrained`, which loads the base from where it is."""
        save_trained(self.networks.transformer, self.networks.projector, folder, self._config.model.init)

    def video(self, portrait: Path, speech: Path, out: Path) -> Path:
        """See `Task.video`."""
        self._pipeline.to(self.networks.transformer.device)
        return self._pipeline(portrait, speech).save(out, overwrite=True)


def with_references(pipeline: WanAvatarPipeline, adapters: Sequence[str]) -> WanAvatarPipeline:
    """Gives the transformer fresh identity and emotion adapters, where they are asked for and absent."""
    there = {values["tokens"] for values in pipeline.transformer.config.adapters}
    identity, emotion = (name in adapters and name not in there for name in ("identity", "emotion"))
    if identity or emotion:
        attach_reference(pipeline.transformer, identity=identity, emotion=emotion)
    return pipeline


def freshen_audio(transformer: AvatarTransformer3DModel, projector: nn.Module) -> None:
    """Begins the audio adapter anew: fresh weights, which change nothing yet."""
    (config,) = (AdapterConfig.from_dict(dict(v)) for v in transformer.config.adapters if v["tokens"] == "audio")
    heads = transformer.config.num_attention_heads
    for index in range(len(transformer.blocks)):
        if config.in_block(index):
            fresh = build_adapter(heads * transformer.config.attention_head_dim, heads, config)
            transformer.get_submodule(f"blocks.{index}.adapters.audio").load_state_dict(fresh.state_dict())
    for module in projector.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def add_lora(transformer: AvatarTransformer3DModel, rank: int) -> None:
    """Adds a fresh low-rank difference to attention and feed-forward weights of the base.

    Raises:
        MissingDependencyError: peft is not installed.

    Source: E. Hu et al., arXiv 2106.09685.
    """
    if LORA_NAME in getattr(transformer, "peft_config", {}):
        return
    targets = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".adapters." not in name and name.endswith(_LORA_TARGETS)
    ]
    try:
        transformer.add_adapter(lora_config(rank, targets), adapter_name=LORA_NAME)
    except ImportError as err:
        raise MissingDependencyError('a LoRA needs peft: pip install "avatar[train]"') from err
