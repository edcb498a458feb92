"""Whether a study's models, its tokenizer and what it asks of them go together. Raises ValueError, naming the fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tlm.study.architecture import Architecture
from tlm.study.checks import known
from tlm.study.families import FAMILIES
from tlm.study.tokenizers import TokenizerConfig


def check_parts(study: Any) -> None:
    """Something is measured; and committees have tasks, and no arms."""
    if study.arms and (study.committees or study.soups):
        raise ValueError("arms: a study with arms has no committees and no soups")
    classifies = study.committees or study.soups
    if not study.tasks and (classifies or not study.evaluations):
        what = "committees and soups classify" if classifies else "there are no evaluations either"
        raise ValueError(f"tasks: none, but {what}; name one")


def check_models(study: Any) -> None:
    """Every model reads the tokenizer's units, and can be trained as is asked."""
    _check_units(study.tokenizer, study.architectures)
    if study.tokenizer.units == "byte":
        _check_asked_of_bytes(study)
    for architecture in study.architectures:
        family = FAMILIES[architecture.kind]
        objective = study.pretrain.objective_for(family)
        if getattr(architecture.options, "exits", ()) and not objective.trains_exits:
            raise ValueError(
                f"pretrain.objective: {objective.kind} does not train the exits of {architecture.name}; leave one of the "
                "two out"
            )
        _check_dropout(study.pretrain, architecture)
        drops = study.pretrain.layer_drop > 0
        if drops and not (family.causal and family.layer_names and architecture.num_hidden_layers > 1):
            raise ValueError(
                f"pretrain.layer_drop: models of kind {family.kind} ({architecture.name}) with "
                f"{architecture.num_hidden_layers} layers cannot go without one; leave it out"
            )
        if study.finetune.layer_decay != 1.0 and not family.layer_names:
            raise ValueError(f"finetune.layer_decay: models of kind {family.kind} ({architecture.name}) have no layers")
        if study.pretrain.output_bias != "zeros" and not family.has_output_bias:
            raise ValueError(
                f"pretrain.output_bias: {study.pretrain.output_bias}, but models of kind {family.kind} "
                f"({architecture.name}) have no bias on their vocabulary's logits; leave it out"
            )


def _check_dropout(pretrain: Any, architecture: Architecture) -> None:
    own = architecture.with_dropout(pretrain.dropout)
    if pretrain.dropout_schedule != "constant" and not (own.hidden_dropout_prob or own.attention_probs_dropout_prob):
        raise ValueError(
            f"pretrain.dropout_schedule: {pretrain.dropout_schedule}, but {architecture.name} has no dropout; give "
            "pretrain.dropout, or leave it out"
        )


def _check_units(tokenizer: TokenizerConfig, architectures: Sequence[Architecture]) -> None:
    for architecture in architectures:
        family = FAMILIES[architecture.kind]
        if family.units != tokenizer.units:
            way_out = (
                "use tokenizer: {kind: bytes}"
                if family.units == "byte"
                else "use a tokenizer of kind vocabulary, hub or wordpiece, or an architecture of kind bytes"
            )
            raise ValueError(
                f"architectures: models of kind {family.kind} ({architecture.name}) read {_NAMES[family.units]}, and "
                f"tokenizer: {tokenizer.kind} gives {_NAMES[tokenizer.units]}; {way_out}"
            )
        theirs, ours = getattr(tokenizer, "patch_bytes", None), _patch_bytes(architecture)
        if ours != theirs:
            raise ValueError(
                f"architectures: {architecture.name} has byte.patch_bytes={ours}, and tokenizer.patch_bytes={theirs}; "
                "give both the same"
            )


def _check_asked_of_bytes(study: Any) -> None:
    """Nothing is asked that is about tokens which mean something by themselves."""
    asked = {
        "corpus.sampler": study.corpus.sampler != "random" and study.corpus.sampler,
        "svd_arm": study.svd_arm and "true",
        "pretrain.embedding_init": study.pretrain.embedding_init != "normal" and study.pretrain.embedding_init,
        "treatments": next((each.kind for each in study.treatments if each.kind != "foreign"), False),
    }
    for field, value in asked.items():
        if value:
            raise ValueError(
                f"{field}: {value} is about words or their pieces, and tokenizer: {study.tokenizer.kind} gives bytes; "
                "leave it out, or use a tokenizer of kind vocabulary, hub or wordpiece"
            )


_NAMES = {"subword": "tokens of a vocabulary", "byte": "bytes"}


def _patch_bytes(architecture: Architecture) -> int | None:
    """Ids of a patch at most; None for a model that reads no patches."""
    byte = getattr(architecture.options, "byte", None)
    return None if byte is None else int(byte.patch_bytes)


def check_sizes(study: Any, architectures: list[str]) -> None:
    """`architecture_sizes` names sizes that there are, the largest and those of an architecture's treatments among them."""
    known("architecture_sizes", study.architecture_sizes, architectures)
    there = [ws for ws in study.corpus.sizes if ws]
    for name, sizes in study.architecture_sizes.items():
        known(f"architecture_sizes.{name}", sizes, there)
        treated = study.treatments if name in (study.treatment_architectures or architectures) else ()
        for ws in (max(there, default=0), *(treatment.ws for treatment in treated if treatment.ws in there)):
            if ws not in sizes:
                raise ValueError(
                    f"architecture_sizes.{name}: {ws} is missing; it needs the largest Ws, and those of its treatments"
                )
