"""An objective from outside the package, with a head of its own: which tokens are not those of the text?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import torch
from helpers import mini_study, only
from outside import assert_planned_run_cached_and_catalogued, assert_read_and_set
from torch import Tensor, nn
from torch.nn import functional as F

from flows.loading import load_study, to_yaml
from tlm.errors import UserError
from tlm.modeling.layout import Layout
from tlm.study.base import added
from tlm.study.config import PretrainConfig
from tlm.study.families import Family
from tlm.training.objectives.base import LanguageObjective, Sums


class Detector(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.config.hidden_size, 1)

    def logits(self, ids_R: Tensor, layout: Layout) -> Tensor:
        return self.head(self.model.bert.encode(ids_R, layout)).squeeze(1)[layout.real_R]

    def loss(self, labels_N: Tensor, **inputs: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits(**inputs), labels_N)


class Detection(LanguageObjective):
    kind: Literal["toy-detection"] = "toy-detection"
    share: float = 0.3
    sharpness: float = added(1.0)

    def works_with(self, family: Family) -> bool:
        return family.kind == "encoder"

    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        return 0.0

    def inputs(self, batch: Any, vocabulary: Any, config: PretrainConfig, *, seed: int, step: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(1_000 * seed + step)
        other_R = torch.randint(len(vocabulary), batch.ids_R.shape, generator=generator)
        replaced_R = torch.rand(batch.ids_R.shape, generator=generator) < self.share
        ids_R = torch.where(replaced_R, other_R, batch.ids_R)
        changed_N = (ids_R != batch.ids_R)[batch.layout.real_R]
        return {"ids_R": ids_R, "layout": batch.layout, "labels_N": changed_N.float()}

    def trained_module(self, model: Any) -> nn.Module:
        return Detector(model)

    def heldout_sums(self, module: Any, inputs: Mapping[str, Any]) -> Sums:
        others = dict(inputs)
        labels_N = others.pop("labels_N")
        logits_N = module.logits(**others)
        loss = F.binary_cross_entropy_with_logits(logits_N, labels_N, reduction="sum")
        right, count = ((logits_N > 0) == labels_N.bool()).sum(), len(labels_N)
        return {"loss": (loss, count), "accuracy": (right, count), "one": (logits_N.numel(), count)}


CHANGES = {"pretrain__objective": {"kind": "toy-detection", "share": 0.4}}


def test_a_study_with_it_is_planned_run_cached_and_catalogued(mini_data: Path, tmp_path: Path) -> None:
    study = mini_study(**CHANGES)
    planned, store = assert_planned_run_cached_and_catalogued(study, mini_data, tmp_path / "home")
    made = store.get(only(planned, "pretrain", ws=60, arch="one").ref)
    curve = pd.read_parquet(made.path("metrics.parquet")).groupby("name")["value"].apply(list)
    assert set(curve["heldout_one"]) == {1.0}, "a metric beside loss and accuracy"
    assert made.record.facts["heldout_loss"] == curve["heldout_loss"][-1]
    assert 0 <= curve["heldout_accuracy"][-1] <= 1


def test_files_json_and_the_command_line_know_its_fields(tmp_path: Path) -> None:
    overrides = ["pretrain.objective.kind=toy-detection", "pretrain.objective.share=0.4"]
    assert_read_and_set(CHANGES, overrides, tmp_path)


def test_a_field_added_to_it_with_a_default_changes_no_key() -> None:
    assert mini_study(**CHANGES).pretrain.identity()["objective"] == {"kind": "toy-detection", "share": 0.4}
    assert "objective" not in mini_study().pretrain.identity()


def test_a_family_it_does_not_work_with_is_refused_before_any_work() -> None:
    decoder = {**mini_study().architectures[0].model_dump(), "kind": "decoder"}
    with pytest.raises(UserError, match="toy-detection does not work with models of kind decoder.*Leave it out"):
        mini_study(architectures__0=decoder, **CHANGES)


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        ("pretrain.objective=elctra", "unknown objective 'elctra'; choose from .*'masked'.*'toy-detection'"),
        ("pretrain.objective.share=0.4", "pretrain.objective: kind: choose from"),
        ("pretrain.objective={kind: masked, share: 0.4}", "pretrain.objective.share: unknown field"),
    ],
)
def test_a_wrong_name_or_field_is_an_error_that_says_what_there_is(wrong: str, known: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(to_yaml(mini_study()))
    with pytest.raises(UserError, match=known):
        load_study(str(file), [wrong])
