"""What holds for whatever a study names that is not the package's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from helpers import mini_study

from flows.loading import load_study, to_yaml
from tlm.artifacts import catalogue
from tlm.artifacts.store import ArtifactStore
from tlm.cost.estimate import estimate
from tlm.execution.execute import Outcome, execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES
from tlm.study.config import StudyConfig

SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def assert_planned_run_cached_and_catalogued(study: StudyConfig, data: Path, home: Path) -> tuple[Plan, ArtifactStore]:
    """The miniature study with something of another kind: everything from plan to catalogue works, and only what is
    trained, or made from it, differs.
    """
    planned, plain = plan(study, str(data)), plan(mini_study(), str(data))
    trained = {step.key for step in planned.steps if step.stage in ("pretrain", "finetune")}
    assert estimate(planned, {}, str(data)).costs.keys() == trained
    changed = {step.stage for step in planned.steps if step.key not in {step.key for step in plain.steps}}
    assert {"pretrain", "report"} <= changed <= {"pretrain", "finetune", "committee", "latency", "report"}
    store = run_twice(planned, data, home)
    assert catalogue.build(store, home / "catalogue.duckdb", STAGES) == {}
    with duckdb.connect(str(home / "catalogue.duckdb"), read_only=True) as connection:
        found = connection.execute("select distinct arch from results where ws = 60").fetchall()
    assert {"one", "conv"} <= {arch for (arch,) in found}
    return planned, store


def run_twice(planned: Plan, data: Path, home: Path) -> ArtifactStore:
    """Every step is executed, and then none."""
    runtime = Runtime(home=str(home), data_root=str(data), isolate=False)
    assert _run(planned, runtime) == {"executed"}
    assert _run(planned, runtime) == {"cached"}
    return ArtifactStore(runtime.artifacts)


def _run(planned: Plan, runtime: Runtime) -> set[str]:
    outcomes: list[Outcome] = [execute(step, runtime) for step in planned.steps]
    return {outcome.status for outcome in outcomes}


def assert_read_and_set(changes: dict[str, Any], overrides: list[str], folder: Path) -> None:
    """A study file holds it, JSON does, and `--set` reaches its fields."""
    study, file = mini_study(**changes), folder / "study.yaml"
    file.write_text(to_yaml(study))
    assert load_study(str(file)) == study == StudyConfig.model_validate_json(study.model_dump_json())
    file.write_text(to_yaml(mini_study()))
    assert load_study(str(file), overrides) == study
