"""Epochs prepared by several processes, some of them ahead of what trains."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType

import torch

from tlm.training.prepacked import Epoch, Run, prepare_epoch

AHEAD = 8
"""Epochs of Ws = 90,000 are 45 MB each."""


class Preparing:
    """A pool of processes, which must be made before a GPU is touched; without any, epochs are prepared when needed."""

    def __init__(self, processes: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if processes:
            # Forked, and now: before this process has a GPU's context or threads, and without importing torch again.
            fork, others = multiprocessing.get_context("fork"), set(multiprocessing.active_children())
            self._pool = ProcessPoolExecutor(processes, mp_context=fork, initializer=_one_thread)
            self._pool.submit(_one_thread).result()
            self._workers = set(multiprocessing.active_children()) - others

    def __enter__(self) -> Preparing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:  # Python would wait for epochs that are begun, and nobody needs them
                worker.kill()

    def start(self, run: Run) -> Iterator[Epoch]:
        """Every epoch of a run in order. The first are begun at once, not when they are asked for."""
        if self._pool is None:
            return (prepare_epoch(run, epoch) for epoch in range(run.epochs))
        waiting: deque[Future[Epoch]] = deque(
            self._pool.submit(prepare_epoch, run, epoch) for epoch in range(min(AHEAD, run.epochs))
        )
        return self._rest(self._pool, run, waiting)

    @staticmethod
    def _rest(pool: ProcessPoolExecutor, run: Run, waiting: deque[Future[Epoch]]) -> Iterator[Epoch]:
        for epoch in range(run.epochs):
            found = waiting.popleft().result()
            if epoch + AHEAD < run.epochs:
                waiting.append(pool.submit(prepare_epoch, run, epoch + AHEAD))
            yield found


def _one_thread() -> None:
    torch.set_num_threads(1)
