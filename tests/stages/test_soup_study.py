"""Soups of a study: of each pre-trained model the mean of its fine-tunings, a model like any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import Mini, mini_study, only
from safetensors.torch import load_file

from tlm.artifacts.marts import build_memory
from tlm.execution.execute import execute
from tlm.inference.models import Classifier
from tlm.inference.resolve import find_classifiers
from tlm.modeling.averaging import average_weights
from tlm.planning.plan import plan
from tlm.report.evidence import Evidence
from tlm.report.study_systems import in_arm
from tlm.stages import STAGES

SOUPS: dict[str, Any] = {"soups": ["conv"], "finetune_seeds": [0, 1], "treatments": []}


def test_a_soup_is_made_of_the_fine_tunings_of_one_pre_trained_model_and_of_no_scratch(mini: Mini) -> None:
    planned = plan(mini_study(**SOUPS, pretrain_seeds=[4, 0]), mini.runtime.data_root)
    by_key = {step.key: step for step in planned.steps}
    soups = [step for step in planned.steps if step.stage == "soup"]
    assert {(step.labels["ws"], step.labels["pretrain_seed"]) for step in soups} == {
        (ws, seed) for ws in (60, 120) for seed in (4, 0)
    }
    for step in soups:
        members = [by_key[ref.key] for name, ref in step.inputs.items() if name.startswith("member")]
        assert [member.labels["finetune_seed"] for member in members] == [0, 1]
        assert len({member.inputs["pretrained"].key for member in members}) == 1


def test_a_soup_has_the_mean_of_its_members_weights_and_answers_like_any_model(own: Mini) -> None:
    planned = plan(mini_study(**SOUPS), own.runtime.data_root)
    soup = only(planned, "soup", ws=60)
    members = [step for step in planned.steps if step.key in soup.input_keys.values() and step.stage == "finetune"]
    for step in (*members, soup):
        execute(step, own.runtime)
    states = [load_file(own.folder(step) / "model.safetensors") for step in (*members, soup)]
    for name, found in states[-1].items():
        if found.is_floating_point():
            mean = torch.stack([state[name].double() for state in states[:-1]]).mean(dim=0)
            torch.testing.assert_close(found, mean.float())
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    predicted, record = own.frame(soup, "predictions.parquet"), own.store.get(soup.ref).record
    right = np.stack(predicted["logits"].to_list()).argmax(axis=1) == predicted["label"]
    assert record.facts["test_accuracy"] == pytest.approx(right[predicted["part"] == "test"].mean())
    assert find_classifiers(own.store, [str(soup.ref)]) == [soup.ref]
    assert Classifier.load(own.store, soup.ref).logits(["one old ship"]).shape == (1, 2)
    with build_memory(own.store, list(own.store.records()), STAGES) as connection:
        correct = Evidence(connection, planned.study).correct("topics", in_arm("conv", "soup", None), 60, kind="soup")
    assert correct is not None and correct.mean() == pytest.approx(record.facts["test_accuracy"])


def test_models_of_other_shapes_have_no_mean() -> None:
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    with pytest.raises(ValueError, match="names or shapes"):
        average_weights([small, large])  # type: ignore[type-var]
    with pytest.raises(ValueError, match="no models"):
        average_weights([])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"soups": ["two"]}, r"soups: unknown \['two'\]"),
        ({"finetune_seeds": [0]}, "several fine-tunings of one pre-training"),
        ({"seeds": "paired", "pretrain_seeds": [0, 1]}, "several fine-tunings of one pre-training"),
        ({"corpus__sizes": [0]}, "several fine-tunings of one pre-training"),
    ],
)
def test_a_study_that_has_nothing_to_average_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mini_study(**{**SOUPS, **change})
