"""The named studies: functions that return a StudyConfig. A new study is one function with `@study`."""

from __future__ import annotations

from collections.abc import Callable

from tlm.config import (
    CommitteeConfig,
    CorpusConfig,
    FinetuneConfig,
    InjectionConfig,
    PretrainConfig,
    StudyConfig,
    TaskConfig,
    TrainedTokenizer,
    VocabularyTokenizer,
)
from tlm.modeling.variants import variant
from tlm.source_config import AgNewsSource, DbpediaSource, DocstringsSource, FewRelSource, WikipediaSource

STUDIES: dict[str, Callable[[], StudyConfig]] = {}


def study(make: Callable[[], StudyConfig]) -> Callable[[], StudyConfig]:
    """Register a named study under its function's name."""
    STUDIES[make.__name__.replace("_", "-")] = make
    return make


LIBRARIES = (
    "datasets",
    "matplotlib",
    "mlflow",
    "networkx",
    "numpy",
    "pandas",
    "prefect",
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "transformers",
)
"""Installed with tlm; each documents itself in several hundred paragraphs or more."""


@study
def demo() -> StudyConfig:
    """Minutes on a laptop, nothing to download: docstrings as corpus and as task."""
    return StudyConfig(
        name="demo",
        title="Does pre-training on docstrings help to tell libraries apart?",
        corpus=CorpusConfig(
            source=DocstringsSource(part="corpus", libraries=LIBRARIES), sizes=(0, 4_000, 40_000), heldout=1_000
        ),
        tokenizer=TrainedTokenizer(vocab_size=4_096),
        max_length=64,
        architectures=(variant("bert6", rename="deep", num_hidden_layers=2, head_size=32, num_attention_heads=4),),
        tasks=(
            TaskConfig(
                name="libraries",
                source=DocstringsSource(part="task", libraries=LIBRARIES),
                train_per_label=35,
                dev_per_label=10,
                test_per_label=200,
            ),
        ),
        pretrain=PretrainConfig(steps=1_500, learning_rate=2e-3, warmup_share=0.05),
        finetune=FinetuneConfig(epochs=15, learning_rate=5e-4, warmup_share=0.1),
    )


@study
def quickstart() -> StudyConfig:
    """The paper's pipeline on its real data, at a width that two cores train in an hour."""
    few_rel = FewRelSource(origin="local", file="val_wiki.json")
    return StudyConfig(
        name="quickstart",
        title="Tiny language models at reduced width: Wikipedia to FewRel, AG News and DBpedia",
        corpus=CorpusConfig(source=WikipediaSource(origin="local"), sizes=(0, 2_000, 8_000), heldout=500),
        tokenizer=VocabularyTokenizer(),
        architectures=(
            variant("bert6", head_size=8),
            variant("bert1a", head_size=8),
            variant("bert1b", head_size=8, conv_channels=8),
            variant("bert1c", rename="bert1-wide", head_size=8, conv_kernel_sizes=(), conv_channels=0),
        ),
        tasks=(
            TaskConfig(name="fewrel16", source=few_rel, train_per_label=630, dev_per_label=30, test_per_label=70),
            TaskConfig(
                name="agnews",
                source=AgNewsSource(origin="local"),
                train_per_label=1_000,
                dev_per_label=50,
                test_per_label=1_000,
            ),
            TaskConfig(
                name="dbpedia",
                source=DbpediaSource(origin="local"),
                train_per_label=100,
                dev_per_label=10,
                test_per_label=100,
            ),
        ),
        pretrain=PretrainConfig(epochs=20, learning_rate=1e-3, warmup_share=0.05),
        finetune=FinetuneConfig(epochs=8, learning_rate=5e-4, warmup_share=0.1),
        injections=(InjectionConfig(task="fewrel16", ws=8_000, count=2_000, selection="stratified"),),
        injection_architectures=("bert6",),
        committees=(CommitteeConfig(name="bert1-committee", members=("bert1a", "bert1b", "bert1-wide")),),
    )
