"""Compressed models of a study: models like any other, beside those that they were made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import Mini, mini_study, mini_tree, only
from safetensors.torch import load_file

from tlm.artifacts.marts import build_memory
from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.inference.models import Classifier
from tlm.inference.resolve import find_classifiers
from tlm.planning.plan import Plan, plan
from tlm.report.evidence import Evidence
from tlm.report.study_systems import in_arm
from tlm.stages import STAGES

ASKED: list[dict[str, Any]] = [
    {"kind": "compression", "method": "int8"},
    *({"kind": "compression", "method": method, "share": 0.5} for method in ("magnitude", "wanda", "neurons", "heads")),
]
TITLES = ("int8", "magnitude 50 %", "wanda 50 %", "neurons 50 %", "heads 50 %")
STUDY: dict[str, Any] = {"treatments": [], "committees": [], "corpus__sizes": [0, 60]}

DECODER = {**mini_tree()["architectures"][0], "kind": "decoder"}


def planned(mini: Mini, asked: list[dict[str, Any]], **changes: Any) -> Plan:
    return plan(mini_study(**{**STUDY, **changes}, evaluations=asked), mini.runtime.data_root)


def test_every_fine_tuning_is_compressed_and_one_of_each_architecture_is_timed(mini: Mini) -> None:
    found = planned(mini, ASKED)
    finetuned = {step.key for step in found.steps if step.stage == "finetune"}
    compressed = [step for step in found.steps if step.stage == "compress"]
    assert len(compressed) == len(ASKED) * len(finetuned)
    assert {(step.inputs["model"].key, step.labels["arm"]) for step in compressed} == {
        (key, title) for key in finetuned for title in TITLES
    }
    timed = [(step.labels["arch"], step.labels.get("arm")) for step in found.steps if step.stage == "latency"]
    assert sorted(timed, key=str) == sorted(((a, t) for a in ("one", "conv") for t in (None, *TITLES)), key=str)
    before = {step.key for step in plan(mini_study(**STUDY), mini.runtime.data_root).steps}
    assert {step.stage for step in found.steps if step.key not in before} == {"compress", "latency", "report"}


def test_each_compressed_model_is_stored_smaller_and_answers_like_any_model(own: Mini) -> None:
    found = planned(own, ASKED)
    given = only(found, "finetune", ws=60, arch="one")
    made = {title: only(found, "compress", ws=60, arch="one", arm=title) for title in TITLES}
    timed = only(found, "latency", arch="one", arm="int8")
    for step in (*needed(found, [*made.values(), timed]), *made.values(), timed):
        execute(step, own.runtime)
    whole = (own.folder(given) / "model.safetensors").stat().st_size
    facts = {title: own.store.get(step.ref).record.facts for title, step in made.items()}
    for title, step in made.items():
        file = own.folder(step) / "model.safetensors"
        assert facts[title]["stored_bytes"] == file.stat().st_size < whole == facts[title]["stored_bytes_before"]
        predicted = own.frame(step, "predictions.parquet")
        right = np.stack(predicted["logits"].to_list()).argmax(axis=1) == predicted["label"]
        assert facts[title]["test_accuracy"] == pytest.approx(right[predicted["part"] == "test"].mean())
        assert {*predicted["item_id"]} == {*own.frame(given, "predictions.parquet")["item_id"]}
        assert find_classifiers(own.store, [str(step.ref)]) == [step.ref]
        assert Classifier.load(own.store, step.ref).logits(["one old ship"]).shape == (1, 2)
    assert facts["int8"]["stored_bytes"] < 0.5 * whole, "the header is much of so small a file"
    assert facts["magnitude 50 %"]["share_of_layers_removed"] == pytest.approx(0.5, abs=0.01)
    assert facts["wanda 50 %"]["share_of_layers_removed"] == pytest.approx(0.5, abs=0.01)
    assert facts["neurons 50 %"]["parameters"] == facts["int8"]["parameters"] - 16 * (16 + 1 + 16)
    assert facts["heads 50 %"]["parameters"] == facts["int8"]["parameters"] - 8 * (4 * 16 + 3)
    with build_memory(own.store, list(own.store.records()), STAGES) as connection:
        evidence = Evidence(connection, found.study)
        for title in TITLES:
            correct = evidence.correct("topics", in_arm("one", title, None), 60, kind="compress")
            assert correct is not None and correct.mean() == pytest.approx(facts[title]["test_accuracy"])


@pytest.mark.parametrize("method", ["magnitude", "wanda", "neurons", "heads"])
def test_what_prunes_nothing_changes_no_bit(method: str, own: Mini) -> None:
    found = planned(own, [{"kind": "compression", "method": method, "share": 0.0}])
    given, made = only(found, "finetune", ws=0, arch="conv"), only(found, "compress", ws=0, arch="conv")
    for step in (*needed(found, [made]), made):
        execute(step, own.runtime)
    before, after = (load_file(own.folder(step) / "model.safetensors") for step in (given, made))
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
    logits = [
        own.frame(step, "predictions.parquet").sort_values("item_id")["logits"].to_list() for step in (given, made)
    ]
    assert np.array_equal(*map(np.stack, logits))


def needed(found: Plan, steps: list[Step]) -> list[Step]:
    """What these are made from, in order."""
    keys = {key for step in steps for key in step.input_keys.values()}
    for step in reversed(found.steps):
        keys |= set(step.input_keys.values()) if step.key in keys else set()
    return [step for step in found.steps if step.key in keys]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"method": "int4"}, "'int8', 'magnitude', 'wanda', 'neurons' or 'heads'"),
        ({"method": "int8", "share": 0.5}, "method: int8 takes no share"),
        ({"method": "heads"}, "method: heads needs a share"),
        ({"method": "wanda", "share": 1.0}, "less than 1"),
        ({"method": "wanda", "share": -0.1}, "greater than or equal to 0"),
    ],
)
def test_what_no_compression_is_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mini_study(evaluations=[{"kind": "compression", **asked}])


@pytest.mark.parametrize(
    ("asked", "changes", "said"),
    [
        ({"method": "heads", "share": 0.8}, {}, r"share: 0\.8 of one's 2 heads is all of them"),
        ({"method": "neurons", "share": 0.99}, {}, r"share: 0\.99 of one's 32 neurons is all of them"),
        (
            {"method": "heads", "share": 0.5},
            {"architectures": [DECODER]},
            r"no heads can be taken out of models of kind decoder \(one\)",
        ),
        ({"method": "int8"}, {"tasks": [], "baselines": []}, "there is none"),
    ],
)
def test_what_a_model_has_not_is_refused_before_any_work(
    asked: dict[str, Any], changes: dict[str, Any], said: str, mini: Mini
) -> None:
    with pytest.raises(UserError, match=said):
        planned(mini, [{"kind": "compression", **asked}], treatment_architectures=None, **changes)
