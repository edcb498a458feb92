"""What models are compared by comes first, and in the same words for every kind of model."""

from __future__ import annotations

import pytest
from helpers import Mini, only

from tasks.tracking.described import FIRST_PARAMS, labels_of, numbers_of, params_of, run_name, slug_of
from tlm.artifacts.step import Step


def test_every_model_has_what_it_is_compared_by_before_its_configuration(mini: Mini) -> None:
    models = [step for step in mini.plan.steps if step.stage in ("pretrain", "finetune", "committee", "baseline")]
    assert {step.stage for step in models} == {"pretrain", "finetune", "committee", "baseline"}
    for step in models:
        params = params_of(step)
        known = {name: str(value) for name, value in step.labels.items() if value is not None and name != "treatment"}
        assert known.items() <= params.items()
        first = [name for name in FIRST_PARAMS if name in step.labels and name in params]
        assert [*params][: len(first)] == first
        assert "treatment" not in step.labels or params["treatment"] == (step.labels["treatment"] or "none")
    finetuned = params_of(only(mini.plan, "finetune", ws=60, arch="one"))
    assert next(iter(finetuned)) == "ws" and finetuned["init"] == "pretrained"


def test_the_first_metric_of_what_tells_labels_is_its_test_accuracy(mini: Mini) -> None:
    for step in mini.plan.steps:
        numbers = numbers_of(mini.store.get(step.ref).record)
        assert [*numbers][-1] == "seconds"
        if step.stage in ("finetune", "committee", "baseline"):
            assert next(iter(numbers)) == "test_accuracy"
    committee = mini.store.get(only(mini.plan, "committee", ws=60).ref).record
    assert numbers_of(committee)["test_accuracy"] == committee.facts["accuracy"]["soft"]


def test_a_dry_run_of_an_earlier_version_is_told_by_its_configuration(mini: Mini) -> None:
    step = only(mini.plan, "pretrain", arch="one", ws=60)
    assert "dry_run" not in {**labels_of(step), **params_of(step)} and "(dry run)" not in run_name(step)
    early = Step.model_validate({**step.model_dump(), "config": {**step.config, "pretrain": {"max_steps": 3}}})
    assert "dry_run" not in early.labels
    assert run_name(early).endswith(" (dry run)")
    assert labels_of(early)["dry_run"] is True and params_of(early)["dry_run"] == "True"


@pytest.mark.parametrize("name", ["topics-one-ws60-f0 finetune", "finetune/topics-one-ws60-f0"])
def test_a_run_is_found_by_its_name_and_by_that_of_an_earlier_version(name: str) -> None:
    step = Step(stage="finetune", version="4", config={}, inputs={}, slug="topics-one-ws60-f0")
    assert run_name(step) == "topics-one-ws60-f0 finetune" and slug_of(name) == step.slug
