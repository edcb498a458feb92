"""Run a plan's steps as soon as their inputs are there, no more at once than there are workers.

Prefect's thread pool holds a thread for a task that waits for another; here a task is submitted only when it can run, so
that every worker works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Queue

from prefect.futures import PrefectFuture

from tlm.artifacts.step import ArtifactRef, Step
from tlm.execution.process import stop_all

Submit = Callable[[Step, list[PrefectFuture[ArtifactRef]]], PrefectFuture[ArtifactRef]]


def run_all(steps: Sequence[Step], submit: Submit, *, at_once: int) -> None:
    """Submit every step once all its inputs are done, `at_once` at a time.

    On the first failure no more are submitted and, when those under way have ended, it is raised. An interruption (Ctrl-C,
    SIGTERM) ends the training processes instead of waiting for them.

    Args:
        steps: in topological order; of those that could start, the first does.
        submit: starts a step, given the futures of its inputs (done, but they let Prefect draw the graph).
    """
    waiting = {step.key: set(step.input_keys.values()) for step in steps}
    by_key = {step.key: step for step in steps}
    futures: dict[str, PrefectFuture[ArtifactRef]] = {}
    done: Queue[str] = Queue()
    failed: PrefectFuture[ArtifactRef] | None = None
    running = 0
    try:
        while running or (waiting and failed is None):
            ready = [key for key, needs in waiting.items() if not needs]
            for key in ready[: at_once - running] if failed is None else []:
                del waiting[key]
                step = by_key[key]
                futures[key] = submit(step, [futures[k] for k in step.input_keys.values()])
                futures[key].add_done_callback(lambda _, key=key: done.put(key))  # type: ignore[misc]
                running += 1
            key = done.get()
            running -= 1
            futures[key].wait()  # until then a done future may still answer with the state it had when last asked
            if not futures[key].state.is_completed():
                failed = failed or futures[key]
            for needs in waiting.values():
                needs.discard(key)
    except BaseException:
        stop_all()
        raise
    if failed is not None:
        failed.result(raise_on_failure=True)
