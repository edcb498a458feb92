"""Run a plan's steps as soon as their inputs are there, no more at once than there are workers.

Prefect's thread pool holds a thread for a task that waits for another; here a task is submitted only when it can run, so
that every worker works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from queue import Queue
from typing import Any

from prefect.futures import PrefectFuture

from tlm.artifacts.step import Step
from tlm.execution.process import stop_all
from tlm.machine.interruption import hold

STOPPING_SECONDS = 10.0

Stop = Callable[[Collection[PrefectFuture[Any]]], None]
Submit = Callable[[Step, list[PrefectFuture[Any]]], PrefectFuture[Any]]


def run_all(
    steps: Sequence[Step],
    submit: Submit,
    *,
    at_once: int,
    stop: Stop = lambda futures: stop_all(),
    ended: Callable[[Step], None] = lambda step: None,
) -> dict[str, PrefectFuture[Any]]:
    """Submit every step once all its inputs are done, `at_once` at a time.

    On the first failure no more are submitted and, when those under way have ended, it is raised. What interrupts it
    (a worker's SIGTERM) ends the training processes instead of waiting for them.

    Args:
        steps: in topological order; of those that could start, the first does. Inputs that are not among them are there.
        stop: ends the trainings of steps that were submitted.
        submit: starts a step, given the futures of its inputs (done, but they let Prefect draw the graph).
        ended: called with each step that has been made, or found.

    Returns:
        Step key → its future, which is completed.
    """
    position = {step.key: place for place, step in enumerate(steps)}
    inputs = {step.key: [key for key in step.input_keys.values() if key in position] for step in steps}
    graph = TopologicalSorter(inputs)
    graph.prepare()
    ready: list[int] = []
    """Positions of steps that could start: a heap."""
    futures: dict[str, PrefectFuture[Any]] = {}
    done: Queue[str] = Queue()
    failed: PrefectFuture[Any] | None = None
    running = 0
    try:
        while True:
            for key in graph.get_ready():
                heappush(ready, position[key])
            while ready and running < at_once and failed is None:
                hold()
                step = steps[heappop(ready)]
                futures[step.key] = submit(step, [futures[key] for key in inputs[step.key]])
                futures[step.key].add_done_callback(lambda _, key=step.key: done.put(key))  # type: ignore[misc]
                running += 1
            if not running:
                break
            key = done.get()
            running -= 1
            futures[key].wait()  # until then a done future may still answer with the state it had when last asked
            if futures[key].state.is_completed():
                graph.done(key)
                ended(steps[position[key]])
            else:
                failed = failed or futures[key]
    except BaseException:
        _stop(futures.values(), stop)
        raise
    if failed is not None:
        failed.result(raise_on_failure=True)
    return futures


def _stop(futures: Collection[PrefectFuture[Any]], stop: Stop) -> None:
    """End training processes, those too that a step is only about to start; nothing ends what runs in a thread."""
    deadline = time.monotonic() + STOPPING_SECONDS
    while True:
        stop([future for future in futures if not future.state.is_final()])
        under_way = [future for future in futures if not future.state.is_final()]
        if not under_way or time.monotonic() > deadline:
            return
        time.sleep(0.1)
