"""The training loop, on accelerate: the same on a CPU, a GPU, or many of them.

Every draw is a function of (seed, epoch, place in the epoch), whichever process makes it: runs are repeatable, go on bit for
bit where they stopped, and do not depend on how a batch is divided among processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import default_collate

from avatar.data.clip_dataset import buckets_of, cells_of, spread_over_cells
from avatar.data.sampling.cells import Cells, turns
from avatar.data.sampling.dynamic import DynamicBalance
from avatar.data.sampling.report import CellReport, append_report, cell_reports, mean_by_cell
from avatar.data.sampling.sampler import Balance, BalancedSampler
from avatar.data.sampling.weights import loss_weights
from avatar.errors import OptionError
from avatar.train.average import WeightAverage, trained
from avatar.train.config import TrainConfig
from avatar.train.config_file import check_same
from avatar.train.distributed import Sharding
from avatar.train.draws import Draws
from avatar.train.run_folder import RunFolder
from avatar.train.schedule import learning_rate_factor
from avatar.train.task import Sample, Task

_EPOCHS = 20  # of a run, at least
_HELD_OUT_EPOCH = 2**31  # validation draws are of no epoch


@dataclass(frozen=True)
class Reports:
    """Who is told what while a run goes on; every field may be None.

    Attributes:
        progress: steps done and in all, seconds left as estimated.
        figures: each logged line.
        cells: the table of an epoch.
        left_out: clips that are not used, each with the reason.
    """

    progress: Callable[[int, int, float], None] | None = None
    figures: Callable[[dict[str, float]], None] | None = None
    cells: Callable[[list[CellReport]], None] | None = None
    left_out: Callable[[dict[str, str]], None] | None = None


class Trainer:
    """Trains a task.

    Args:
        task: what is trained, with its training clips.
        held_out: the same networks with the clips of validation; None for none.
        config: of the run.
        reports: who is told.
        accelerator: None makes one as the config says.
    """

    def __init__(
        self,
        task: Task,
        held_out: Task | None,
        config: TrainConfig,
        reports: Reports | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.config, self.task, self.held_out = config, task, held_out
        self.reports = reports or Reports()
        self.accelerator = accelerator or make_accelerator(config)
        self.folder = RunFolder(config.out)
        loop, options = config.loop, config.optimiser
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        self.draws_per_step = loop.batch_size * loop.accumulate * ranks
        self.cells = cells_of(task.entries, config.balance.by)
        epoch_draws = self._epoch_draws(len(task.entries))
        self.sampler = BalancedSampler(
            self.cells,
            self._balance(epoch_draws),
            seed=loop.seed,
            rank=rank,
            num_ranks=ranks,
            epoch_draws=epoch_draws,
            buckets=buckets_of(task.entries),
            batch_draws=self.draws_per_step,
        )
        self.dynamic = DynamicBalance(
            len(self.cells), rate=config.balance.dynamic_rate, ceiling=config.balance.dynamic_ceiling
        )
        weights = [value for _, value in trained(task.networks)]
        if not weights:
            raise OptionError("nothing is trained: every weight is frozen; see model.train and model.adapters")
        optimiser = torch.optim.AdamW(
            weights, options.learning_rate, (options.beta1, options.beta2), weight_decay=options.weight_decay
        )
        self.model, self.optimiser = self.accelerator.prepare(task.networks, optimiser)
        self.networks: nn.Module = self.accelerator.unwrap_model(self.model)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser.optimizer, self._rate)
        self.average = WeightAverage(self.networks, options.ema_decay, options.towards_start)
        self.sharding = Sharding(self.accelerator, self.networks, self.optimiser.optimizer)
        self.step = 0
        self._seen: list[np.ndarray] = []
        self._losses: list[np.ndarray] = []
        self._epoch_shares = 0, self.sampler.shares()
        self._waiting_s, self._working_s = 0.0, 0.0  # since the last line of the log

    def run(self, *, resume: bool = False, stop_after: int | None = None) -> Path:
        """Trains to the end.

        Args:
            resume: go on from the newest checkpoint, if there is one; else there must be none.
            stop_after: leave off after this many steps in all, as if interrupted; None for not.

        Returns:
            The folder of the trained model.

        Raises:
            OptionError: there is a run already, or it was made with another config.
        """
        if resume:
            self._resume()
        else:
            self.folder.check_new()
        self.accelerator.wait_for_everyone()
        started, first = time.monotonic(), self.step
        last = self.config.loop.steps if stop_after is None else min(stop_after, self.config.loop.steps)
        figures: list[dict[str, float]] = []
        while self.step < last:
            for positions, batches in self._epoch():
                started_step = time.monotonic()
                figures.append(self._train_step(positions, batches))
                self._working_s += time.monotonic() - started_step
                self.sampler.advance(self.draws_per_step)
                self.step += 1
                self._after_step(figures, started, first)
                if self.sampler.cursor == 0:  # the epoch is over
                    break
                if self.step >= last:
                    break
        return self.folder.folder / "latest" / "model"

    def _after_step(self, figures: list[dict[str, float]], started: float, first: int) -> None:
        loop, done = self.config.loop, self.step
        is_end = done == loop.steps
        line: dict[str, float] = {}
        if done % loop.log_steps == 0 or is_end:
            elapsed = time.monotonic() - started
            line = {name: float(np.mean([f[name] for f in figures if name in f])) for name in figures[-1]}
            line |= {
                "epoch": self.sampler.epoch,
                "seconds": elapsed,
                "waiting_share": self._waiting_s / max(self._waiting_s + self._working_s, 1e-9),
            }
            figures.clear()
            self._waiting_s, self._working_s = 0.0, 0.0
        if self.held_out is not None and (done % loop.held_out_steps == 0 or is_end):
            line |= self._validate()
        elif self.sampler.cursor == 0:
            self._report_cells({})
        if self.accelerator.is_main_process and line:
            self.folder.log({"step": done, **line})
            self.accelerator.log(line, step=done)
            if self.reports.figures:
                self.reports.figures({"step": done, **line})
        if done % loop.checkpoint_steps == 0 or is_end:
            self._save()
        if self.config.log.sample_steps and (done % self.config.log.sample_steps == 0 or is_end):
            self._sample_video()
        if self.reports.progress and self.accelerator.is_main_process:
            left = (time.monotonic() - started) / (done - first) * (loop.steps - done)
            self.reports.progress(done, loop.steps, left)

    def _epoch(self) -> Iterator[tuple[np.ndarray, list[Sample]]]:
        """The rest of the epoch, a step at a time: places in the epoch of this rank's draws, and its batches."""
        order, ranks = self.sampler.order(), self.accelerator.num_processes
        self._epoch_shares = self.sampler.epoch, self.sampler.shares()
        places = np.arange(self.sampler.cursor + self.accelerator.process_index, len(order), ranks)
        size = self.config.loop.batch_size
        per_step = size * self.config.loop.accumulate
        draws = Draws(self.task, order, self.sampler.epoch, self.config.loop.seed, training=True)
        wanted = [places[k : k + size].tolist() for k in range(0, len(places), size)]
        loader = draws.batches(wanted, self.config.loop.workers, pinned=self.accelerator.device.type == "cuda")
        batches, started = iter(loader), time.monotonic()
        for k in range(0, len(places), per_step):
            got = [next(batches) for _ in range(self.config.loop.accumulate)]
            self._waiting_s += time.monotonic() - started
            yield places[k : k + per_step], got
            started = time.monotonic()

    def _train_step(self, places: np.ndarray, batches: list[Sample]) -> dict[str, float]:
        clips = self.sampler.order()[places]
        weights = self._loss_weights()
        size, parts = self.config.loop.batch_size, []
        for k, batch in enumerate(batches):
            weight = torch.from_numpy(weights[clips[k * size : (k + 1) * size]]).to(self.accelerator.device)
            with self.accelerator.accumulate(self.model):
                got = self.model(_to(batch, self.accelerator.device))
                self.accelerator.backward((got["loss"] * weight).mean())
                if self.accelerator.sync_gradients and self.config.optimiser.clip_norm > 0:
                    self.accelerator.clip_grad_norm_(
                        [value for _, value in trained(self.networks)], self.config.optimiser.clip_norm
                    )
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
            parts.append({name: value.detach().float() for name, value in got.items()})
        self.schedule.step()
        self.average.update(self.step)
        each = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        each = {name: self.accelerator.gather(value) for name, value in each.items()}
        self._remember(clips, each["loss"])
        return {**{name: float(value.mean()) for name, value in each.items()}, "learning_rate": self._current_rate()}

    def _remember(self, clips: np.ndarray, losses: Tensor) -> None:
        """What was drawn, for the epoch's report: of all ranks, in the order of `gather`."""
        drawn = self.accelerator.gather(torch.from_numpy(clips.astype(np.int64)).to(self.accelerator.device))
        self._seen.append(drawn.cpu().numpy())
        self._losses.append(losses.cpu().numpy())

    def _loss_weights(self) -> np.ndarray:
        if not self.config.balance.loss:
            return np.ones(self.cells.num_clips, np.float32)
        beta = self.sampler.beta
        return loss_weights(self.cells, beta, self.sampler.probabilities(), cap=self.config.balance.cap)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Held-out figures with the averaged weights; cells that fare badly are drawn more often from now on."""
        assert self.held_out is not None
        cells, clips, figures = self.held_out_figures()
        by_cell = {name: mean_by_cell(cells, clips, values) for name, values in figures.items()}
        place = {name: k for k, name in enumerate(cells.names)}
        own = {  # of the training clips' cells, NaN where none was held out
            f"held_out_{name}": np.array([values[place[c]] if c in place else np.nan for c in self.cells.names])
            for name, values in by_cell.items()
        }
        if self.config.balance.dynamic_rate > 0:
            self.dynamic.update(own["held_out_loss"])
            self.sampler.reweight(self.dynamic.factors)
        self._report_cells(own)
        measured = by_cell["loss"][np.isfinite(by_cell["loss"])]
        return {
            **{f"held_out_{name}": float(values.mean()) for name, values in figures.items()},
            "held_out_worst_cell": float(measured.max()),
            "held_out_mean_cell": float(measured.mean()),
        }

    @torch.no_grad()
    def held_out_figures(self) -> tuple[Cells, np.ndarray, dict[str, np.ndarray]]:
        """The loss on fixed draws of the held-out clips: their cells, the clips, and figures of each by name.

        The first clip of every cell has the same noise, noise level and place of its crop, and so have the second ones …: a
        cell's few clips differ by what they show, not by their luck.
        """
        assert self.held_out is not None
        cells = cells_of(self.held_out.entries, self.config.balance.by, may_lack=True)
        clips = spread_over_cells(cells, self.config.loop.held_out_clips, self.config.loop.seed)
        chances = turns(cells.home[clips])
        dataset = Draws(self.held_out, clips, _HELD_OUT_EPOCH, self.config.loop.seed, training=False, chances=chances)
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        figures: list[dict[str, np.ndarray]] = []
        self.networks.eval()
        size = ranks * (self.config.loop.batch_size if buckets_of(self.held_out.entries) is None else 1)
        with self.average.applied():
            for k in range(0, len(clips), size):
                mine = [(k + j) % len(clips) for j in range(rank, size, ranks)]
                batch = default_collate([dataset[place] for place in mine])
                with self.accelerator.autocast():
                    got = self.networks(_to(batch, self.accelerator.device))
                each = {name: self.accelerator.gather(value.float()) for name, value in got.items()}
                order = np.arange(size).reshape(-1, ranks).T.ravel()
                kept = np.argsort(order)[: min(size, len(clips) - k)]
                figures.append({name: value.cpu().numpy()[kept] for name, value in each.items()})
        self.networks.train()
        return cells, clips, {name: np.concatenate([f[name] for f in figures]) for name in figures[0]}

    def _report_cells(self, figures: dict[str, np.ndarray]) -> None:
        if not self._seen:
            return
        clips, losses = np.concatenate(self._seen), np.concatenate(self._losses)
        self._seen, self._losses = [], []
        all_figures = {"loss": mean_by_cell(self.cells, clips, losses), **figures}
        epoch, target = self._epoch_shares
        rows = cell_reports(self.cells, target, clips, all_figures)
        if self.accelerator.is_main_process:
            append_report(self.folder.folder / "balance.jsonl", epoch, self.step, rows)
            if self.reports.cells:
                self.reports.cells(rows)

    def _save(self) -> None:
        weights, optimiser = self.sharding.gathered()
        average, used = (
            {name: self.sharding.whole(value) for name, value in part.items()}
            for part in (self.average.state_dict(), self.average.used())
        )
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "config": self.config.deciding(),
                "weights": weights,
                "average": average,
                "optimiser": optimiser,
                "schedule": self.schedule.state_dict(),
                "sampler": self.sampler.state_dict(),
                "dynamic": self.dynamic.state_dict(),
                "report": _report_state(self._seen, self._losses),
                "rng": torch.get_rng_state(),
            }
            with self.sharding.plain(used):
                self.folder.save(self.step, state, self.task.save, self.config.loop.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        state: dict[str, Any] | None = self.folder.load()
        if state is None:
            return
        check_same(self.config, state["config"], self.folder.folder)
        self.sharding.restore(state["weights"], state["optimiser"])
        if self.average.weights:
            self.average.load_state_dict(self.sharding.like(self.average.weights, state["average"]))
        self.schedule.load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])
        self.dynamic.load_state_dict(state["dynamic"])
        self._seen = [np.array(state["report"]["clips"], np.int64)] if state["report"]["clips"] else []
        self._losses = [np.array(state["report"]["losses"], np.float32)] if state["report"]["clips"] else []
        torch.set_rng_state(state["rng"])
        self.step = int(state["step"])
        if self.accelerator.is_main_process:
            self.folder.forget_after(self.step)

    def _sample_video(self) -> None:
        if not self.accelerator.is_main_process:
            return
        log = self.config.log
        out = self.folder.folder / "samples"
        out.mkdir(exist_ok=True)
        self.networks.eval()
        with self.average.applied():
            self.task.video(Path(log.sample_portrait), Path(log.sample_speech), out / f"step-{self.step:08d}.mp4")
        self.networks.train()

    def _epoch_draws(self, num_clips: int) -> int:
        """Draws between two re-weightings: so many that there are `_EPOCHS` at least, in whole passes where clips are few."""
        wanted = self.config.balance.epoch_draws
        share = self.config.loop.steps * self.draws_per_step // _EPOCHS
        return wanted or max(self.draws_per_step, share if share < num_clips else share // num_clips * num_clips)

    def _balance(self, epoch_draws: int) -> Balance:
        balance = self.config.balance
        epochs = self.config.loop.steps * self.draws_per_step / epoch_draws
        first, last = (share * epochs for share in balance.anneal)
        return Balance(None if balance.beta == -1 else balance.beta, balance.cap, balance.thin, (first, last))

    def _rate(self, step: int) -> float:
        options, steps = self.config.optimiser, self.config.loop.steps
        return learning_rate_factor(step, options.warmup_steps, steps, options.schedule)

    def _current_rate(self) -> float:
        return float(self.schedule.get_last_lr()[0])


def make_accelerator(config: TrainConfig) -> Accelerator:
    """The accelerator that a config asks for; with `accelerate launch` it also reads that program's settings."""
    precision = config.loop.mixed_precision
    if precision == "auto":
        precision = "bf16" if torch.accelerator.is_available() else "no"
    from avatar.train.trackers import tracker_names

    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=precision,
        gradient_accumulation_steps=config.loop.accumulate,
        log_with=tracker_names(config.log.trackers) or None,
        project_dir=config.out,
    )


def _to(batch: Sample, device: torch.device) -> Sample:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _report_state(seen: list[np.ndarray], losses: list[np.ndarray]) -> dict[str, list[float]]:
    """Draws since the last report, so that the report after a restart is the same."""
    clips = np.concatenate(seen).tolist() if seen else []
    return {"clips": clips, "losses": np.concatenate(losses).tolist() if losses else []}
