"""What the paper leaves open, and what its readers ask to see checked: each a study."""

from __future__ import annotations

from flows.studies.introductory import LIBRARIES
from flows.studies.paper import choices, removals
from flows.studies.registry import assemble, study
from flows.studies.scales import TASKS, Scale
from tlm.study.config import CommitteeConfig, StudyConfig
from tlm.study.sources import DocstringsSource
from tlm.study.treatments import Foreign, Sampled, Shuffled, Treatment

IN_DOMAIN = 2_000
"""Of the 2,500 biomedical sentences that FewRel 2.0 comes with."""
DOCSTRINGS = 30_000
"""Fewer paragraphs than the installed libraries hold of 15 words or more."""
SECOND_SEED = 2_507
"""Of the second draw of items; every other study draws them with seed 0."""


@study
def overlap_predictor(scale: Scale) -> StudyConfig:
    """Which overlap measure predicts the gap, over the pre-training sets of the other studies."""
    return assemble(
        scale,
        "overlap-predictor",
        "Which measure of token overlap predicts the gap of pre-training best?",
        corpus=scale.corpus(*{*scale.sizes, scale.small_ws}),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(*TASKS),
        treatments=(*removals(scale), *choices(scale), *irrelevant(scale)),
        **scale.of_one_layer(),
    )


@study
def irrelevant_tokens(scale: Scale) -> StudyConfig:
    """The task's tokens equally covered, beside more or fewer tokens that it never uses."""
    return assemble(
        scale,
        "irrelevant-tokens",
        "What do tokens do that are in the pre-training set and not in the task?",
        corpus=scale.corpus(0, scale.ws),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(scale.one_task),
        treatments=irrelevant(scale),
        **scale.of_one_layer(),
    )


@study
def domain_shift(scale: Scale) -> StudyConfig:
    """Wikipedia, biomedical text and docstrings before relations in biomedical and other text."""
    beside = scale.ws - IN_DOMAIN
    pubmed = scale.few_rel("pubmed_unsupervised.json")
    other = min(scale.ws, DOCSTRINGS)
    docstrings = DocstringsSource(part="corpus", libraries=LIBRARIES, min_words=15)
    return assemble(
        scale,
        "domain-shift",
        "What is Wikipedia worth to tasks of another domain?",
        corpus=scale.corpus(*dict.fromkeys((0, IN_DOMAIN, other, scale.ws))),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks("pubmed", "semeval"),
        treatments=(
            Foreign(name="pubmed", source=pubmed, own=IN_DOMAIN),
            Foreign(name="wikipedia-and-pubmed", source=pubmed, own=IN_DOMAIN, general=beside),
            Foreign(name="docstrings", source=docstrings, own=other),
        ),
    )


@study
def decoder_committee(scale: Scale) -> StudyConfig:
    """GPT-2-style decoders, alone and in committees."""
    shallow = ("gpt1a", "gpt1", "gpt1c")
    return assemble(
        scale,
        "decoder-committee",
        "Do committees of shallow decoders replace a deep one?",
        corpus=scale.corpus(0, scale.largest),
        architectures=scale.architectures("gpt6", *shallow),
        tasks=scale.tasks("fewrel"),
        pretrain=scale.causal_pretrain(),
        committees=(CommitteeConfig(name="gpt1", members=shallow), CommitteeConfig(name="gpt6", members=("gpt6",))),
    )


@study
def task_complexity(scale: Scale) -> StudyConfig:
    """FewRel cut to fewer and fewer labels: the gap, and the committee's."""
    shallow = ("bert1", "bert1c")
    return assemble(
        scale,
        "task-complexity",
        "How do gap and committee depend on the number of labels?",
        corpus=scale.corpus(0, scale.ws),
        architectures=scale.architectures("bert6", *shallow),
        tasks=scale.tasks(*(f"fewrel{labels}" for labels in (64, 32, 16, 8, 4, 2))),
        committees=(CommitteeConfig(name="shallow", members=shallow),),
    )


@study
def word_order(scale: Scale) -> StudyConfig:
    """The same words in another order: within each sentence, and over the whole corpus."""
    return assemble(
        scale,
        "word-order",
        "How much of the gap is word order?",
        corpus=scale.corpus(0, scale.ws),
        architectures=scale.architectures("bert6", "bert1"),
        tasks=scale.tasks(scale.one_task),
        treatments=(Shuffled(ws=scale.ws, scope="sentence"), Shuffled(ws=scale.ws, scope="corpus")),
        treatment_architectures=None if scale.deep_treatments else ("bert1",),
    )


@study
def second_draw(scale: Scale) -> StudyConfig:
    """The headline gaps again, on a draw of items of every task that no other study has."""
    drawn = scale.tasks(*TASKS)
    again = (task.model_copy(update={"name": f"{task.name}-second", "seed": SECOND_SEED}) for task in drawn)
    return assemble(
        scale,
        "second-draw",
        "Do the gaps repeat on items never used before?",
        corpus=scale.corpus(0, max(scale.sizes)),
        architectures=scale.architectures("bert6", "bert1"),
        tasks=(*drawn, *again),
        svd_arm=False,
    )


def irrelevant(scale: Scale) -> tuple[Treatment, ...]:
    return tuple(
        Sampled(task=scale.one_task, ws=scale.ws, sampler="irrelevant", level=level) for level in scale.irrelevant
    )
