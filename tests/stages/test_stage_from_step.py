"""A stage is read back from its step as it was: what runs is what the key was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import mini_study, only

from tlm.artifacts.step import Step
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES, Source
from tlm.stages.base import Aside, Flat, Stage
from tlm.study.architecture import Architecture

FOREIGN = {"kind": "files", "format": "csv", "path": "corpus.csv"}
TREATMENTS = [
    {"kind": "missing_tokens", "task": "topics", "ws": 120, "count": 3, "selection": "rarest", "removal": "delete"},
    {"kind": "shuffled", "ws": 120, "scope": "corpus", "seed": 3},
    {"kind": "sampled", "task": "topics", "ws": 60, "sampler": "bm25"},
    {"kind": "foreign", "name": "other", "source": FOREIGN, "own": 20, "general": 10},
]


LIKELIHOOD = {"benchmark", "contained", "option_scores", "untrained_scores", "ngram_scores", "likelihood"}
"""Their benchmark is read when it is planned: tests/stages/test_likelihood_stage.py has one."""

EXITS = {"exit_sweep", "exit_scores"}
"""They need a benchmark too: tests/stages/test_early_exit_study.py."""

SMALLER = {"compress_pretrained"}
"""Likewise: tests/stages/test_language_compression.py."""


def test_every_field_of_every_stage_is_what_its_steps_config_says(mini_data: Path) -> None:
    taught = {"distillation": {"teacher": "pair", "students": ["one"], "alpha": 0.5}}
    merged = {"soups": ["one"], "finetune_seeds": [0, 1]}
    levers: dict[str, object] = {
        **taught,
        **merged,
        "svd_arm": True,
        "pretrain__embedding_init": "ppmi_svd",
        "initialization": {"matrices": "fan_in"},
        "evaluations": [{"kind": "compression", "method": "heads", "share": 0.5}],
    }
    planned = plan(mini_study(treatments=TREATMENTS, **levers), str(mini_data))
    assert {step.stage for step in planned.steps} == set(STAGES) - LIKELIHOOD - EXITS - SMALLER
    for step in planned.steps:
        read = STAGES[step.stage].of(step).config()
        assert {name: value for name, value in read.items() if name not in step.inputs} == step.config, step.ref


def test_a_changed_config_changes_what_runs_whatever_the_step_was_made_with(mini_plan: Plan) -> None:
    for stage in ("pretrain", "finetune"):
        step = next(step for step in mini_plan.steps if step.stage == stage)
        config = {**step.config, stage: {**step.config[stage], "batch_size": 3, "learning_rate": 0.5}}
        changed = STAGES[stage].of(Step.model_validate({**step.model_dump(), "config": config}))
        assert (getattr(changed, stage).batch_size, getattr(changed, stage).learning_rate) == (3, 0.5)
        assert getattr(changed, "architecture").name == step.labels["arch"], "which is no identity, and so not in it"


def test_a_removal_is_the_one_that_was_asked_for(mini_data: Path) -> None:
    step = only(plan(mini_study(treatments=TREATMENTS[:1]), str(mini_data)), "inject")
    removal = STAGES["inject"].of(step).removal  # type: ignore[attr-defined]
    assert (removal.selection, removal.removal, removal.count) == ("rarest", "delete", 3)


@pytest.fixture
def toy() -> Iterator[type[Stage]]:
    class Toy(Stage, name="toy-fields", version="1"):
        content: Flat[dict[str, Any]]
        title: Aside[str]
        shapes: tuple[Architecture, ...]
        limit: int | None
        source: Source | None = None

    yield Toy
    STAGES._known.pop("toy-fields")


def test_what_is_no_identity_is_read_back_wherever_it_stands(toy: type[Stage], mini_plan: Plan) -> None:
    shapes = tuple(mini_study().architectures)
    made = toy(content={"title": "another", "kind": "x"}, title="its name", shapes=shapes, limit=None)  # type: ignore[call-arg]
    read = toy.of(Step.model_validate(made.step.model_dump(mode="json")))
    assert vars(read).items() >= {name: value for name, value in vars(made).items() if name != "step"}.items()
    assert [each.get("name") for each in made.step.config["shapes"]] == [None, None]


@pytest.mark.parametrize("name", ["limit", "shapes", "source"])
def test_two_fields_that_define_the_same_name_are_refused(name: str, toy: type[Stage]) -> None:
    with pytest.raises(TypeError, match=f"content and another field both define .*{name}"):
        toy(content={name: 1}, title="t", shapes=(), limit=3).config()  # type: ignore[call-arg]
