"""The three scales of every study of the paper and of its open questions: what changes with scale is here, nothing else.

All studies of one scale share corpus, vocabulary, training and seeds, so that they share every stage they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tlm.data.wordpiece import HubTokenizer, TrainedTokenizer, VocabularyTokenizer
from tlm.study.architecture import HEAD_SIZE, VARIANTS, Architecture, variant
from tlm.study.config import (
    CorpusConfig,
    FinetuneConfig,
    PretrainConfig,
    TaskConfig,
)
from tlm.study.sources import AgNewsSource, DbpediaSource, FewRelSource, Origin, Source, WikipediaSource
from tlm.study.tokenizers import TokenizerConfig

DEFAULT_SCALE = "tiny"
TASKS = ("fewrel", "agnews", "dbpedia")
"""The paper's."""

Items = tuple[int, int, int]
"""Items of each label: training (with dev), dev of these, test."""

PAPERS_ITEMS: dict[str, Items] = {
    "fewrel": (630, 30, 70),
    "agnews": (1_000, 50, 1_000),
    "dbpedia": (100, 5, 100),
    "pubmed": (60, 10, 40),
    "semeval": (60, 10, 40),
    "complexity": (630, 30, 70),
}
"""The paper's own numbers (a twentieth of training is dev), and for the two other domains what their files hold."""


@dataclass(frozen=True)
class Scale:
    """One scale. Ws counts paragraphs."""

    name: str
    origin: Origin
    sizes: tuple[int, ...]
    """Of the sweep over Ws, scratch (0) among them."""
    ws: int
    """Of studies that hold it fixed; committees are of the largest."""
    small_ws: int
    """Of studies that choose paragraphs: so small that a task's tokens are missing from a random sample."""
    head_size: int
    fewer_heads: int
    """The paper's number of heads is divided by it."""
    dropout: float
    max_length: int
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    items: dict[str, Items]
    """By task."""
    injected: tuple[int, ...]
    """Numbers of tokens that missing-tokens removes."""
    deep_sizes: tuple[int, ...] | None = None
    """The Ws of the sweep that six layers are pre-trained on; default: all."""
    one_task: str = "fewrel"
    """The task of studies of pre-training sets and of word order, which have one."""
    vocab_size: int | None = None
    """Of WordPiece trained on the corpus; default: the vocabulary of bert-base-uncased."""
    irrelevant: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Levels of irrelevant-tokens, quantiles of a paragraph's share of tokens that the task never uses."""
    heldout: int = 1_000
    pretrain_rates: dict[str, float] = field(default_factory=dict)
    """Learning rates of architectures that do not train well at the one that the others share."""
    finetune_rates: dict[str, float] = field(default_factory=dict)
    """Likewise, whether they are pre-trained or from scratch."""
    causal_steps: int | None = None
    """Of the decoders' pre-training, which learns from every token instead of 15 %; default: as many as others."""
    deep_treatments: bool = True
    """Whether the deep model, too, is pre-trained on shuffled text."""
    recipe: str | None = None
    """Of `tlm.study.recipes`; what the scale itself says wins."""
    seeds: tuple[int, ...] = (0, 1, 2)
    crossed: tuple[int, ...] = (0, 1, 2)
    """Fine-tuning seeds of each pre-training, where committees need many members."""
    further_scratch_seeds: tuple[int, ...] = ()
    """Of fine-tunings from scratch beside `seeds`."""
    one_layer_seeds: tuple[int, ...] | None = None
    """Of studies of one layer whose models differ in little, `seeds` among them; default: `seeds`."""
    budgets: tuple[int, ...] = (75, 300, 1_200)
    """Pre-training steps of the study of recipes, of the modern one."""
    paper_rates: dict[str, Any] = field(default_factory=dict)
    """Fields of the paper's recipe with which it trains well at this width, by part of a study; default: its own."""

    @property
    def largest(self) -> int:
        """The largest Ws."""
        return max(self.sizes)

    def at(self, origin: Origin | None) -> Scale:
        """The same scale with its sources on the Hub or under the data root."""
        return self if origin is None else replace(self, origin=origin)

    def common(self) -> dict[str, Any]:
        """The fields of a StudyConfig that do not differ between studies."""
        return {
            **({"recipe": self.recipe} if self.recipe else {}),
            "corpus": self.corpus(0),
            "tokenizer": self.tokenizer(),
            "max_length": self.max_length,
            "pretrain": self.pretrain,
            "finetune": self.finetune,
            "pretrain_seeds": self.seeds,
            "finetune_seeds": self.seeds,
            "further_scratch_seeds": self.further_scratch_seeds,
            "seeds": "paired",
        }

    def of_one_layer(self) -> dict[str, Any]:
        """The seeds of a study that compares pre-training sets, or ways to make a model smaller, by one layer: what these
        differ in is small, and a seed is cheap."""
        if self.one_layer_seeds is None:
            return {}
        further = tuple(seed for seed in self.further_scratch_seeds if seed not in self.one_layer_seeds)
        return {
            "pretrain_seeds": self.one_layer_seeds,
            "finetune_seeds": self.one_layer_seeds,
            "further_scratch_seeds": further,
        }

    def tokenizer(self) -> TokenizerConfig:
        if self.vocab_size is not None:
            return TrainedTokenizer(vocab_size=self.vocab_size)
        return VocabularyTokenizer() if self.origin == "local" else HubTokenizer()

    def corpus(self, *sizes: int) -> CorpusConfig:
        return CorpusConfig(source=WikipediaSource(origin=self.origin), sizes=sizes, heldout=self.heldout)

    def causal_pretrain(self) -> PretrainConfig:
        return self.pretrain.model_copy(update={} if self.causal_steps is None else {"steps": self.causal_steps})

    def architectures(self, *names: str) -> tuple[Architecture, ...]:
        """The paper's variants at this scale's width: their heads, and their convolutions' channels in proportion."""
        drop: dict[str, Any] = {"hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.dropout}
        made = []
        for name in names:
            heads = VARIANTS[name].num_attention_heads // self.fewer_heads
            channels = VARIANTS[name].conv_channels * self.head_size // (HEAD_SIZE * self.fewer_heads)
            width: dict[str, Any] = {
                "head_size": self.head_size,
                "num_attention_heads": heads,
                "conv_channels": channels,
            }
            made.append(variant(name, **width, **drop))
        return tuple(made)

    def tasks(self, *names: str) -> tuple[TaskConfig, ...]:
        """Tasks by name; `fewrel8` is FewRel's training relations cut to 8."""
        return tuple(self._task(name) for name in names)

    def _task(self, name: str) -> TaskConfig:
        sources: dict[str, Source] = {
            # Of the complete file with all 64 relations only a part may be at hand; that of the other 16 is whole.
            "fewrel": self.few_rel("val_wiki.json" if self.origin == "local" else "train_wiki.json"),
            "agnews": AgNewsSource(origin=self.origin),
            "dbpedia": DbpediaSource(origin=self.origin),
            "pubmed": self.few_rel("val_pubmed.json"),
            "semeval": self.few_rel("val_semeval.json"),
        }
        labels = None
        if name not in sources:
            labels = int(name.removeprefix("fewrel"))
            sources[name] = self.few_rel("train_wiki.json")
        train, dev, test = self.items["complexity" if labels else name]
        return TaskConfig(
            name=name,
            source=sources[name],
            train_per_label=train,
            dev_per_label=dev,
            test_per_label=test,
            labels=labels,
        )

    def few_rel(self, file: str) -> FewRelSource:
        return FewRelSource(origin=self.origin, file=file)


SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale(
            name="tiny",
            origin="local",
            recipe="modern",
            sizes=(0, 500, 8_000, 32_000, 90_000, 150_000),
            deep_sizes=(500, 90_000, 150_000),
            ws=32_000,
            small_ws=500,
            head_size=32,
            fewer_heads=4,
            dropout=0.0,
            max_length=64,
            pretrain=PretrainConfig(steps=2_000, batch_size=32),
            finetune=FinetuneConfig(epochs=4, batch_size=32),
            items={
                **PAPERS_ITEMS,
                "fewrel": (550, 50, 150),
                "agnews": (1_000, 100, 1_800),
                "dbpedia": (250, 25, 250),
                "complexity": (90, 10, 40),
            },
            injected=(800, 3_200),
            one_task="dbpedia",  # with FewRel's 500 items a label to learn from, what a set holds hardly matters
            vocab_size=8_192,
            irrelevant=(0.0, 0.95, 1.0),  # the task uses nearly all of so small a vocabulary: the median share is 0
            finetune_rates={"gpt6": 5e-4},
            causal_steps=1_000,
            deep_treatments=False,
            further_scratch_seeds=(3, 4, 5),
            one_layer_seeds=(0, 1, 2, 3, 4, 5),
            paper_rates={
                "pretrain": {"learning_rate": 2e-3, "warmup_share": 0.05, "max_grad_norm": 1.0},
                "finetune": {"learning_rate": 1.4e-3, "warmup_share": 0.1},
            },
        ),
        Scale(
            name="small",
            origin="hub",
            recipe="modern",
            sizes=(0, 2_000, 8_000, 32_000, 90_000),
            ws=32_000,
            small_ws=4_000,
            head_size=32,
            fewer_heads=1,
            dropout=0.1,
            max_length=128,
            pretrain=PretrainConfig(steps=10_000, batch_size=64),
            finetune=FinetuneConfig(epochs=10),
            items=PAPERS_ITEMS,
            injected=(500, 2_000, 5_000),
            budgets=(300, 1_200, 4_800),
            paper_rates={
                "pretrain": {"learning_rate": 5e-4, "warmup_share": 0.05, "max_grad_norm": 1.0},
                "finetune": {"learning_rate": 2e-4, "warmup_share": 0.1},
            },
        ),
        Scale(
            # arXiv 2507.14871 and its released code.
            name="paper",
            origin="hub",
            sizes=(0, 2_000, 5_000, 10_000, 20_000, 45_000, 90_000),
            ws=90_000,
            small_ws=10_000,
            head_size=64,
            fewer_heads=1,
            dropout=0.1,
            max_length=128,
            pretrain=PretrainConfig(epochs=50),
            finetune=FinetuneConfig(epochs=50),
            items=PAPERS_ITEMS,
            injected=(500, 2_000, 5_000),
            budgets=(2_200, 8_800, 35_200),  # four times the last is the paper's 50 epochs of 90,000
        ),
    )
}
