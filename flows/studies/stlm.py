"""What arXiv 2405.14159, "Super Tiny Language Models", claims of its models: scored by likelihood, none is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.studies.registry import study
from flows.studies.scales import Scale
from tlm.data.wordpiece import TrainedTokenizer
from tlm.study.architecture import Architecture, variant
from tlm.study.config import CorpusConfig, PretrainConfig, StudyConfig
from tlm.study.early_exit import EarlyExit
from tlm.study.likelihood import ArcEasy, Benchmark, Blimp, HellaSwag, Likelihood, Mmlu, WinoGrande
from tlm.study.sources import WikipediaSource
from tlm.training.optimizers.adamw import AdamW

PAPERS = {"weight_decay": 0.1, "max_grad_norm": 1.0, "optimizer": AdamW(betas=(0.9, 0.95)), "packing": True}
"""Of the paper's training, at every scale; its learning rate and warm-up are those of `paper`."""


@dataclass(frozen=True)
class Size:
    """What of these studies differs by scale."""

    shape: dict[str, Any]
    """Of the model that the others differ from: a variant, and what is not the variant's own."""
    ws: int
    max_length: int
    pretrain: PretrainConfig
    lora_rank: int
    same_size: dict[str, Any]
    """The shape with embeddings that are not tied, narrower, so that it stores as much."""
    exits: tuple[int, ...]
    """Of the shape, for `early-exit`."""
    blimp: int | None = None
    """Pairs of each paradigm; None: all."""
    others: int | None = None
    """Items of each other benchmark, or of each subject; None: all."""
    shards: int = 2
    vocab_size: int | None = None
    """None: the scale's vocabulary."""


_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_MICRO = {"variant": "micro", **_NO_DROPOUT}
_MINI = {**_MICRO, "num_hidden_layers": 6, "num_attention_heads": 8, "options": {"num_key_value_heads": 4}}

SIZES: dict[str, Size] = {
    "tiny": Size(
        shape=_MICRO,
        ws=150_000,
        max_length=64,
        pretrain=PretrainConfig(steps=600, batch_size=32, learning_rate=4e-3, warmup_share=0.1, **PAPERS),
        lora_rank=16,
        same_size={**_MICRO, "hidden_size": 88, "intermediate_size": 285},
        exits=(1, 2),
        blimp=100,
        others=500,
    ),
    "small": Size(
        shape=_MINI,
        ws=1_000_000,
        max_length=128,
        pretrain=PretrainConfig(steps=20_000, batch_size=64, learning_rate=2e-3, warmup_share=0.05, **PAPERS),
        lora_rank=32,
        same_size={**_MINI, "hidden_size": 160, "intermediate_size": 800},
        exits=(1, 3, 5),
    ),
    "paper": Size(
        shape={"variant": "stlm50"},
        ws=4_000_000,
        max_length=512,
        # 7.37 billion tokens in steps of 245,760.
        pretrain=PretrainConfig(steps=30_000, batch_size=480, learning_rate=6e-4, warmup_share=1 / 6, **PAPERS),
        lora_rank=64,
        same_size={"variant": "stlm50", "hidden_size": 448, "intermediate_size": 2_189},
        exits=(3, 6, 9),
        shards=8,
        vocab_size=10_000,
    ),
}


@study
def stlm_baseline(scale: Scale) -> StudyConfig:
    """One small decoder on five benchmarks: where it is above chance, and where not."""
    return assemble_scored(
        scale,
        "stlm-baseline",
        "What does a super tiny language model know without fine-tuning?",
        {"plain": {}},
        every=True,
    )


@study
def ffn_sharing(scale: Scale) -> StudyConfig:
    """One feed-forward network for all layers: beside one for each, at equal compute and at equal stored size."""
    size = SIZES[scale.name]
    plain = _changed(size, "plain", {})
    shared: dict[str, Any] = {"what": "ffn"}
    lora = {"lora_rank": size.lora_rank, "lora_alpha": float(size.lora_rank)}
    return assemble_scored(
        scale,
        "ffn-sharing",
        "What does it cost layers to have one feed-forward network?",
        {
            "plain": {},
            "shared": {"options": {"sharing": shared}},
            "shared-lora": {"options": {"sharing": {**shared, **lora}}},
            # Its layers' networks are together as large as the one that others share.
            "narrow": {"intermediate_size": plain.intermediate_size // plain.num_hidden_layers},
        },
    )


@study
def weight_tying(scale: Scale) -> StudyConfig:
    """Embeddings that are the vocabulary's projection too: beside two matrices, at equal steps and at equal stored size."""
    untied = {"options": {"tie_embeddings": False}}
    return assemble_scored(
        scale,
        "weight-tying",
        "What do tied embeddings cost?",
        {"plain": {}, "untied": untied, "untied-narrow": {**_own(SIZES[scale.name].same_size), **untied}},
    )


@study
def early_exit(scale: Scale) -> StudyConfig:
    """A model that is read after several of its layers, beside the plain one and one of half the layers."""
    size = SIZES[scale.name]
    layers = _changed(size, "plain", {}).num_hidden_layers
    study = assemble_scored(
        scale,
        "early-exit",
        "What does it cost tokens to leave after half of the layers?",
        {
            "plain": {},
            "exits": {"options": {"exits": size.exits}},
            "half": {"num_hidden_layers": layers // 2},
        },
    )
    asked = EarlyExit(layers=0.5)
    return study.model_copy(update={"evaluations": (*study.evaluations, asked)})


def assemble_scored(
    scale: Scale,
    name: str,
    title: str,
    changes: dict[str, dict[str, Any]],
    *,
    every: bool = False,
    sizes: tuple[int, ...] = (),
    pretrain: PretrainConfig | None = None,
) -> StudyConfig:
    """A study of models that differ by `changes` from that of its scale, scored on BLiMP, or on `every` benchmark.

    Corpus, training and seeds are the same in all of them, so that they share the model that has no change, but for a study
    that has a Ws (`sizes`) or a training of its own.
    """
    size = SIZES[scale.name]
    source = WikipediaSource(origin=scale.origin, shards=size.shards)
    return StudyConfig(
        name=name,
        title=title,
        analysis=name,
        scale=scale.name,
        corpus=CorpusConfig(source=source, sizes=sizes or (size.ws,), heldout=scale.heldout),
        tokenizer=TrainedTokenizer(vocab_size=size.vocab_size) if size.vocab_size else scale.tokenizer(),
        max_length=size.max_length,
        architectures=tuple(_changed(size, name, change) for name, change in changes.items()),
        tasks=(),
        pretrain=pretrain or size.pretrain,
        finetune=scale.finetune,
        pretrain_seeds=scale.seeds,
        finetune_seeds=scale.seeds,
        seeds="paired",
        baselines=(),
        evaluations=benchmarks(size, every=every),
    )


def benchmarks(size: Size, *, every: bool) -> tuple[Likelihood, ...]:
    """BLiMP, and the four others: what has options of very different length is compared per byte."""
    found = [Likelihood(data=Blimp(), limit=size.blimp)]
    long: list[tuple[Benchmark, str]] = [
        (ArcEasy(), "sum"), (HellaSwag(), "per_byte"), (WinoGrande(), "sum"), (Mmlu(), "per_byte"),
    ]  # fmt: skip
    for data, normalization in long if every else ():
        # Of a group, MMLU's subjects, so many would be 57 times as many.
        limit = size.others and (max(1, size.others // 25) if isinstance(data, Mmlu) else size.others)
        found.append(
            Likelihood.model_validate(
                {"data": data, "normalization": normalization, "limit": limit, "too_long": "cut_prefix"}
            )
        )
    return tuple(found)


def _own(shape: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in shape.items() if field != "variant"}


def _changed(size: Size, name: str, change: dict[str, Any]) -> Architecture:
    """Options are the shape's with those that change."""
    options = {**size.shape.get("options", {}), **change.get("options", {})}
    fields = {**_own(size.shape), **change, **({"options": options} if options else {})}
    return variant(size.shape["variant"], rename=name, **fields)
