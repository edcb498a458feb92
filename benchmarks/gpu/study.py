"""What is trained: the paper's protocol at the paper's scale, and the same in miniature to try the script with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.studies.registry import assemble
from flows.studies.scales import SCALES, Scale
from flows.studies.stlm_bytes import byte_pooling
from tlm.data.byte_patches import BytesTokenizer
from tlm.data.wordpiece import TrainedTokenizer
from tlm.study.architecture import variant
from tlm.study.arms import Arm
from tlm.study.config import CommitteeConfig, CorpusConfig, FinetuneConfig, PretrainConfig, StudyConfig, TaskConfig
from tlm.study.sources import DocstringsSource

FEWREL64 = (100, 5, 37)
"""Items of each of FewRel's 64 relations: train (with dev), dev, test. The file at hand holds 137 of the rarest."""


def paper(sizes: tuple[int, ...] | None = None, seeds: tuple[int, ...] = (0, 1, 2)) -> StudyConfig:
    """BERT-6 on Ws = 90,000 and four tasks against scratch, from local files; items are those of every paper-scale study.

    One pre-training is fine-tuned with every seed. `sizes`: further Ws.
    """
    scale = SCALES["paper"].at("local")
    made = assemble(
        scale,
        "gpu",
        "Pre-training at the paper's scale on one GPU",
        corpus=scale.corpus(0, *sorted({scale.ws, *(sizes or ())})),
        architectures=scale.architectures("bert6"),
        tasks=(*scale.tasks("fewrel", "agnews", "dbpedia"), _fewrel64(scale)),
        pretrain_seeds=(0,),
        finetune_seeds=seeds,
        seeds="crossed",
    )
    return made.model_copy(update={"analysis": None})


def committee(sizes: tuple[int, ...] = ()) -> StudyConfig:
    """Three one-layer models as a committee against BERT-6, each of a seed of its own, on one Ws: 20,000 by default.

    The paper's variants with convolutions have no captured step.
    """
    scale = SCALES["paper"].at("local")
    made = assemble(
        scale,
        "committee",
        "Can a soft committee of one-layer models replace six layers, at the paper's scale?",
        corpus=scale.corpus(0, *(sizes or (20_000,))),
        architectures=scale.architectures("bert6", "bert1"),
        tasks=scale.tasks("fewrel", "agnews", "dbpedia"),
        committees=(
            CommitteeConfig(name="bert1", members=("bert1",)),
            CommitteeConfig(name="bert6", members=("bert6",)),
        ),
        latency=False,  # weights stay where they were trained
    )
    return made.model_copy(update={"name": "gpu-committee"})


def decoders(sizes: tuple[int, ...] = ()) -> StudyConfig:
    """`stlm50`, and the pair of the study byte-pooling, for 16.4 million tokens or the bytes that these stand for.

    On one Ws: 20,000 by default.
    """
    whole = byte_pooling(SCALES["paper"].at("local"))
    (model,) = whole.architectures
    smaller = variant("stlm50", rename=model.name).model_dump(mode="json")
    arms = {"stlm50": Arm(architectures=(smaller,)), **{name: whole.arms[name] for name in ("subword", "bytes")}}
    return _shorter(whole, "gpu-decoders", arms, sizes or (20_000,), steps=500, batch_size=64)


def toy_decoders(sizes: tuple[int, ...] = ()) -> StudyConfig:
    """A decoder over a vocabulary and one over bytes, in seconds on two cores."""
    small: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "head_size": 16, "rename": "model"}
    options = {"num_key_value_heads": 1, "byte": {"width": 16}}
    of_bytes = variant("byte-micro", **small, options=options).model_dump(mode="json")
    reads = {"tokenizer": BytesTokenizer().model_dump(mode="json"), "max_length": 240, "architectures": [of_bytes]}
    whole = toy().model_copy(update={"architectures": (variant("micro", **small, options={"num_key_value_heads": 1}),)})
    arms = {"subword": Arm(), "bytes": Arm.model_validate(reads)}
    return _shorter(whole, "gpu-toy-decoders", arms, sizes or (500,), steps=5, batch_size=8)


def _shorter(
    whole: StudyConfig, name: str, arms: dict[str, Arm], sizes: tuple[int, ...], *, steps: int, batch_size: int
) -> StudyConfig:
    """With one seed, and for so many steps.

    Its held-out loss is what comes home; to score or fine-tune the models takes their weights, which stay in `--home`.
    """
    length = {"epochs": None, "steps": steps, "batch_size": batch_size}
    fields: dict[str, Any] = {
        "name": name,
        "analysis": None,
        "corpus": whole.corpus.model_copy(update={"sizes": sizes}),
        "pretrain": whole.pretrain.model_copy(update=length),
        "arms": arms,
        **dict.fromkeys(("pretrain_seeds", "finetune_seeds"), (0,)),
    }
    return StudyConfig.model_validate({**dict(whole), **fields})


def _fewrel64(scale: Scale) -> TaskConfig:
    train, dev, test = FEWREL64
    return TaskConfig(
        name="fewrel64",
        source=scale.few_rel("train_wiki.json"),
        train_per_label=train,
        dev_per_label=dev,
        test_per_label=test,
    )


def toy(sizes: tuple[int, ...] | None = None) -> StudyConfig:
    """The same stages in seconds on two cores, from the docstrings of installed libraries."""
    libraries = ("numpy", "scipy", "sympy")
    small: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "head_size": 16}
    return StudyConfig(
        name="gpu-toy",
        scale="toy",
        corpus=CorpusConfig(
            source=DocstringsSource(part="corpus", libraries=libraries, min_words=15),
            sizes=(0, *(sizes or (500, 1_000))),
            heldout=100,
        ),
        tokenizer=TrainedTokenizer(vocab_size=1_024),
        max_length=48,
        architectures=(variant("bert6", **small), variant("bert1", **{**small, "num_hidden_layers": 1})),
        tasks=(
            TaskConfig(
                name="libraries",
                source=DocstringsSource(part="task", libraries=libraries, min_words=15),
                train_per_label=60,
                dev_per_label=20,
                test_per_label=40,
            ),
        ),
        pretrain=PretrainConfig(epochs=3, learning_rate=1e-3),
        finetune=FinetuneConfig(epochs=12, learning_rate=1e-3),
        finetune_seeds=(0, 1),
    )


STUDIES: dict[str, Callable[[tuple[int, ...]], StudyConfig]] = {
    "paper": paper,
    "committee": committee,
    "decoders": decoders,
    "toy": toy,
    "toy-decoders": toy_decoders,
}
"""Each for further Ws, or for its own where none are given."""
