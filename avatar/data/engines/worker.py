"""One worker process that can be killed: a row that hangs or crashes the decoder costs that row and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from avatar.data.engines.work import Piece, RowWork
from avatar.errors import AvatarError, OutputError

_START_TIMEOUT_S = 600.0  # models may be large and the machine busy
_GOODBYE_S = 5.0
_FROM_OUTSIDE = (-signal.SIGTERM, -getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL
_ENVIRONMENT = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
}
_ENVIRONMENT |= {"OMP_WAIT_POLICY": "PASSIVE"}
_ENVIRONMENT |= {"GLOG_minloglevel": "2", "TF_CPP_MIN_LOG_LEVEL": "2", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # chatter
_starting = threading.Lock()  # the environment is the whole process's


class Stopped(Exception):
    """Ends the driver's thread of a worker that was stopped; never seen outside the engines."""


class WorkerProcess:
    """Runs rows in a process of its own, started when the first row comes and kept from stage to stage."""

    def __init__(self) -> None:
        self._work: RowWork | None = None
        self._timeout_s = 0.0
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._is_ready = self._is_stopped = False

    def take_up(self, work: RowWork, timeout_s: float) -> None:
        """The rows that follow are of this stage; each may take so long."""
        if self._process is not None and not self._process.is_alive():
            self.kill()
        self._work, self._timeout_s, self._is_ready, self._is_stopped = work, timeout_s, False, False

    def run(self, row: Mapping[str, Any]) -> list[Piece]:
        """The pieces of one row; where the process hung or died, a last piece that says so.

        A process that was killed from outside (SIGKILL, SIGTERM: somebody, or the kernel short of memory) is given a second
        try: that need not be the row's fault, and what is written down of a row stays.

        Raises:
            AvatarError: the stage cannot be set up, or nothing more can be written.
            Stopped: another thread called `stop`.
        """
        pieces, was_killed = self._try(row)
        return self._try(row)[0] if was_killed else pieces

    def _try(self, row: Mapping[str, Any]) -> tuple[list[Piece], bool]:
        """The pieces of one row, and whether the process was killed from outside meanwhile."""
        if self._is_stopped:
            raise Stopped
        if not self._is_ready:
            self._set_up()
        assert self._pipe is not None and self._work is not None and self._process is not None
        pieces: list[Piece] = []
        at = next(iter(self._work.outputs))  # what is being worked on
        deadline = time.monotonic() + self._timeout_s
        try:
            self._pipe.send(dict(row))
            while self._pipe.poll(max(0.0, deadline - time.monotonic())):
                message = self._pipe.recv()
                if message is None:
                    return pieces, False
                if isinstance(message, AvatarError):
                    raise message
                if isinstance(message, str):
                    at = message
                else:
                    pieces.append(message)
            words, was_killed = f"took more than {self._timeout_s:g} s and was stopped", False
        except (EOFError, OSError):
            words, was_killed = self._cause_of_death(), self._process.exitcode in _FROM_OUTSIDE
        if self._is_stopped:
            raise Stopped
        self.kill()
        return [*pieces, Piece(at, {}, words)], was_killed

    def kill(self) -> None:
        """Ends the process at once; the next row starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
        self._is_ready = False

    def stop(self) -> None:
        """Ends the process from another thread; whoever waits for it in `run` gets Stopped."""
        self._is_stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Lets the process end by itself."""
        if self._process is not None and self._pipe is not None:
            with suppress(OSError):
                self._pipe.send(None)
            self._process.join(_GOODBYE_S)
        self.kill()

    def _set_up(self) -> None:
        """Starts the process where there is none, and hands it the stage."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True, name="avatar-curate")
            with _starting, _environment(_ENVIRONMENT):
                self._process.start()
            theirs.close()
        assert self._pipe is not None
        try:
            self._pipe.send(self._work)
            answer = self._pipe.recv() if self._pipe.poll(_START_TIMEOUT_S) else "it did not answer"
        except (EOFError, OSError):
            answer = self._cause_of_death()
        self._is_ready = answer is None
        if self._is_ready:
            return
        if self._is_stopped:
            raise Stopped
        self.kill()
        if isinstance(answer, AvatarError):
            raise answer
        raise OutputError(
            f"a worker process could not start: {answer}; in a script, call curate() under `if __name__ == '__main__':`"
        )

    def _cause_of_death(self) -> str:
        assert self._process is not None
        self._process.join(_GOODBYE_S)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"the worker process ended (exit code {code})"
        return f"the worker process was ended by {signal.Signals(-code).name}; a decoder crashed, or memory ran out"


def _serve(pipe: Connection) -> None:
    """Takes stages and rows as they come: a stage is answered by None or the error, a row by its pieces and None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    _use_one_thread()
    work: RowWork | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver is gone: so is the reason to go on
        while (message := pipe.recv()) is not None:
            if not isinstance(message, dict):
                work = message
                try:
                    work.setup()
                except AvatarError as err:
                    pipe.send(err)
                    continue
            elif work is not None:
                try:
                    for piece in timed(work.run(message)):
                        pipe.send(piece)
                except AvatarError as err:  # what concerns the row alone is in its pieces
                    pipe.send(err)
                    continue
            pipe.send(None)


def _end_with_the_driver() -> None:
    """Nobody would stop a row that hangs, or wait for one that does not, once the driver has been killed."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def timed(pieces: Iterator[str | Piece]) -> Iterator[str | Piece]:
    """Notes the processor time that each piece took."""
    before = time.process_time()
    for piece in pieces:
        if isinstance(piece, Piece):
            now = time.process_time()
            piece, before = replace(piece, cpu_s=now - before), now
        yield piece


def _use_one_thread() -> None:
    """As many workers as processors: threads inside of them would only fight."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
