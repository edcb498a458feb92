"""An evaluation from outside the package: options scored by likelihood, with any pre-trained model of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import mini_study
from outside import assert_read_and_set, run_twice

from tlm.artifacts import catalogue
from tlm.artifacts.step import Label
from tlm.artifacts.tables import PREDICTIONS
from tlm.errors import UserError
from tlm.modeling.interchange import load_strict
from tlm.planning.plan import plan
from tlm.stages import STAGES, Pretrain, Tokenizer
from tlm.stages.base import Aside
from tlm.stages.evaluating import Evaluating, Models
from tlm.stages.job import Facts, Job
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS
from tlm.study.config import Evaluation


class OptionsConfig(Evaluation):
    """Which of several sentences is the likeliest? The first is the right one."""

    kind: Literal["toy-options"] = "toy-options"
    name: str = "options"
    items: tuple[tuple[str, ...], ...]


class Options(Evaluating, name="toy-options", version="1"):
    """predictions.parquet: for each item the log probability of each of its options, token by token."""

    asked_by = OptionsConfig
    role = "predicts"
    outputs = {"predictions.parquet": PREDICTIONS}

    model: Pretrain
    tokenizer: Tokenizer
    items: tuple[tuple[str, ...], ...]
    title: Aside[str]

    @classmethod
    def wanted(cls, asked: Any, models: Models) -> Iterator[Self]:
        for model in models.pretrained:
            yield cls(model=model, tokenizer=models.tokenizer, items=asked.items, title=asked.name)

    @property
    def slug(self) -> str:
        return f"{self.title}-{self.model.step.slug}"

    @property
    def labels(self) -> dict[str, Label]:
        return {**self.model.labels, "task": self.title, "init": "pretrained"}

    def run(self, job: Job) -> Facts:
        from tlm.modeling import TinyBertForMaskedLM

        tokenizer = job.tokenizer()
        vocabulary = tokenizer.vocabulary
        model = load_strict(TinyBertForMaskedLM, job.inputs["model"].folder(CONFIG_AND_WEIGHTS)).eval()

        def log_probability(text: str) -> float:
            ids = torch.tensor([[vocabulary.cls, *tokenizer.encode([text])[0].tolist(), vocabulary.sep]])
            with torch.inference_mode():
                log_p = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)
            return float(log_p[torch.arange(1, ids.shape[1] - 1), ids[0, 1:-1]].sum())

        scores = [np.array([log_probability(o) for o in options], dtype=np.float32) for options in self.items]
        rows = {"item_id": [str(i) for i in range(len(scores))], "part": "test", "label": 0, "logits": scores}
        job.write(pd.DataFrame(rows), "predictions.parquet")
        right = [bool(score.argmax() == 0) for score in scores]
        return {"test_accuracy": sum(right) / len(right), "test_items": len(right)}


ITEMS = [["the old ship saw", "the old zebra saw"], ["a small horse", "a small qqq", "qqq qqq"]]
CHANGES = {"evaluations": [{"kind": "toy-options", "items": ITEMS}]}


def test_a_study_with_it_is_planned_run_cached_and_its_accuracy_stands_beside_all_others(
    mini_data: Path, tmp_path: Path
) -> None:
    before = {step.key for step in plan(mini_study(), str(mini_data)).steps}
    planned = plan(mini_study(**CHANGES), str(mini_data))
    new = [step for step in planned.steps if step.key not in before]
    assert {step.stage for step in new} == {"toy-options", "report"}
    assert len(new) == 1 + sum(step.stage == "pretrain" for step in planned.steps)
    store = run_twice(planned, mini_data, tmp_path / "home")
    assert catalogue.build(store, tmp_path / "catalogue.duckdb", STAGES) == {}
    with duckdb.connect(str(tmp_path / "catalogue.duckdb"), read_only=True) as connection:
        found = connection.execute(
            "select system, ws, round(accuracy * test_items) from results where task = 'options' and kind = 'toy-options'"
        ).fetchall()
        scored = connection.execute("select count(*) from predictions where kind = 'toy-options'").fetchall()
    assert {(system, ws) for system, ws, _ in found} == {("one", 60), ("one", 120), ("conv", 60), ("conv", 120)}
    assert all(right in (0, 1, 2) for _, _, right in found)
    assert scored == [(2 * (len(new) - 1),)]


def test_files_json_and_the_command_line_know_its_fields(tmp_path: Path) -> None:
    assert_read_and_set(CHANGES, [f"evaluations=[{{kind: toy-options, items: {ITEMS}}}]"], tmp_path)


def test_a_study_that_asks_for_none_keeps_its_keys() -> None:
    assert "evaluations" not in mini_study().identity()


def test_an_unknown_evaluation_is_an_error_that_lists_those_known() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown evaluation 'nothing'; choose from \['compression', 'early_exit', 'likelihood', 'toy-options'",
    ):
        mini_study(evaluations=[{"kind": "nothing"}])


def test_one_that_no_stage_does_is_a_users_error_before_any_work(mini_data: Path) -> None:
    class Unanswered(Evaluation):
        kind: Literal["toy-unanswered"] = "toy-unanswered"

    with pytest.raises(UserError, match="no stage does 'toy-unanswered'"):
        plan(mini_study(evaluations=["toy-unanswered"]), str(mini_data))
