"""The steps of trials side by side: a failure ends what depends on it and nothing else; a broken machine ends all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.runtime import Runtime

pytestmark = pytest.mark.slow  # importing Prefect takes seconds


class Submitted:
    """What a Prefect future is to those who wait for it, on top of a plain one."""

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def add_done_callback(self, call: Callable[[Any], None]) -> None:
        self.future.add_done_callback(lambda _: call(self))

    def wait(self) -> None:
        self.future.exception()

    @property
    def state(self) -> Submitted:
        return self

    def is_completed(self) -> bool:
        return self.future.exception() is None

    def is_final(self) -> bool:
        return self.future.done()

    def result(self, raise_on_failure: bool = True) -> Any:
        return self.future.result()


class Tasks:
    """Stands in for the tasks of all stages; `fails` has slug → what it raises."""

    def __init__(self, pool: ThreadPoolExecutor, fails: dict[str, Exception]) -> None:
        self.pool, self.fails = pool, fails
        self.made: list[tuple[str, str]] = []

    def __call__(self, stage: str) -> Tasks:
        return self

    def with_options(self, **options: Any) -> Tasks:
        assert options == {"refresh_cache": True}
        return self

    def submit(self, step: Step, runtime: Runtime, tracking: Any, wait_for: list[Any]) -> Submitted:
        return Submitted(self.pool.submit(self.make, step, runtime, tracking))

    def make(self, step: Step, runtime: Runtime, tracking: Any) -> None:
        if step.slug in self.fails:
            raise self.fails[step.slug]
        self.made.append((step.slug, tracking))
        store = ArtifactStore(runtime.artifacts)
        for name in step.inputs.values():
            store.get(name)
        with store.lock(step.ref), store.draft(step.ref) as draft:
            store.publish(step, draft, facts={}, provenance={}, seconds=0)


def step(name: str, *inputs: Step) -> Step:
    return Step(stage="corpus", version="1", config={"n": name}, inputs={i.slug: i.ref for i in inputs}, slug=name)


TEXT = step("text")
BAD, GOOD = step("bad", TEXT), step("good", TEXT)
BAD_TUNED, GOOD_TUNED = step("bad-tuned", BAD), step("good-tuned", GOOD)
TODO = {0: [TEXT, BAD, BAD_TUNED], 1: [GOOD, GOOD_TUNED]}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(make, tasks) of what fails."""
    from tasks import tuning

    def maker(**fails: Exception) -> tuple[Any, Tasks]:
        tasks = Tasks(pool, {name.replace("_", "-"): error for name, error in fails.items()})
        monkeypatch.setattr(tuning, "task_of", tasks)
        runtime = Runtime(home=str(tmp_path), workers=1)
        return tuning.StepMaker(runtime, {0: "trial 0", 1: "trial 1"}), tasks  # type: ignore[dict-item]

    with ThreadPoolExecutor(2) as pool:
        yield maker


def test_a_trial_that_fails_takes_only_what_depends_on_it_along(make: Any) -> None:
    maker, tasks = make(bad=UserError("it diverged at step 3", "Lower the rate."))
    reason = "it diverged at step 3 Lower the rate."
    assert maker(TODO) == {BAD.key: reason, BAD_TUNED.key: reason}
    assert tasks.made == [("text", "trial 0"), ("good", "trial 1"), ("good-tuned", "trial 1")]


def test_two_failures_are_two_reasons_each_on_one_line(make: Any) -> None:
    from tlm.execution.process import StageFailed

    maker, _ = make(bad=StageFailed("it died\nand said this"), good_tuned=UserError("no"))
    assert maker(TODO) == {BAD.key: "it died", BAD_TUNED.key: "it died", GOOD_TUNED.key: "no"}


def test_what_is_there_is_not_made_again_and_what_is_damaged_is(make: Any, tmp_path: Path) -> None:
    maker, tasks = make()
    assert maker(TODO) == {} and len(tasks.made) == 5
    again, tasks = make()
    assert again(TODO) == {} and tasks.made == []
    store = ArtifactStore(Runtime(home=str(tmp_path)).artifacts)
    store.delete(GOOD.ref)
    fresh, tasks = make()
    assert fresh(TODO) == {} and tasks.made == [("good", "trial 1")]


def test_a_machine_at_fault_is_no_trial_s_failure(make: Any) -> None:
    maker, _ = make(bad=OSError("No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        maker(TODO)


def test_what_is_stopped_has_not_failed(make: Any) -> None:
    from tlm.execution.process import StageStopped

    maker, _ = make(bad=StageStopped("stopped"))
    with pytest.raises(StageStopped):
        maker(TODO)
