"""A recipe is its fields: a study that names one is the study that spells them out, and what it says itself wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import mini_study, mini_tree
from pydantic import ValidationError

from flows.loading import load_study, to_yaml
from tlm.errors import UserError
from tlm.modeling.options import EncoderOptions
from tlm.study.config import FinetuneConfig, PretrainConfig, StudyConfig
from tlm.study.recipes import RECIPES, with_recipe

GPT = {"name": "one", "kind": "decoder", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}


def bare(**changes: Any) -> dict[str, Any]:
    """The miniature study, which gives lengths and batches alone."""
    return mini_tree(**{"pretrain": {"steps": 6, "batch_size": 8}, "finetune": {"epochs": 2}, **changes})


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_study_with_its_fields_and_no_field_of_its_own(name: str) -> None:
    study = StudyConfig.model_validate({**bare(), "recipe": name})
    for part in ("pretrain", "finetune", "initialization"):
        for field, value in RECIPES[name][part].items():
            found = getattr(getattr(study, part), field)
            if field == "optimizer":
                assert {**found.model_dump(), **value} == found.model_dump()
            else:
                assert found == value
    assert {arch.options for arch in study.architectures} == {EncoderOptions(**RECIPES[name]["options"])}
    assert study.svd_arm == RECIPES[name]["svd_arm"]
    assert "recipe" not in study.model_dump()
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study


def test_the_papers_recipe_is_what_a_study_is_without_one() -> None:
    assert StudyConfig.model_validate({**bare(), "recipe": "paper"}) == StudyConfig.model_validate(bare())


def test_what_a_study_says_itself_wins_field_by_field_and_an_optimizer_as_a_whole() -> None:
    own = {
        "pretrain": {"steps": 6, "packing": False, "optimizer": "adamw"},
        "initialization": {"embedding_std": 0.1},
        "architectures__0__options": {"bias": True},
        "svd_arm": False,
    }
    study = StudyConfig.model_validate({**bare(**own), "recipe": "modern"})
    assert not study.pretrain.packing and study.pretrain.optimizer == PretrainConfig(steps=1).optimizer
    assert study.pretrain.embedding_init == "ppmi_svd" and not study.svd_arm
    assert study.initialization.model_dump() == {"matrices": "fan_in", "embedding_std": 0.1}
    assert study.architectures[0].options == EncoderOptions(**{**RECIPES["modern"]["options"], "bias": True})


def test_models_in_the_place_of_mappings_count_as_what_was_given_to_them() -> None:
    tree = {**bare(), "pretrain": PretrainConfig(steps=6, learning_rate=0.5), "finetune": FinetuneConfig(epochs=2)}
    study = StudyConfig.model_validate({**tree, "recipe": "modern"})
    assert (study.pretrain.learning_rate, study.pretrain.packing, study.finetune.dropout) == (0.5, True, 0.1)


def test_decoders_keep_their_options_and_have_no_bias_on_their_logits() -> None:
    tree = bare(architectures__0={**GPT, "intermediate_size": 32})
    study = StudyConfig.model_validate({**tree, "recipe": "modern"})
    assert study.architectures[0].options.model_dump() == {}
    assert study.pretrain.output_bias == "zeros" and study.pretrain.packing


def test_a_file_and_the_command_line_name_one(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    changes = {"architectures": [{"variant": "bert6"}], "treatment_architectures": None, "committees": []}
    file.write_text(yaml.safe_dump({**bare(**changes), "recipe": "modern"}))
    named = load_study(str(file))
    assert load_study(str(file), ["title=A miniature"]) == named, "an override of another field loses none of it"
    file.write_text(yaml.safe_dump(bare(**changes)))
    assert load_study(str(file), ["recipe=modern"]) == named
    assert load_study(str(file), ["recipe=modern", "pretrain.packing=false"]).pretrain.packing is False
    file.write_text(to_yaml(named))
    assert load_study(str(file)) == named
    paper = load_study(str(file), ["recipe=paper"])
    assert paper == StudyConfig.model_validate(bare(**changes))


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match=r"recipe: unknown 'modem'; choose from \['modern', 'paper'\]"):
        mini_study(recipe="modem")
    with pytest.raises(UserError, match=r"--set recipe=modem: .*choose from"):
        load_study("demo", ["recipe=modem"])
    with pytest.raises(ValueError, match="unknown"):
        with_recipe({}, "modem")


@pytest.mark.parametrize("value", [None, 5, True, "x", [], [5], [None], ["x"], {"kind": [5]}])
@pytest.mark.parametrize("field", ["recipe", "architectures", "pretrain", "finetune", "initialization", "corpus"])
def test_whatever_stands_in_a_field_a_study_with_a_recipe_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        StudyConfig.model_validate({**bare(), "recipe": "modern", field: value})
