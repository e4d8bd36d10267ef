"""A config to a run: the model to begin with, its prepared clips, and the trainer."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from avatar.data.clip_dataset import ClipStore, split_entries
from avatar.data.sampling.report import plot_reports, read_reports
from avatar.errors import InputError, OptionError, OutputError
from avatar.media.files import check_file
from avatar.pipeline import AvatarPipeline
from avatar.train.config import TrainConfig
from avatar.train.loop import Reports, Trainer, make_accelerator
from avatar.train.mesh_task import MeshTask, crop_frames, fresh_networks, long_enough
from avatar.train.prepare import Preparer, prepare_clips
from avatar.train.prepare_mesh import MeshPreparer
from avatar.train.prepare_wan import WanPreparer
from avatar.train.run_folder import RunFolder
from avatar.train.task import Task
from avatar.train.wan_task import WanTask, with_references
from avatar.wan.pipeline import WanAvatarPipeline

Progress = Callable[[int, int], None]


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    reports: Reports | None = None,
    preparing: Progress | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Prepares what is not prepared, and trains.

    Args:
        config: of the run.
        resume: go on with the run that is there.
        reports: who is told while it trains.
        preparing: told how many clips are prepared, and of how many.
        accelerator: None makes one as the config says.

    Returns:
        The folder of the trained model, for `AvatarPipeline.from_pretrained`.

    Raises:
        InputError: clips or weights that cannot be used.
        OutputError: the run's folder cannot be made.
        OptionError: a config that does not fit itself, the clips, or the run that is there.
    """
    check_config(config)
    folder = RunFolder(config.out)
    if not resume:
        folder.check_new()
    accelerator = accelerator or make_accelerator(config)
    torch.manual_seed(config.loop.seed)  # fresh weights, the same on every process
    pipeline = starting_pipeline(config)
    with accelerator.main_process_first():
        stores = prepare(config, preparing if accelerator.is_main_process else None)
    if reports and reports.left_out and accelerator.is_main_process:
        reports.left_out(left_out(config, *stores))
    task, held_out = make_tasks(config, pipeline, stores)
    trainer = Trainer(task, held_out, config, reports, accelerator)
    accelerator.init_trackers(config.log.project, {k: str(v) for k, v in config.flat().items()})
    try:
        model = trainer.run(resume=resume)
    finally:
        accelerator.end_training()
    if accelerator.is_main_process:
        plot_balance(trainer.folder.folder)
    return model


def plot_balance(run: Path) -> Path | None:
    """Draws `balance.png` of what a run's `balance.jsonl` holds; None where there is nothing, or matplotlib is not installed."""
    reports = read_reports(run / "balance.jsonl")
    if not reports or find_spec("matplotlib") is None:
        return None
    return plot_reports(reports, run / "balance.png")


def prepare(config: TrainConfig, progress: Progress | None = None) -> tuple[ClipStore, ClipStore | None]:
    """Prepares the clips of a run; what is done already is not done again.

    Returns:
        The clips of `data.sources` and those of `data.held_out`, None where that names no folder.
    """
    folder = cache_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"{folder}, where prepared clips are kept, cannot be made: {err.strerror}; choose another folder (out, data.cache)"
        ) from err

    def maker() -> Preparer:
        if config.model.kind == "wan":
            return WanPreparer(wan_pipeline(config), config)
        return MeshPreparer(_speech_pipeline(config).speech_encoder, config.data)

    store = prepare_clips(config.data.sources, folder / "clips", maker, progress)
    if not config.data.held_out:
        return store, None
    return store, prepare_clips(config.data.held_out, folder / "held_out", maker, progress)


def left_out(config: TrainConfig, *stores: ClipStore | None) -> dict[str, str]:
    """Clips that are not trained on, each with the reason: they cannot be used, or no crop fits into them."""
    out: dict[str, str] = {}
    for store in filter(None, stores):
        out |= store.refused
        if config.model.kind == "mesh":
            need = crop_frames(config)
            out |= {
                entry.clip_id: f"it has {entry.num_frames} frames; a crop has up to {need} (data.latent_frames)"
                for entry in store.entries
                if entry.num_frames < need
            }
    return out


def make_tasks(
    config: TrainConfig, pipeline: AvatarPipeline | WanAvatarPipeline, stores: tuple[ClipStore, ClipStore | None]
) -> tuple[Task, Task | None]:
    """The training clips and those of validation, as `prepare` gives them, with the same networks."""
    store, other = stores[0], stores[0] if stores[1] is None else stores[1]
    if stores[1] is not None:
        training, held_out = list(range(len(store))), list(range(len(other)))
    else:
        usable = list(range(len(store)))
        if isinstance(pipeline, AvatarPipeline):
            usable = long_enough(store, usable, config)
        split = split_entries([store.entries[k] for k in usable], config.data.held_out_share, config.loop.seed)
        training, held_out = ([usable[k] for k in part] for part in split)
    if isinstance(pipeline, AvatarPipeline):
        task = MeshTask(pipeline, store, training, config)
        return task, MeshTask(pipeline, other, held_out, config, task.networks) if held_out else None
    wan = WanTask(pipeline, store, training, config)
    return wan, WanTask(pipeline, other, held_out, config, wan.networks) if held_out else None


def starting_pipeline(config: TrainConfig) -> AvatarPipeline | WanAvatarPipeline:
    """The pipeline whose networks are trained."""
    if config.model.kind == "wan":  # accelerate brings to the device what is trained, and nothing else
        return wan_pipeline(config, device="cpu", memory="fast")
    if config.model.init != "scratch":
        return _loaded(config.model.init)
    speech = _speech_pipeline(config)
    networks = fresh_networks(config, speech.speech_encoder.config.hidden_size)
    return AvatarPipeline(codec=speech.codec, speech_encoder=speech.speech_encoder, **networks)  # type: ignore[arg-type]


def wan_pipeline(config: TrainConfig, **where: Any) -> WanAvatarPipeline:
    """The published system to begin with, with the adapters that are asked for.

    Args:
        config: of the run.
        where: `device` and `memory`, as `avatar.hub.load.load_published` takes them.

    Raises:
        OptionError: a preset of another kind.
    """
    if config.model.init in ("scratch", "embedded"):
        raise OptionError(
            'model.kind = "wan" needs model.init: a published preset (see avatar presets), or a folder of one'
        )
    pipeline = AvatarPipeline.from_pretrained(config.model.init, **where)
    if not isinstance(pipeline, WanAvatarPipeline):
        raise OptionError(f'{config.model.init!r} is no Wan model; set model.kind = "mesh"')
    return with_references(pipeline, config.model.adapters)


def cache_folder(config: TrainConfig) -> Path:
    """Where prepared clips are kept."""
    cache = Path(config.data.cache)
    return cache if cache.is_absolute() else Path(config.out) / cache


def check_config(config: TrainConfig) -> None:
    """Checks what does not show before hours have gone by.

    Raises:
        InputError, OptionError: as the words say.
    """
    if config.log.sample_steps:
        if not (config.log.sample_portrait and config.log.sample_speech):
            raise OptionError("sample videos (log.sample_steps) need log.sample_portrait and log.sample_speech")
        check_file(config.log.sample_portrait, "picture")
        check_file(config.log.sample_speech, "sound")


def _speech_pipeline(config: TrainConfig) -> AvatarPipeline:
    source = config.model.speech_encoder if config.model.init == "scratch" else config.model.init
    return _loaded(source)


def _loaded(source: str) -> AvatarPipeline:
    pipeline = AvatarPipeline.from_pretrained(source)
    if not isinstance(pipeline, AvatarPipeline):
        raise InputError(f"{source!r} is a published system; give embedded, or a folder that `avatar train` wrote")
    return pipeline
