"""A family of models from outside the package: a bag of words, in which each position reads itself and the mean of all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from helpers import mini_study, only
from outside import SMALL, assert_planned_run_cached_and_catalogued, assert_read_and_set
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel

from tlm.errors import UserError
from tlm.modeling.families.base import ModelFamily, Shape, Transfer
from tlm.modeling.layout import Layout, Queries
from tlm.study.architecture import Architecture
from tlm.study.base import added
from tlm.study.families import FAMILIES, Options


class BagOptions(Options):
    activation: Literal["relu", "tanh"] = "relu"
    depth: int = added(1)


class BagConfig(PreTrainedConfig):
    model_type = "toy_bag"
    kind: ClassVar[str] = "toy-bag"

    vocab_size: int = 300
    hidden_size: int = 8
    intermediate_size: int = 16
    activation: str = "relu"


class BagModel(PreTrainedModel):
    config_class = BagConfig
    base_model_prefix = "bag"

    def __init__(self, config: BagConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wide = nn.Linear(2 * config.hidden_size, config.intermediate_size)
        self.narrow = nn.Linear(config.intermediate_size, config.hidden_size)

    def rows(self, ids_R: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """What is read at each row (R, D), and the mean of each sequence (B, D)."""
        words_RD, sequence_R = self.words(ids_R), layout.sequence_of()[layout.real_R]
        sums_BD = words_RD.new_zeros(layout.sequences, words_RD.shape[1])
        sums_BD = sums_BD.index_add(0, sequence_R, words_RD[layout.real_R])
        mean_BD = sums_BD / torch.bincount(sequence_R, minlength=layout.sequences).unsqueeze(1)
        both = torch.cat([words_RD, mean_BD[layout.sequence_of()]], dim=1)
        return self.narrow(getattr(torch, self.config.activation)(self.wide(both))), mean_BD


class BagForMaskedLM(BagModel):
    def __init__(self, config: BagConfig) -> None:
        super().__init__(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.post_init()

    def logits(self, ids_R: Tensor, layout: Layout, queries: Queries) -> Tensor:
        return F.linear(self.rows(ids_R, layout)[0][queries.rows_N], self.words.weight, self.bias)

    def loss(self, labels_N: Tensor, **inputs: Any) -> Tensor:
        return F.cross_entropy(self.logits(**inputs), labels_N)


class BagForSequenceClassification(BagModel):
    def __init__(self, config: BagConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def logits(self, ids_R: Tensor, layout: Layout) -> Tensor:
        return self.score(self.rows(ids_R, layout)[1])

    def loss(self, labels_B: Tensor, **inputs: Any) -> Tensor:
        return F.cross_entropy(self.logits(**inputs), labels_B)


class Bag(ModelFamily):
    kind = "toy-bag"
    causal = False
    default_objective = "masked"
    heldout_batch_size = 32
    options = BagOptions
    transfer = Transfer(classifier_only=("score.",), language_model_only=("bias",), meaning=("activation",))
    language_model = BagForMaskedLM
    classifier = BagForSequenceClassification

    def check(self, architecture: Architecture) -> None:
        if architecture.num_hidden_layers != 1:
            raise ValueError(f"num_hidden_layers={architecture.num_hidden_layers}: a bag has 1")

    def configure(
        self, architecture: Architecture, vocabulary: Any, max_length: int, num_labels: int | None = None
    ) -> BagConfig:
        assert isinstance(architecture.options, BagOptions)
        labels = {} if num_labels is None else {"num_labels": num_labels}
        return BagConfig(
            vocab_size=len(vocabulary),
            hidden_size=architecture.hidden_size,
            intermediate_size=architecture.intermediate_size,
            activation=architecture.options.activation,
            **labels,
        )

    def parameters(
        self, shape: Shape, *, vocab_size: int, max_position_embeddings: int, num_labels: int | None = None
    ) -> int:
        size, wide = shape.hidden_size, shape.intermediate_size
        network = vocab_size * size + (2 * size + 1) * wide + (wide + 1) * size
        return network + (vocab_size if num_labels is None else (size + 1) * num_labels)

    def classifier_flops(self, shape: Shape, seq_len: int, num_labels: int) -> int:
        return 6 * seq_len * shape.hidden_size * shape.intermediate_size + 2 * shape.hidden_size * num_labels

    def language_model_flops(self, shape: Shape, seq_len: int, predicted: int, vocab_size: int) -> int:
        return (
            6 * seq_len * shape.hidden_size * shape.intermediate_size + 2 * shape.hidden_size * vocab_size * predicted
        )

    def sequential_depth(self, shape: Shape) -> int:
        return 3


FAMILIES.register(Bag.kind, Bag())

BAG = {"name": "one", "kind": "toy-bag", "options": {"activation": "tanh"}, **SMALL}


def test_a_study_with_it_is_planned_run_cached_and_catalogued(mini_data: Path, tmp_path: Path) -> None:
    study = mini_study(architectures__0=BAG)
    planned, store = assert_planned_run_cached_and_catalogued(study, mini_data, tmp_path / "home")
    pretrained, finetuned = (only(planned, stage, ws=60, arch="one") for stage in ("pretrain", "finetune"))
    facts = {step.stage: store.get(step.ref).record.facts for step in (pretrained, finetuned)}
    assert math.isfinite(float(str(facts["pretrain"]["heldout_loss"])))
    words, sizes = 300, {"max_position_embeddings": 16}
    vocab_size = int(str(store.get(only(planned, "tokenizer").ref).record.facts["vocab_size"]))
    assert vocab_size <= words
    for stage, labels in (("pretrain", None), ("finetune", 2)):
        expected = Bag().parameters(study.architectures[0], vocab_size=vocab_size, num_labels=labels, **sizes)
        assert facts[stage]["parameters"] == expected


def test_files_json_and_the_command_line_know_its_fields(tmp_path: Path) -> None:
    overrides = ["architectures.one.kind=toy-bag", "architectures.one.options.activation=tanh"]
    assert_read_and_set({"architectures__0": BAG}, overrides, tmp_path)


def test_a_field_added_to_it_with_a_default_changes_no_key() -> None:
    assert Architecture(**BAG).identity()["options"] == {"activation": "tanh"}
    assert Architecture(**{**BAG, "options": {"depth": 2}}).identity()["options"] == {"activation": "relu", "depth": 2}


def test_what_it_does_not_allow_is_refused_and_so_is_a_kind_that_is_not_there() -> None:
    for change, problem in (
        ({"num_hidden_layers": 2}, "num_hidden_layers=2: a bag has 1"),
        ({"options": {"colour": "red"}}, r"options.colour\n  Extra inputs"),
        ({"kind": "encoder"}, r"options.activation\n  Extra inputs"),
        ({"kind": "mamba"}, "unknown kind of model 'mamba'; choose from .*'decoder', 'encoder'.*'toy-bag'"),
    ):
        with pytest.raises(ValidationError, match=problem):
            Architecture(**{**BAG, **change})


def test_objectives_that_need_another_kind_of_model_are_refused() -> None:
    assert mini_study(architectures__0=BAG, pretrain__objective="masked").pretrain.objective is not None
    with pytest.raises(UserError, match="pretrain.objective: causal does not work with models of kind toy-bag"):
        mini_study(architectures__0=BAG, pretrain__objective="causal")


def test_a_name_is_one_familys_alone() -> None:
    class Other(Bag):
        pass

    for taken in ("encoder", "toy-bag"):
        with pytest.raises(ValueError, match=f"there is another kind of model '{taken}'"):
            FAMILIES.register(taken, Other())
