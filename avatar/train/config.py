"""A training run as data: what can be set, with its defaults."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from avatar.errors import OptionError

_POSITIVE = (1, math.inf, "1 or more")
_NOT_NEGATIVE = (0, math.inf, "0 or more")
_SHARE = (0, 1, "a share between 0 and 1")
_RANGES: dict[str, tuple[float, float, str]] = {  # least, largest, in words
    **dict.fromkeys(
        [f"loop.{name}" for name in ("steps", "batch_size", "accumulate", "checkpoint_steps", "held_out_steps",
                                     "held_out_clips", "log_steps")]
        + ["model.lora_rank", "model.num_layers", "model.ffn_dim", "model.token_dim", "model.hidden_size", "balance.cap"],
        _POSITIVE,
    ),
    **dict.fromkeys(
        ["loop.seed", "loop.keep_checkpoints", "data.speech_variants", "balance.thin", "balance.epoch_draws",
         "balance.dynamic_rate", "loss.std", "loss.chunk_noise", "loss.min_snr_gamma", "loss.min_sigma", "loss.lip_weight",
         "loss.closure_weight", "loss.face_weight", "loss.lip_course_weight", "loss.sync_weight",
         "optimiser.weight_decay", "optimiser.warmup_steps", "optimiser.clip_norm", "log.sample_steps"],
        _NOT_NEGATIVE,
    ),
    **dict.fromkeys(["data.held_out_share", "data.start_share", "balance.anneal", "optimiser.towards_start"], _SHARE),
    "loop.workers": (-1, math.inf, "a number of processes, or -1 to be chosen"),
    "data.size_px": (32, math.inf, "32 or more"),
    "loss.shift": (1e-6, math.inf, "above 0"),
    "optimiser.learning_rate": (1e-12, 1, "above 0 and at most 1"),
}  # fmt: skip
_FREE = ("loop.workers", "log", "data.cache", "loop.keep_checkpoints")  # may change when a run goes on


@dataclass(frozen=True)
class ModelOptions:
    """What is trained.

    Attributes:
        kind: `"mesh"`: the embedded model, the movement of a face; `"wan"`: a Wan model, pixels.
        init: `"scratch"`, a preset's name, or a folder that was trained. For wan a published preset, or a folder with its files,
            as `--preset` takes it.
        train: `"all"` weights; `"adapters"` alone, or `"lora"` besides them, on a frozen backbone.
        adapters: which adapters; of those a model that is trained whole has all.
        speech_encoder: a preset or folder whose speech encoder makes the features; it is not trained.
        hidden_size, num_layers, ffn_dim, token_dim: sizes, from scratch only (mesh).
        fresh_audio: whether the published audio adapter is forgotten and begun anew (wan).
        lora_rank: of the difference to attention and feed-forward weights.
        gradient_checkpointing: a third more time for much less memory.
    """

    kind: Literal["mesh", "wan"] = "mesh"
    init: str = "scratch"
    train: Literal["all", "adapters", "lora"] = "all"
    adapters: tuple[str, ...] = ("audio", "identity", "emotion")
    speech_encoder: str = "embedded"
    hidden_size: int = 256
    num_layers: int = 6
    ffn_dim: int = 768
    token_dim: int = 192
    fresh_audio: bool = False
    lora_rank: int = 16
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class DataOptions:
    """Which clips, and what of them.

    Attributes:
        sources: folders that `avatar curate` exported, or of videos.
        held_out: likewise, for validation; empty takes the rows of `split = "val"`, or else `held_out_share` of the people.
        held_out_share: see `held_out`.
        cache: where latents, features and tokens are kept; relative to the run's folder.
        latent_frames: of a training crop.
        context_frames: clean latent frames a later chunk begins with, at most.
        start_share: crops that begin with a single picture, as a video does.
        head: of the head's own movement: `"none"`, `"nods"` (what is faster than half a second) or `"all"`.
        align_sound: whether sound that is up to 6 frames off its lips is moved, as the sync scorer hears it (mesh).
        speech_variants: how many differently augmented versions of the sound are cached besides the clean one.
        size_px: longer side of the pictures (wan).
        prompt: what a clip without a caption shows (wan).
    """

    sources: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    held_out_share: float = 0.1
    cache: str = "cache"
    latent_frames: int = 16
    context_frames: int = 4
    start_share: float = 0.35
    head: Literal["none", "nods", "all"] = "nods"
    align_sound: bool = True
    speech_variants: int = 0
    size_px: int = 512
    prompt: str = "A person speaks to the camera."


@dataclass(frozen=True)
class BalanceOptions:
    """Which clips are drawn how often; see docs/training.md.

    Attributes:
        by: labels to balance by; empty for natural sampling.
        beta: of the effective number; -1 chooses it from the cells' sizes.
        cap: no clip is drawn more than this many times as often as by natural sampling.
        thin: cells of fewer clips borrow from their margins.
        anneal: shares of the run between which natural sampling gives way to balanced sampling; [1, 1] never does.
        epoch_draws: draws between two re-weightings and reports; 0 chooses: a twentieth of the run, in whole passes if it can be.
        dynamic_rate: how fast cells with a high validation loss gain weight; 0 for not.
        dynamic_ceiling: by how much at most.
        loss: whether the loss, too, is weighted by the effective number, with a mean of 1.
    """

    by: tuple[str, ...] = ("emotion", "ethnicity")
    beta: float = -1.0
    cap: float = 10.0
    thin: float = 20.0
    anneal: tuple[float, float] = (0.0, 0.3)
    epoch_draws: int = 0
    dynamic_rate: float = 0.0
    dynamic_ceiling: float = 4.0
    loss: bool = False


@dataclass(frozen=True)
class LossOptions:
    """The loss and what noise it is taken at.

    Attributes:
        timesteps: `"logit_normal"`: a sigmoid of a normal; `"uniform"`; both then shifted.
        mean, std: of the normal.
        shift: towards much noise, as the backbone's sampler does; 1 for not.
        chunk_noise: latent frames that share a noise level, after the clean ones; 0 for one level throughout
            (diffusion forcing, arXiv 2407.01392).
        weighting: `"none"`: flow matching's own, an error of velocity weighs the same at every level; `"min_snr"`: arXiv
            2303.09556.
        min_snr_gamma: its cap.
        min_sigma: noise levels below it weigh no more (networks that predict the sample).
        lip_weight: of the error of the lips' opening (mesh), or of the loss on the lips (wan).
        closure_weight: how much more that counts where the lips are closed (mesh).
        face_weight: of the loss on the face (wan).
        lip_course_weight: of 1 - r, r the correlation of the lips' opening with the tracked one over what is made of a crop: how
            far somebody opens the mouth does not count there, only when (mesh).
        sync_weight: of the sync scorer's loss; 0 for none (mesh).
    """

    timesteps: Literal["logit_normal", "uniform"] = "logit_normal"
    mean: float = 0.5
    std: float = 1.2
    shift: float = 1.0
    chunk_noise: int = 0
    weighting: Literal["none", "min_snr"] = "none"
    min_snr_gamma: float = 5.0
    min_sigma: float = 0.25
    lip_weight: float = 0.5
    closure_weight: float = 4.0
    face_weight: float = 0.0
    lip_course_weight: float = 0.0
    sync_weight: float = 0.0


@dataclass(frozen=True)
class DropOptions:
    """How often each condition is withheld, for guidance, independently of the others."""

    audio: float = 0.1
    identity: float = 0.1
    emotion: float = 0.35
    text: float = 0.1


@dataclass(frozen=True)
class OptimiserOptions:
    """AdamW with a warm-up.

    Attributes:
        learning_rate, weight_decay, beta1, beta2: of AdamW.
        warmup_steps: of the learning rate.
        schedule: after the warm-up: `"cosine"` to 2 %, `"linear"` to 0, or `"constant"`.
        clip_norm: of the gradient.
        ema_decay: of the averaged weights, which are the ones that are saved; 0 for none.
        towards_start: how far the saved weights lie back towards those the run began with, 0 to 1: with little footage a
            model that goes part of the way moves its mouth more like people do whom it has not seen (docs/training.md).
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    warmup_steps: int = 200
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    towards_start: float = 0.0


@dataclass(frozen=True)
class LoopOptions:
    """How long, how large, how often.

    Attributes:
        seed: of everything.
        steps: optimiser steps.
        batch_size: clips at a time on each process.
        accumulate: batches of a step.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"`; `"auto"` is bf16 on an accelerator and no on a CPU.
        workers: processes that make batches; -1 chooses.
        checkpoint_steps, held_out_steps: how often the run is saved, and validated.
        keep_checkpoints: how many of them stay; 0 for all.
        held_out_clips: of validation, as evenly over the cells as there are clips.
        log_steps: over which figures are averaged.
    """

    seed: int = 0
    steps: int = 4000
    batch_size: int = 16
    accumulate: int = 1
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    workers: int = -1
    checkpoint_steps: int = 250
    held_out_steps: int = 250
    keep_checkpoints: int = 2
    held_out_clips: int = 64
    log_steps: int = 50


@dataclass(frozen=True)
class LogOptions:
    """Where figures go.

    Attributes:
        trackers: `"auto"`: TensorBoard where it is installed; else names: `tensorboard`, `wandb`. `log.jsonl` is always written.
        project: name of the project for trackers.
        sample_steps: how often sample videos are made; 0 for never.
        sample_portrait, sample_speech: of what; files.
    """

    trackers: tuple[str, ...] = ("auto",)
    project: str = "avatar"
    sample_steps: int = 0
    sample_portrait: str = ""
    sample_speech: str = ""


@dataclass(frozen=True)
class TrainConfig:
    """A run.

    Attributes:
        out: its folder.
    """

    out: str = "run"
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    balance: BalanceOptions = field(default_factory=BalanceOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    drop: DropOptions = field(default_factory=DropOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    log: LogOptions = field(default_factory=LogOptions)

    def __post_init__(self) -> None:
        for name, value in self.flat().items():
            if name in _RANGES:
                low, high, words = _RANGES[name]
                for item in value if isinstance(value, tuple) else (value,):
                    if not low <= item <= high:
                        raise OptionError(f"{name} must be {words}, not {item}")
        for name, share in dataclasses.asdict(self.drop).items():
            if not 0 <= share <= 1:
                raise OptionError(f"drop.{name} is a share between 0 and 1, not {share}")
        if not 1 <= self.data.context_frames < self.data.latent_frames:
            raise OptionError(
                f"data.context_frames must lie between 1 and data.latent_frames - 1, not {self.data.context_frames} "
                f"of {self.data.latent_frames}"
            )
        if self.balance.beta != -1 and not 0 <= self.balance.beta <= 1:
            raise OptionError(f"balance.beta must lie between 0 and 1, or be -1 to be chosen, not {self.balance.beta}")
        if self.balance.anneal[0] > self.balance.anneal[1]:
            raise OptionError(
                f"balance.anneal is a beginning and an end, in this order, not {list(self.balance.anneal)}"
            )
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= getattr(self.optimiser, name) < 1:
                raise OptionError(f"optimiser.{name} must lie in [0, 1), not {getattr(self.optimiser, name)}")

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted name."""
        return {
            (f"{name}.{key}" if isinstance(value, dict) else name): (item if isinstance(value, dict) else value)
            for name, value in dataclasses.asdict(self).items()
            for key, item in (value.items() if isinstance(value, dict) else [("", None)])
        }

    def deciding(self) -> dict[str, Any]:
        """The values that decide the result; the others may change when a run goes on."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.flat().items()
            if name != "out" and not any(name == free or name.startswith(free + ".") for free in _FREE)
        }
