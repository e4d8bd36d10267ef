"""The default engine: worker processes of this machine, each with one thread of the driver that looks after it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from avatar.data.engines.work import Progress, RowWork, Shard, run_shard
from avatar.data.engines.worker import WorkerProcess
from avatar.errors import OptionError


class LocalEngine:
    """A pool of processes, started by spawn.

    Attributes:
        num_workers: processes at a time.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        """None takes as many workers as this process may use processors."""
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.num_workers = available if num_workers is None else num_workers
        if self.num_workers < 1:
            raise OptionError(f"an engine needs at least one worker, not {num_workers}")
        self._workers = [WorkerProcess() for _ in range(self.num_workers)]

    def close(self) -> None:
        """Ends the workers."""
        for worker in self._workers:
            worker.close()

    def run(self, work: RowWork, shards: Sequence[Shard], *, timeout_s: float, progress: Progress) -> None:
        """As `engines.work.Engine.run`; on an exception, Ctrl-C included, every worker is killed and it is raised."""
        waiting: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in shards:
            waiting.put(shard)
        workers = self._workers[: len(shards)]
        for worker in workers:
            worker.take_up(work, timeout_s)
        stopped, counting = threading.Event(), threading.Lock()

        def look_after(worker: WorkerProcess) -> None:
            while not stopped.is_set():
                try:
                    shard = waiting.get_nowait()
                except queue.Empty:
                    return
                run_shard(worker.run, work, shard)
                with counting:
                    progress(shard.num_rows)

        with ThreadPoolExecutor(max(1, len(workers)), thread_name_prefix="avatar-curate") as pool:
            running = [pool.submit(look_after, worker) for worker in workers]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                stopped.set()
                for worker in workers:
                    worker.stop()
                raise
