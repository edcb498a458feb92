"""Whatever dies, and whenever: what was made is in MLflow once it is seen again, and nothing is left running."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tracked_home import Home, Silent, complete, seen

from tlm.artifacts.step import Step

pytestmark = pytest.mark.slow  # MLflow takes seconds to import, and to make a database


def test_an_undisturbed_study_is_shown_whole(home: Home, steps: list[Step]) -> None:
    home.open()
    records = [home.make(step) for step in steps[:2]]
    home.close()
    for step, record in zip(steps[:2], records, strict=True):
        complete(home, step)
        assert record.mlflow and record.mlflow["run_id"] == seen(home, step)["id"]
        assert record.mlflow["parent_run_id"] == home.tracking.parent_run_id and record.mlflow["study"] == "mini"
    assert {run.info.run_name for run in home.runs("tags.study = 'mini'")} == {
        "mini",
        *(f"{step.slug} {step.stage}" for step in steps[:2]),
    }
    [study] = home.runs("attributes.run_name = 'mini'")
    assert study.info.status == "FINISHED" and study.data.metrics == {"steps": 1}
    assert {"mlflow.source.git.commit", "git_dirty"} >= study.data.tags.keys() - {"study", "mlflow.runName"}


@pytest.mark.parametrize("moment", ["before it is published", "after it is published", "while it is logged"])
def test_after_a_death_the_next_run_completes_what_was_made_and_kills_the_rest(
    home: Home, steps: list[Step], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.tracking import runs

    home.open()
    home.make(steps[0])
    run = home.run_of(steps[1])
    kept = run.start()
    assert home.tracking.outbox.drain() == []
    if moment != "before it is published":
        record = home.publish(steps[1], kept)
    if moment == "while it is logged":
        monkeypatch.setattr(runs, "finish", lambda *_: pytest.fail("killed"))
        with pytest.raises(BaseException, match="killed"):
            run._finish(home.tracking.view(home.client, home.runtime), record)
        monkeypatch.undo()
    home.die()
    assert "RUNNING" in home.statuses()["mini"]

    home.open("another")
    home.close()
    found = home.statuses()
    assert found["mini"] == ["KILLED"] and found["another"] == ["FINISHED"]
    complete(home, steps[0])
    if moment == "before it is published":
        assert found[steps[1].stage].count("KILLED") == 1
    else:
        complete(home, steps[1])
    assert not home.runs("status = 'RUNNING'")
    assert list((home.runtime.mlflow_folder / "processes").glob("*.json")) == []


def test_what_a_living_process_is_at_is_left_to_it(home: Home, steps: list[Step]) -> None:
    home.open()
    run = home.run_of(steps[0])
    record = home.publish(steps[0], run.start())
    other = Home(home.runtime)
    other.open("other")
    other.close(hits=steps[:1])
    assert home.statuses()[steps[0].stage] == ["RUNNING"], "the run of the living process"
    run.finish(record)
    home.close()
    complete(home, steps[0])


def test_a_run_that_another_artifact_has_replaced_is_killed(home: Home, steps: list[Step]) -> None:
    home.open()
    first = home.run_of(steps[0]).start()
    home.publish(steps[0], first)
    home.tracking.outbox.drain()
    home.die()
    home.store.delete(steps[0].ref)
    home.open()
    home.make(steps[0])
    home.close()
    assert home.client.get_run(first["run_id"]).info.status == "KILLED"
    complete(home, steps[0])


def test_a_run_whose_artifact_was_invalidated_is_killed(home: Home, steps: list[Step]) -> None:
    home.open()
    run = home.run_of(steps[0])
    record = home.publish(steps[0], run.start())
    home.store.delete(steps[0].ref)
    run.finish(record)
    home.close()
    assert home.statuses()[steps[0].stage] == ["KILLED"]


@pytest.mark.parametrize("moment", range(4))
def test_when_mlflow_dies_nothing_fails_and_the_next_run_completes_the_lineage(
    home: Home, steps: list[Step], moment: int
) -> None:
    """Before the first step, between start and finish, after a step, before a hit."""
    home.open()
    if moment == 0:
        Silent(home.tracking.outbox)
    run = home.run_of(steps[0])
    kept = run.start()
    if moment == 1:
        home.tracking.outbox.drain()
        Silent(home.tracking.outbox)
    run.finish(home.publish(steps[0], kept))
    if moment == 2:
        home.tracking.outbox.drain()
        Silent(home.tracking.outbox)
    second = home.make(steps[1])
    if moment == 3:
        home.tracking.outbox.drain()
        Silent(home.tracking.outbox)
    home.close(hits=steps[2:])
    assert ("run_id" in (second.mlflow or {})) == (moment == 3)

    home.open()
    home.close(hits=steps[:2])
    for step in steps[:2]:
        complete(home, step)
    assert not home.runs("status = 'RUNNING'") and home.statuses()["mini"] == ["FINISHED", "FINISHED"]
    assert home.maker(steps[1]).data.tags["mlflow.parentRunId"] == second.mlflow["parent_run_id"]
    hits = home.hits(home.client.get_run(home.tracking.parent_run_id))
    assert hits == {step.key: home.maker(step).info.run_id for step in steps[:2]}


def test_an_answer_that_is_lost_leaves_no_second_run(home: Home, steps: list[Step]) -> None:
    """MLflow opens a run, and its answer does not arrive."""
    home.open()
    outbox, connect = home.tracking.outbox, home.tracking.outbox._connect

    class Losing:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                done = getattr(connect(), name)(*arguments, **named)
                if name == "create_run":
                    raise TimeoutError("no answer")
                return done

            return call

    outbox._connect = Losing
    run = home.run_of(steps[0])
    kept = run.start()
    outbox._connect = connect
    run.finish(home.publish(steps[0], kept))
    home.close()
    complete(home, steps[0])
    assert sorted(home.statuses()[steps[0].stage]) == ["FINISHED", "KILLED"]


def test_what_waits_for_another_mlflow_goes_on_waiting(home: Home, steps: list[Step]) -> None:
    from tasks.tracking import processes

    folder = processes.folder_of(home.runtime)
    name = processes.begin(folder, {"uri": "http://elsewhere:1", "run": "f" * 32})
    processes.release(folder, name)
    home.open()
    home.close()
    assert [path.stem for path in folder.glob("*.json")] == [name]


def test_processes_that_see_an_unfinished_run_at_once_complete_it_once(home: Home, steps: list[Step]) -> None:
    home.open()
    record = home.publish(steps[0], home.run_of(steps[0]).start())
    home.tracking.outbox.drain()
    home.die()
    barrier, faults = threading.Barrier(4), []

    def see() -> None:
        try:
            view = home.tracking.view(home.client, home.runtime)
            barrier.wait()
            view.ensure(record)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=see) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    complete(home, steps[0])
    assert len(home.client.search_logged_models(["1"])) == 1


def test_a_failed_step_says_why_and_an_interrupted_one_is_killed(home: Home, steps: list[Step]) -> None:
    home.open()
    for step, error in zip(steps, (ValueError("too cold"), KeyboardInterrupt()), strict=False):
        run = home.run_of(step)
        run.start()
        run.fail(error)
    home.close("FAILED")
    [failed] = home.runs("status = 'FAILED' and tags.`tlm.cache` = 'miss'")
    [killed] = home.runs("status = 'KILLED'")
    assert failed.data.tags["tlm.error"] == "ValueError: too cold" and failed.data.params
    assert "tlm.error" not in killed.data.tags


def test_why_an_artifact_was_made_again_and_where_it_came_from_is_kept_in_its_record(
    home: Home, steps: list[Step]
) -> None:
    home.open()
    again = home.publish(steps[0], home.run_of(steps[0]).start("a byte differs"))
    there = again.model_copy(update={"provenance": {"device": "cuda"}})
    came = home.run_of(steps[1]).start_import(there, "bundle")
    home.close()
    assert again.mlflow["rebuilt_because"] == "a byte differs" and came["imported_from"] == "bundle"
    [first] = home.runs("tags.`tlm.rebuilt_because` = 'a byte differs'")
    [second] = home.runs("tags.`tlm.imported_from` = 'bundle' and tags.device = 'cuda'")
    assert {first.info.run_id, second.info.run_id} == {again.mlflow["run_id"], came["run_id"]}
    assert json.loads(json.dumps(again.mlflow)) == again.mlflow
    assert Path(home.runtime.home).is_dir()
