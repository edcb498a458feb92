"""What arXiv 2405.14159 claims of models of bytes: beside a model with a vocabulary, and of the two heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.studies.registry import study
from flows.studies.scales import Scale
from flows.studies.stlm import assemble_scored
from tlm.data.byte_patches import BytesTokenizer
from tlm.data.wordpiece import TrainedTokenizer
from tlm.modeling.cost import pretraining_flops
from tlm.study.architecture import Architecture, variant
from tlm.study.arms import Arm
from tlm.study.config import StudyConfig

MODEL = "stlm"
"""What both models of `byte-pooling` are called; their arms tell them apart."""
HEADS = ("autoregressive", "parallel")


@dataclass(frozen=True)
class Bytes:
    """What of these studies differs by scale, beside what differs of the other ones (`flows.studies.stlm.SIZES`)."""

    byte: dict[str, Any]
    """What is below and above the core, which is that of the model with a vocabulary."""
    max_length: int
    """Ids of as many bytes as the other model's rows have: a token of its vocabulary stands for 4.17, 4.75 and 4.89 bytes
    of Wikipedia, which are 4.86, 5.53 and 5.72 ids (vocabularies of 20,000 paragraphs, on 2,000 of them)."""
    vocab_size: int
    """Of the model with a vocabulary, at most; of `small` it is BERT's."""
    shape: dict[str, Any] | None = None
    """Of the model with a vocabulary, if it is not that of the other studies."""


BYTES = {
    "tiny": Bytes({"width": 48}, max_length=303, vocab_size=8_192),
    "small": Bytes({"width": 64}, max_length=699, vocab_size=30_522),
    "paper": Bytes(
        {"width": 128, "num_attention_heads": 8, "patch_bytes": 12, "widens": True},
        max_length=2_920,
        vocab_size=50_257,
        shape={"variant": "stlm56"},
    ),
}


@study
def byte_pooling(scale: Scale) -> StudyConfig:
    """Bytes that are pooled in patches, in the place of a vocabulary: after as many bytes, and after as many operations."""
    study, own = _plain(scale, "byte-pooling", "Do pooled bytes replace a vocabulary's embeddings?"), BYTES[scale.name]
    (plain,) = study.architectures
    of_bytes = _of_bytes(plain, own, MODEL, "autoregressive")
    steps = study.pretrain.steps or 0
    flops = pretraining_flops(plain, study.pretrain, study.max_length, own.vocab_size)
    factor = flops / pretraining_flops(of_bytes, study.pretrain, own.max_length, 0)
    reads = {
        "tokenizer": _tokenizer(own).model_dump(mode="json"),
        "max_length": own.max_length,
        "architectures": [of_bytes.model_dump(mode="json")],
    }
    arms = {
        "subword": Arm(),
        "bytes": Arm.model_validate(reads),
        "bytes-flops": Arm.model_validate({**reads, "budgets": [round(factor * steps)]}),
    }
    return _changed(study, arms=arms)


@study
def byte_head(scale: Scale) -> StudyConfig:
    """The bytes of a patch one after another, or all at once: two heads of the same model of bytes."""
    study, own = _plain(scale, "byte-head", "Does a model of bytes need to predict them one by one?"), BYTES[scale.name]
    (plain,) = study.architectures
    return _changed(
        study,
        tokenizer=_tokenizer(own),
        max_length=own.max_length,
        architectures=tuple(_of_bytes(plain, own, head, head) for head in HEADS),
    )


def _plain(scale: Scale, name: str, title: str) -> StudyConfig:
    """The study of the model with a vocabulary, on text as people write it: bytes would learn where words were cut."""
    study, own = assemble_scored(scale, name, title, {MODEL: {}}), BYTES[scale.name]
    source = study.corpus.source.model_copy(update={"detokenise": scale.origin == "local"})
    changes: dict[str, Any] = {"corpus": study.corpus.model_copy(update={"source": source})}
    if own.shape is not None:
        changes["architectures"] = (variant(own.shape["variant"], rename=MODEL),)
        changes["tokenizer"] = TrainedTokenizer(vocab_size=own.vocab_size)
    return _changed(study, **changes)


def _of_bytes(plain: Architecture, own: Bytes, name: str, head: str) -> Architecture:
    options = {**dict(plain.options), "byte": {**own.byte, "head": head}}
    return Architecture.model_validate({**dict(plain), "name": name, "kind": "bytes", "options": options})


def _tokenizer(own: Bytes) -> BytesTokenizer:
    return BytesTokenizer(patch_bytes=own.byte.get("patch_bytes", 16))


def _changed(study: StudyConfig, **fields: Any) -> StudyConfig:
    return StudyConfig.model_validate({**{name: getattr(study, name) for name in StudyConfig.model_fields}, **fields})
