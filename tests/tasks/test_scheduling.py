"""Steps start when their inputs are done, so many at once; after a failure or an interruption no more do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from helpers import lines_executed

from tlm.artifacts.step import Step

pytestmark = pytest.mark.slow  # importing Prefect takes seconds


class Done:
    """What run_all needs of a Prefect future, on top of a plain one."""

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.future.add_done_callback(lambda _: call(self))

    def wait(self) -> None:
        self.future.exception()

    @property
    def state(self) -> Done:
        return self

    def is_completed(self) -> bool:
        return self.future.exception() is None

    def is_final(self) -> bool:
        return self.future.done()

    def result(self, raise_on_failure: bool = True) -> Any:
        return self.future.result()


def chain(*edges: tuple[str, tuple[str, ...]]) -> list[Step]:
    steps: dict[str, Step] = {}
    for name, needs in edges:
        inputs = {need: steps[need].ref for need in needs}
        steps[name] = Step(stage="corpus", version="1", config={"name": name}, inputs=inputs, slug=name)
    return list(steps.values())


DIAMOND = chain(("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b", "c")), ("e", ()))


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_every_step_runs_after_its_inputs_and_never_more_at_once(at_once: int) -> None:
    from tasks.scheduling import run_all

    lock, now, most = threading.Lock(), 0, 0
    order: list[str] = []

    def work(step: Step) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
            order.append(step.slug)

    with ThreadPoolExecutor(5) as pool:
        run_all(DIAMOND, lambda step, inputs: Done(pool.submit(work, step)), at_once=at_once)  # type: ignore[arg-type,return-value]
    assert sorted(order) == ["a", "b", "c", "d", "e"]
    assert order.index("a") < order.index("b") < order.index("d")
    assert order.index("a") < order.index("c") < order.index("d")
    assert most <= at_once


def test_after_a_failure_nothing_below_or_beside_it_starts_and_it_is_raised() -> None:
    from tasks.scheduling import run_all

    ran: list[str] = []

    def work(step: Step) -> None:
        ran.append(step.slug)
        if step.slug == "a":
            raise ValueError("a broke")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="a broke"):
        run_all(DIAMOND, lambda step, inputs: Done(pool.submit(work, step)), at_once=1)  # type: ignore[arg-type,return-value]
    assert ran == ["a"]


def test_what_interrupts_it_ends_training_that_begins_even_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that was about to start its process when the others were stopped is stopped, too."""
    from tasks import scheduling

    starts, stops = threading.Event(), 0

    def stop_all() -> None:
        nonlocal stops
        stops += 1
        if stops == 3:
            starts.set()

    def submit(step: Step, inputs: Any) -> Done:
        if step.slug == "e":
            raise KeyboardInterrupt
        return Done(pool.submit(starts.wait, 60))

    monkeypatch.setattr(scheduling, "stop_all", stop_all)
    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyboardInterrupt):
        scheduling.run_all(DIAMOND, submit, at_once=2)  # type: ignore[arg-type]
    assert stops >= 3


def test_twice_the_steps_are_twice_the_work() -> None:
    """A scan over all steps for each one that ends would make it four times."""
    from tasks import scheduling

    def work_of(size: int) -> int:
        first, *rest = chain(("first", ()), *((f"{i}", ("first",)) for i in range(size)))
        steps = [first, *rest]
        done = Done(Future())
        done.future.set_result(None)
        return lines_executed(scheduling, lambda: scheduling.run_all(steps, lambda step, inputs: done, at_once=4))  # type: ignore[arg-type,return-value]

    small, large = work_of(200), work_of(400)
    assert small > 200 * 5 and large < 2.1 * small
