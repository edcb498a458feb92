"""Run a plan's steps as soon as their inputs are there, no more at once than there are workers.

Prefect's thread pool holds a thread for a task that waits for another; here a task is submitted only when it can run, so
that every worker works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Queue

from prefect.futures import PrefectFuture

from tlm.steps import ArtifactRef, Step

Submit = Callable[[Step, list[PrefectFuture[ArtifactRef]]], PrefectFuture[ArtifactRef]]


def run_all(steps: Sequence[Step], submit: Submit) -> None:
    """Submit every step once all its inputs are done; on the first failure submit no more and, when those under way have
    ended, raise it.

    Args:
        steps: in topological order.
        submit: starts a step, given the futures of its inputs (done, but they let Prefect draw the graph).
    """
    waiting = {step.key: set(step.input_keys.values()) for step in steps}
    by_key = {step.key: step for step in steps}
    futures: dict[str, PrefectFuture[ArtifactRef]] = {}
    done: Queue[str] = Queue()
    failed: PrefectFuture[ArtifactRef] | None = None

    def start(key: str) -> None:
        del waiting[key]
        step = by_key[key]
        future = submit(step, [futures[k] for k in step.input_keys.values()])
        futures[key] = future
        future.add_done_callback(lambda _: done.put(key))

    for key in [k for k, needs in waiting.items() if not needs]:
        start(key)
    running = len(futures)
    while running:
        key = done.get()
        running -= 1
        futures[key].wait()  # until then a done future may still answer with the state it had when it was asked last
        if not futures[key].state.is_completed():
            failed = failed or futures[key]
        if failed is not None:
            continue
        for other, needs in list(waiting.items()):
            needs.discard(key)
            if not needs:
                start(other)
                running += 1
    if failed is not None:
        failed.result(raise_on_failure=True)
