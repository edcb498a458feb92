"""Studies to begin with: each exists once, at the size of a laptop."""

from __future__ import annotations

from typing import Any

from flows.studies.registry import study
from flows.studies.scales import SCALES, TASKS
from tlm.data.wordpiece import TrainedTokenizer
from tlm.study.architecture import variant
from tlm.study.config import (
    CommitteeConfig,
    CorpusConfig,
    FinetuneConfig,
    PretrainConfig,
    StudyConfig,
    TaskConfig,
)
from tlm.study.sources import DocstringsSource
from tlm.study.treatments import MissingTokens

LIBRARIES = (
    "matplotlib",
    "mlflow",
    "networkx",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "sympy",
    "torch",
    "transformers",
)
"""Installed with tlm; each documents itself in several hundred paragraphs of 15 words or more."""

MODERN: dict[str, Any] = {"recipe": "modern"}
"""Stands for fields (`tlm.study.recipes`)."""


@study
def demo() -> StudyConfig:
    """Minutes on a laptop, nothing to download: docstrings as corpus and as task."""
    small: dict[str, Any] = {"num_attention_heads": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return StudyConfig(
        **MODERN,
        name="demo",
        title="Does pre-training on docstrings help to tell libraries apart?",
        corpus=CorpusConfig(
            source=DocstringsSource(part="corpus", libraries=LIBRARIES, min_words=15), sizes=(0, 40_000), heldout=1_000
        ),
        tokenizer=TrainedTokenizer(vocab_size=4_096),
        max_length=64,
        architectures=(
            variant("bert6", rename="bert2", num_hidden_layers=2, hidden_size=128, **small),
            variant("bert1a", rename="bert1-128", hidden_size=128, **small),
            variant("bert1a", rename="bert1-96", hidden_size=96, **small),
        ),
        tasks=(
            TaskConfig(
                name="libraries",
                source=DocstringsSource(part="task", libraries=LIBRARIES, min_words=15),
                train_per_label=35,
                dev_per_label=10,
                test_per_label=200,
            ),
        ),
        pretrain=PretrainConfig(steps=800, batch_size=32),
        finetune=FinetuneConfig(epochs=10, batch_size=16),
        svd_arm=False,
        finetune_seeds=(0, 1, 2),
        committees=(CommitteeConfig(name="shallow", members=("bert1-128", "bert1-96")),),
    )


@study
def quickstart() -> StudyConfig:
    """The paper's pipeline on its real data, at a width that two cores train in an hour (bfloat16)."""
    scale = SCALES["tiny"]
    common = {**scale.common(), "corpus": scale.corpus(0, scale.ws), "further_scratch_seeds": ()}
    return StudyConfig(
        **common,
        name="quickstart",
        title="Tiny language models at reduced width: Wikipedia to FewRel, AG News and DBpedia",
        architectures=scale.architectures("bert6", "bert1", "bert1b", "bert1c"),
        tasks=scale.tasks(*TASKS),
        treatments=(
            MissingTokens(task=scale.one_task, ws=scale.ws, count=scale.injected[-1], selection="most_frequent"),
        ),
        treatment_architectures=("bert1",),
        committees=(CommitteeConfig(name="bert1", members=("bert1", "bert1b", "bert1c")),),
    )
