"""What an experiment *is*: frozen pydantic models, every field part of a result's identity.

What merely runs it (device, workers, paths) is `tlm.machine.runtime.Runtime`. Field names are the field's standard terms.
Protocol values are those of arXiv 2507.14871 and its released code.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, SerializeAsAny, field_validator, model_validator

from tlm.errors import UserError
from tlm.study.architecture import Architecture
from tlm.study.arms import Arm
from tlm.study.base import Frozen, Name, Precision, Probability, Registered, Seed, added, slugify
from tlm.study.checks import different, first_complaint, known, unique
from tlm.study.distillation import DistillationConfig, check_students
from tlm.study.families import Family
from tlm.study.fits import check_models, check_parts, check_sizes
from tlm.study.initialization import EmbeddingInit, Initialization, PpmiSvdConfig
from tlm.study.recipes import with_recipe
from tlm.study.soups import check_soups
from tlm.study.sources import Source
from tlm.study.tokenizers import TokenizerConfig
from tlm.study.treatments import Treatment

# --- data ---


class CorpusConfig(Frozen):
    """The pre-training sets: nested samples of `source`, one for each Ws in `sizes` (0: train from scratch)."""

    source: Source
    sizes: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, description="Ws: paragraphs to pre-train on")
    heldout: PositiveInt = Field(1_000, description="paragraphs kept out of every sample, for MLM validation")
    sampler: Name = "random"
    seed: Seed = 0

    @field_validator("sizes")
    @classmethod
    def _sizes_are_distinct(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(sizes)) != len(sizes):
            raise ValueError(f"each Ws once, got {list(sizes)}")
        return tuple(sorted(sizes))


class ItemSelection(Frozen):
    """How many items of each label to take from a labelled source, and by which seed."""

    train_per_label: PositiveInt
    dev_per_label: PositiveInt = Field(description="taken from the training items; never from test")
    test_per_label: PositiveInt
    labels: Annotated[int, Field(ge=2)] | None = Field(None, description="keep this many labels (default: all)")
    seed: Seed = 0

    @model_validator(mode="after")
    def _dev_leaves_training_items(self) -> ItemSelection:
        if self.dev_per_label >= self.train_per_label:
            raise ValueError(
                f"dev_per_label={self.dev_per_label} is taken from train_per_label={self.train_per_label} "
                "and must be smaller"
            )
        return self


class TaskConfig(ItemSelection):
    """A text classification task: a labelled source, cut to a number of items for each label."""

    name: Name
    source: Source

    @property
    def selection(self) -> ItemSelection:
        return ItemSelection.model_validate(self.model_dump(include=set(ItemSelection.model_fields)))


# --- training ---


class Optimizer(
    Registered, noun="optimizer", own={kind: f"tlm.training.optimizers.{kind}" for kind in ("adamw", "muon")}
):
    """How gradients change weights. Learning rate and weight decay are fields of `Optimisation`, others its own."""

    @abstractmethod
    def build(self, model: Any, config: Optimisation) -> Any:
        """A torch.optim.Optimizer over the parameters of `model`, a torch module.

        The training loop sets `lr` of every parameter group before each step, to the scheduled rate times the group's own
        `lr_scale` if it has one. A checkpoint keeps the optimizer's
        `state_dict()`: tensors, numbers, booleans and strings in it, and in its parameter groups.
        """


class Objective(
    Registered,
    noun="objective",
    own={kind: f"tlm.training.objectives.{kind}" for kind in ("masked", "causal", "hybrid", "multi_token", "replaced")},
):
    """What a language model is pre-trained to do. How it does so is a `tlm.training.objectives.base.LanguageObjective`."""

    masks: ClassVar[bool] = False
    """Whether it needs a [MASK]."""
    trains_head: ClassVar[bool] = True
    """Whether it trains the model's language modelling head, which scores by likelihood ask."""
    trains_exits: ClassVar[bool] = True
    """Whether it trains that head after each exit too, in models that have some: by asking for the model's own loss."""

    @abstractmethod
    def works_with(self, family: Family) -> bool:
        """Whether models of this family can be trained with it."""

    @abstractmethod
    def predicted_positions(self, config: PretrainConfig, length: int) -> float:
        """How many positions of a sequence of `length` tokens, [CLS] and [SEP] counted, are predicted on average."""


class Optimisation(Frozen):
    """How a model is trained: by default AdamW with linear decay, as in the reference code."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    batch_size: PositiveInt = 32
    warmup_share: Probability = 0.0
    schedule: Literal["step", "epoch"] = Field("step", description="'epoch': the reference code's decay, once an epoch")
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    max_steps: PositiveInt | None = Field(
        None, description="stop after so many steps, whatever else is asked (dry runs)"
    )
    precision: Precision = Field(
        "auto",
        description="auto: the one that a short measurement on this machine finds faster, or that a home's models have "
        "already; what it was is recorded",
    )
    optimizer: SerializeAsAny[Optimizer] = added(
        default_factory=lambda: Optimizer.registry["adamw"](), description="its kind, and fields that only it has"
    )
    dropout: Probability | None = added(
        None, description="of hidden states and attention weights in this training; default: the architecture's two"
    )


class PretrainConfig(Optimisation):
    """Pre-training of a language model; by default with the objective of the model's family."""

    epochs: PositiveInt | None = None
    steps: PositiveInt | None = Field(None, description="instead of epochs: the same number of batches at every Ws")
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="share of positions that masked language modelling predicts (80/10/10, never special tokens)"
    )
    objective: SerializeAsAny[Objective] | None = added(None, description="default: that of each model's family")
    packing: bool = added(
        False,
        description="whole paragraphs one after another, [SEP] between, cut into rows of max_length that are attended to "
        "whole: nothing of Ws is cut off. Otherwise a row is the beginning of a paragraph",
    )
    embedding_init: EmbeddingInit = added(
        "normal", description="ppmi_svd: tokens begin as vectors made from the pre-training set's counts"
    )
    output_bias: Literal["zeros", "log_unigram"] = added(
        "zeros", description="what the bias of the vocabulary's logits begins as; log_unigram: of the pre-training set"
    )

    dropout_schedule: Literal["constant", "early", "late"] = added(
        "constant", description="which steps have dropout: all, those of the first `dropout_share`, or those after it"
    )
    dropout_share: Annotated[float, Field(gt=0, lt=1)] = added(0.5, description="of the steps, of that schedule")
    layer_drop: Annotated[float, Field(ge=0, lt=1)] = added(
        0.0, description="probability that a step goes without the last layer; it rises linearly from 0 of the first"
    )

    @model_validator(mode="after")
    def _one_length(self) -> PretrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if self.dropout_schedule == "constant" and self.dropout_share != 0.5:
            raise ValueError(
                f"dropout_share={self.dropout_share:g} is that of dropout_schedule early or late, and it is constant"
            )
        return self

    def objective_for(self, family: Family) -> Objective:
        """What models of a family are pre-trained with. Raises UserError if the objective does not work with them."""
        objective: Objective = self.objective or Objective.registry[family.default_objective]()
        if not objective.works_with(family):
            raise UserError(
                f"pretrain.objective: {objective.kind} does not work with models of kind {family.kind}.",
                f"Leave it out, and each kind of model has its own ({family.kind}: {family.default_objective}).",
            )
        return objective

    def of_family(self, family: Family) -> PretrainConfig:
        """It for models of a family: an objective that is theirs anyway is left out, and so trains nothing anew."""
        default = self.objective and Objective.registry[family.default_objective]()
        return self.model_copy(update={"objective": None}) if self.objective == default else self


class FinetuneConfig(Optimisation):
    """Classification from the [CLS] pooler; the last epoch is the result."""

    epochs: PositiveInt = 10
    layer_decay: Annotated[float, Field(gt=0, le=1)] = added(
        1.0, description="each layer learns at this share of the rate of the one above it; the head at the whole rate"
    )


class Evaluation(
    Registered,
    noun="evaluation",
    own={name: f"tlm.study.{name}" for name in ("compression", "early_exit", "likelihood")},
):
    """A further evaluation of a study's models: what it needs to know. The stage that does it names it (`asked_by`)."""


class CommitteeConfig(Frozen):
    """A committee: every listed architecture, each with every pre-training and fine-tuning seed."""

    name: Name
    members: tuple[Name, ...] = Field(min_length=1)


# --- a study ---


class StudyConfig(Frozen):
    """One study: corpora × architectures × tasks × seeds, with its treatments, committees and baselines.

    In a study file, `recipe: modern` stands for the fields of `tlm.study.recipes`.
    """

    name: Name
    title: str = ""
    analysis: Name | None = Field(None, description="the question that `tlm report` answers from it (`tlm.results`)")
    scale: Name | None = Field(None, description="how large it is (tiny, small, paper); for the reader alone")
    corpus: CorpusConfig
    tokenizer: SerializeAsAny[TokenizerConfig]
    max_length: Annotated[int, Field(ge=8, le=4_096)] = 128
    architectures: tuple[Architecture, ...] = Field(min_length=1)
    tasks: tuple[TaskConfig, ...] = Field((), description="to fine-tune on; none in a study that has evaluations alone")
    pretrain: PretrainConfig
    finetune: FinetuneConfig = Field(
        FinetuneConfig(), description="how models learn tasks; a study that has some says it"
    )
    learning_rates: dict[Name, Annotated[float, Field(gt=0)]] = Field(
        {}, description="of pre-training, for architectures that need another than `pretrain` has"
    )
    finetune_learning_rates: dict[Name, Annotated[float, Field(gt=0)]] = Field(
        {}, description="of fine-tuning, for architectures that need another than `finetune` has"
    )
    pretrain_seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    finetune_seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    further_scratch_seeds: tuple[Seed, ...] = Field(
        (),
        description="of fine-tunings from scratch beside those of `finetune_seeds`: they cost no pre-training, and "
        "every gap is taken against them; in no committee",
    )
    seeds: Literal["crossed", "paired"] = Field(
        "crossed",
        description="crossed: every pre-training is fine-tuned with every fine-tuning seed; paired: the i-th with the i-th",
    )
    initialization: Initialization = added(Initialization(), description="what all models' weights begin as")
    ppmi_svd: PpmiSvdConfig = added(PpmiSvdConfig(), description="how word vectors are made from counts")
    svd_arm: bool = added(
        False,
        description="fine-tune also from scratch with word vectors from each set's counts: what pre-training adds to those",
    )
    architecture_sizes: dict[Name, tuple[PositiveInt, ...]] = added(
        {},
        description="the Ws of `corpus.sizes` that an architecture is pre-trained on, where not all: the largest is one",
    )
    treatments: tuple[Treatment, ...] = Field((), description="further pre-training sets (`tlm.study.treatments`)")
    treatment_architectures: tuple[Name, ...] | None = Field(None, description="default: all of them")
    committees: tuple[CommitteeConfig, ...] = ()
    latency: bool = added(
        True, description="time the answers of models in committees; what is here without weights cannot be timed"
    )
    distillation: DistillationConfig | None = added(None, description="students of a committee, beside its members")
    soups: tuple[Name, ...] = added((), description="architectures whose fine-tunings of one pre-training are averaged")
    baselines: tuple[Name, ...] = ("majority", "tfidf")
    evaluations: tuple[SerializeAsAny[Evaluation], ...] = added((), description="further evaluations of its models")
    arms: dict[Name, Arm] = added(
        {}, description="ways to train, set beside each other; its models are then those of its arms, in no committee"
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_recipe(cls, data: Any) -> Any:
        return with_recipe(data, data["recipe"]) if isinstance(data, dict) and "recipe" in data else data

    @model_validator(mode="after")
    def _names_meet(self) -> StudyConfig:
        architectures = unique("architectures", [a.name for a in self.architectures])
        tasks = unique("tasks", [t.name for t in self.tasks])
        committees = unique("committees", [c.name for c in self.committees])
        for field, names in (("architectures", architectures), ("tasks", tasks), ("committees", committees)):
            unique(field, [slugify(name) for name in names])  # folder names must differ too
        different("architectures", self.architectures)
        different("tasks", self.tasks)
        if self.tasks and "finetune" not in self.model_fields_set:
            raise ValueError("finetune: required in a study that has tasks")
        for committee in self.committees:
            known(f"committees.{committee.name}.members", committee.members, architectures)
        check_students(self.distillation, committees, architectures)
        check_soups(self, architectures)
        check_parts(self)
        check_models(self)
        for field in ("learning_rates", "finetune_learning_rates", "treatment_architectures"):
            known(field, getattr(self, field) or (), architectures)
        known("treatments.task", [t.task for t in self.treatments if t.task], tasks)
        changed = [t.ws for t in self.treatments if t.kind in ("missing_tokens", "shuffled")]
        known("treatments.ws", changed, [ws for ws in self.corpus.sizes if ws])
        check_sizes(self, architectures)
        unique("treatments", [(t.ws, t.task, t.label, getattr(t, "seed", 0)) for t in self.treatments])
        kinds = {(t.ws, t.label): t.kind for t in self.treatments}
        clash = [t.label for t in self.treatments if kinds[t.ws, t.label] != t.kind]
        if clash:
            raise ValueError(f"treatments: {clash} name two different things at one Ws")
        unique("pretrain_seeds", self.pretrain_seeds)
        unique("finetune_seeds and further_scratch_seeds", self.finetune_seeds + self.further_scratch_seeds)
        if self.seeds == "paired" and len(self.pretrain_seeds) != len(self.finetune_seeds):
            raise ValueError(
                f"seeds: paired, but there are {len(self.pretrain_seeds)} pretrain_seeds and "
                f"{len(self.finetune_seeds)} finetune_seeds"
            )
        list(self.in_arms())  # each is a study that could be
        return self

    def in_arms(self) -> Iterator[tuple[str, int | None, StudyConfig]]:
        """(name, budget, the study as it would be with that arm's fields alone) of every arm and each of its budgets."""
        for name, arm in self.arms.items():
            for steps in arm.budgets or (None,):
                fields = {field: getattr(self, field) for field in type(self).model_fields if field != "arms"}
                try:
                    yield name, steps, StudyConfig.model_validate(arm.applied(fields, steps))
                except ValueError as error:
                    raise ValueError(f"arms.{name}: {first_complaint(error)}") from error

    @property
    def scratch_seeds(self) -> tuple[int, ...]:
        """Seeds of fine-tunings from scratch; none where Ws = 0 is not asked for."""
        return self.finetune_seeds + self.further_scratch_seeds if 0 in self.corpus.sizes else ()

    def sizes_of(self, *architectures: str) -> tuple[int, ...]:
        """The Ws of `corpus.sizes`, scratch (0) too, that all of these architectures are trained at."""
        own = [self.architecture_sizes.get(name, self.corpus.sizes) for name in architectures]
        return tuple(ws for ws in self.corpus.sizes if not ws or all(ws in sizes for sizes in own))

    def finetune_seeds_of(self, pretrain_seed: int) -> tuple[int, ...]:
        """Seeds with which the model of a pre-training seed is fine-tuned."""
        if self.seeds == "crossed":
            return self.finetune_seeds
        return (self.finetune_seeds[self.pretrain_seeds.index(pretrain_seed)],)

    @property
    def architecture_of(self) -> dict[str, Architecture]:
        return {a.name: a for a in self.architectures}
