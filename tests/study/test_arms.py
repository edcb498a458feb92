"""Arms: other ways to train a study's models, each a study that could be; without any, nothing of a study is changed."""

from __future__ import annotations

from typing import Any

import pytest
from results.made_up import study

from flows.studies import STUDIES
from tlm.study.arms import Arm
from tlm.study.config import StudyConfig
from tlm.study.recipes import RECIPES


def arms(**own: Any) -> list[tuple[str, int | None, StudyConfig]]:
    return list(study(learning_rates={"deep": 1e-3}, arms=own).in_arms())


def test_an_arm_is_its_study_with_other_fields() -> None:
    ((name, steps, found),) = arms(post={"pretrain": {"mlm_probability": 0.4}, "options": {"norm": "rms_norm"}})
    assert (name, steps, found.pretrain.mlm_probability, found.pretrain.steps) == ("post", None, 0.4, 10)
    assert [dict(each.options)["norm"] for each in found.architectures] == ["rms_norm", "rms_norm"]
    assert found.finetune == study().finetune and found.learning_rates == {"deep": 1e-3} and not found.arms


def test_a_budget_is_a_number_of_steps_and_an_arms_rate_is_that_of_every_architecture() -> None:
    found = arms(a={"budgets": [20, 5], "pretrain": {"learning_rate": 1e-2}})
    assert [(steps, own.pretrain.steps, own.learning_rates) for _, steps, own in found] == [(5, 5, {}), (20, 20, {})]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_stands_for_its_fields_and_the_arms_own_win(name: str) -> None:
    arm = Arm.model_validate({"recipe": name, "pretrain": {"packing": "mine"}})
    assert arm.pretrain["packing"] == "mine" and arm.options == RECIPES[name]["options"]
    assert arm.finetune["learning_rate"] == RECIPES[name]["finetune"]["learning_rate"]
    assert Arm.model_validate_json(arm.model_dump_json()) == arm


def test_without_arms_no_key_knows_of_them() -> None:
    assert "arms" not in study().identity() and not list(study().in_arms())


@pytest.mark.parametrize(
    ("arm", "problem"),
    [
        ({"pretrain": {"stepz": 1}}, r"arms\.a: pretrain\.stepz: Extra inputs"),
        ({"options": {"norm": "none"}}, r"arms\.a: architectures\.options\.norm: Input should be"),
        ({"recipe": "old"}, r"recipe: unknown 'old'; choose from \['modern', 'paper'\]"),
        ({"finetune": {"precision": "auto"}}, "precision: auto is the study's to choose"),
        ({"budgets": [5, 5]}, r"each number of steps once"),
        ({"finetune": {"layer_decay": 2}}, r"arms\.a: finetune\.layer_decay: Input should be less"),
    ],
)
def test_a_field_that_cannot_be_is_named(arm: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        study(arms={"a": arm})


def test_arms_go_with_no_committee() -> None:
    with pytest.raises(ValueError, match="a study with arms has no committees"):
        study(arms={"a": {}}, committees=[{"name": "both", "members": ["deep"]}])


def test_an_arm_may_read_another_tokenizer_with_models_of_the_same_names() -> None:
    pooling = STUDIES["byte-pooling"]("tiny")
    own = {arm: of_arm for arm, _, of_arm in pooling.in_arms()}
    assert [each.name for each in own["bytes"].architectures] == [each.name for each in pooling.architectures]
    kinds = {arm: (each.tokenizer.kind, each.architectures[0].kind, each.max_length) for arm, each in own.items()}
    assert kinds == {
        "subword": ("wordpiece", "llama", 64),
        "bytes": ("bytes", "bytes", 303),
        "bytes-flops": ("bytes", "bytes", 303),
    }
    assert "tokenizer" not in Arm().identity()
    other = pooling.arms["bytes"].model_copy(
        update={"architectures": ({**pooling.arms["bytes"].architectures[0], "name": "x"},)}
    )
    fields = {name: getattr(pooling, name) for name in StudyConfig.model_fields}
    with pytest.raises(ValueError, match=r"arms.bytes: .*have the names of the study's, \['stlm'\]"):
        StudyConfig.model_validate({**fields, "arms": {"bytes": other}})
