"""The same work over Ray Data: a data set of shard paths, so that nothing large enters Ray's object store.

Each actor owns the same worker process that the local engine uses: a clip that hangs or crashes a decoder is dealt with in
one way on both, and Ray never has to restart anything for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from avatar.data.engines.work import Progress, RowWork, Shard, run_shard
from avatar.data.engines.worker import WorkerProcess
from avatar.errors import AvatarError, MissingDependencyError, OptionError

_LEAST_CPUS = 4  # with 2 an actor pool and Ray's own operators wait for each other forever
_CPUS_PER_ACTOR = 0.5  # of Ray's count; never all of them, for the same reason


class RayEngine:
    """Ray Data over shards; joins a cluster that is there (`ray.init(address=…)` before), else starts one on this machine.

    Attributes:
        num_workers: actors at a time. The output folder must be one that every machine sees under the same path.
    """

    def __init__(self, num_workers: int = 2, cpus_per_worker: float = _CPUS_PER_ACTOR) -> None:
        if num_workers < 1:
            raise OptionError(f"an engine needs at least one worker, not {num_workers}")
        self.num_workers, self._cpus = num_workers, cpus_per_worker

    def close(self) -> None:
        """Nothing to end: actors are gone with their stage, and Ray belongs to whoever started it."""

    def run(self, work: RowWork, shards: Sequence[Shard], *, timeout_s: float, progress: Progress) -> None:
        """As `engines.work.Engine.run`; progress is told as Ray hands results back."""
        try:
            import ray
            import ray.data
        except ImportError as err:
            raise MissingDependencyError('this engine needs Ray; pip install "avatar[ray]"') from err
        if not shards:
            return
        if not ray.is_initialized():
            import os

            ray.init(num_cpus=max(_LEAST_CPUS, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        items = [{"shard": pickle.dumps(shard), "rows": shard.num_rows} for shard in shards]
        done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _ShardActor,
            fn_constructor_args=(pickle.dumps(work), timeout_s),
            batch_size=1,
            concurrency=(1, min(self.num_workers, len(shards))),
            num_cpus=self._cpus,
            max_restarts=3,
            max_task_retries=3,
        )
        for row in done.iter_rows():
            if row["failure"]:
                raise pickle.loads(row["failure"])
            progress(int(row["rows"]))


class _ShardActor:
    """Lives in a Ray worker; what it is given and returns are pickles, which Ray leaves alone."""

    def __init__(self, work: bytes, timeout_s: float) -> None:
        self._work: RowWork = pickle.loads(work)
        self._worker = WorkerProcess()
        self._worker.take_up(self._work, timeout_s)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        failures = []
        for packed in batch["shard"]:
            try:
                run_shard(self._worker.run, self._work, pickle.loads(packed))
                failures.append(b"")
            except AvatarError as err:  # Ray does not retry what is raised, and wraps it; the driver raises it
                failures.append(pickle.dumps(err))
        return {"rows": batch["rows"], "failure": failures}
