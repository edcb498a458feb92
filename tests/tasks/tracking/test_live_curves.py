"""Learning curves are in MLflow while a model is trained, and once each when it is."""

from __future__ import annotations

from typing import Any

import pytest
from tracked_home import Home

from tlm.artifacts.step import Step

pytestmark = pytest.mark.slow  # MLflow takes seconds to import, and to make a database


def history(home: Home, run_id: str, name: str) -> dict[int, float]:
    found = home.client.get_metric_history(run_id, name)
    assert len({point.step for point in found}) == len(found), "a point is there twice"
    return {point.step: point.value for point in found}


def test_a_curve_grows_while_it_is_made_and_is_completed_without_points_twice(home: Home, steps: list[Step]) -> None:
    home.open()
    run = home.run_of(steps[0])
    kept = run.start()
    run.points([(1, "loss", 9.5)])
    assert home.tracking.outbox.drain() == [] and history(home, run.run_id, "loss") == {1: 9.5}
    record = home.publish(steps[0], kept)
    run.finish(record)
    home.close()
    assert history(home, run.run_id, "loss") == {1: 9.5, 2: 2.0, 3: 1.0}, "what was told of it stays as it was"


def test_a_curve_is_told_now_and_then_and_never_while_mlflow_is_still_at_the_last_of_it(
    home: Home, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.tracking import step_run, study

    home.open()
    run, told = home.run_of(steps[0]), []
    run.start()
    monkeypatch.setattr(study.Tracking, "outbox", property(lambda _: _Jobs(told)))
    for step in range(4):
        run.points([(step, "loss", 1.0)])
    assert len(told) == 1, "it has not been told the first yet"
    monkeypatch.setattr(step_run, "POINTS_SECONDS", 0.0)
    told[0](_Client())
    run.points([(4, "loss", 1.0)])
    assert len(told) == 2
    client = _Client()
    told[1](client)
    assert [metric.step for metric in client.metrics] == [1, 2, 3, 4]
    run._over = True
    told[1](client)
    assert len(client.metrics) == 4, "the record has all of it"


class _Jobs:
    def __init__(self, jobs: list[Any]) -> None:
        self.put = jobs.append


class _Client:
    def __init__(self) -> None:
        self.metrics: list[Any] = []

    def log_batch(self, run_id: str, metrics: list[Any]) -> None:
        self.metrics += metrics
