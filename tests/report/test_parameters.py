"""What is said of parameters is of each architecture with the tokenizer that it reads, in the plan and in the report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import pytest
from helpers import mini_study
from rich.console import Console

from flows.planning import show_plan
from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import Runtime
from tlm.modeling.cost import parameter_counts
from tlm.planning.plan import Plan, plan
from tlm.report.evidence import Evidence
from tlm.report.study_systems import shapes
from tlm.report.tables import parameters_table

SHAPE = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
OF_BYTES = {"name": "one", "variant": "byte-micro", "head_size": 8, "num_hidden_layers": 1}
ARMS: dict[str, Any] = {
    "plain": {},
    "faster": {"pretrain": {"learning_rate": 0.01}},
    "larger": {"tokenizer": {"kind": "wordpiece", "vocab_size": 500}},
    "bytes": {"tokenizer": {"kind": "bytes"}, "architectures": [OF_BYTES]},
    "bytes-longer": {"tokenizer": {"kind": "bytes"}, "architectures": [OF_BYTES], "budgets": [9]},
}
TOKENS = {"one": 300, "one, larger": 500, "one, bytes": 258}
"""What each shape's vocabulary has. All of them are called `one`, and two read a vocabulary of one kind."""


@pytest.fixture
def planned(mini_data: Path) -> Plan:
    changes: dict[str, Any] = {"tasks": [], "treatments": [], "treatment_architectures": None, "committees": []}
    evaluation = {"kind": "likelihood", "data": {"kind": "files", "path": "items.jsonl"}}
    (mini_data / "items.jsonl").write_text('{"prefix": "", "options": ["ship", "saw"], "gold": 0}', encoding="utf-8")
    changes |= {"corpus__sizes": [60], "baselines": [], "evaluations": [evaluation], "arms": ARMS}
    architectures = [{"name": "one", "kind": "llama", **SHAPE}]
    return plan(mini_study(**changes, architectures=architectures), str(mini_data))


def stored(planned: Plan) -> dict[str, int]:
    return {
        each.name: parameter_counts(
            each.architecture, vocab_size=TOKENS[each.name], max_position_embeddings=each.study.max_length
        ).stored
        for each in shapes(planned.study)
    }


def test_a_plan_tells_tokenizers_apart_whatever_their_models_are_called(
    planned: Plan, mini_data: Path, tmp_path: Path
) -> None:
    console = Console(file=io.StringIO(), width=200)
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu", workers=1)
    show_plan(planned, ArtifactStore(runtime.artifacts), runtime, console, time=False)
    assert isinstance(console.file, io.StringIO)
    lines = [[cell.strip() for cell in line.split("│")] for line in console.file.getvalue().splitlines()]
    shown = [(line[1], line[2]) for line in lines if line[1:2] and line[1].partition(",")[0] == "one"]
    assert shown == [(name, f"{count:,}") for name, count in stored(planned).items()] and len(shown) == len(TOKENS)


@pytest.fixture
def evidence(planned: Plan) -> Iterator[Evidence]:
    """Records of the plan's steps in which nothing stands but how large each vocabulary became."""
    sizes = {"bytes": 258, "wordpiece": None}
    with duckdb.connect() as connection:
        connection.execute(
            "create table runs (key varchar, stage varchar, arch varchar, arm varchar, inputs json, facts json)"
        )
        for step in planned.steps:
            size = sizes.get(step.config.get("kind", "")) or step.config.get("vocab_size")
            facts = {"vocab_size": size} if step.stage == "tokenizer" else {}
            inputs = {name: {"key": ref.key} for name, ref in step.inputs.items()}
            row = [step.key, step.stage, step.labels.get("arch"), step.labels.get("arm")]
            connection.execute(
                "insert into runs values (?, ?, ?, ?, ?, ?)", [*row, json.dumps(inputs), json.dumps(facts)]
            )
        yield cast(Evidence, SimpleNamespace(study=planned.study, connection=connection))


def test_a_report_tells_tokenizers_apart_whatever_their_models_are_called(planned: Plan, evidence: Evidence) -> None:
    shown = [(row[0].text, row[1].text) for row in parameters_table(evidence).rows]
    assert shown == [(name, f"{count:,}") for name, count in stored(planned).items()] and len(shown) == len(TOKENS)


def test_published_results_do_not_tell_of_vocabularies(evidence: Evidence) -> None:
    evidence.connection.execute("alter table runs drop arm; alter table runs drop inputs; update runs set facts = null")
    assert parameters_table(evidence).rows == ()
