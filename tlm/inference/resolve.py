"""From the name a user gives to the models it stands for. Reads records alone, and imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tlm.artifacts.housekeeping import matches, select, without_record
from tlm.artifacts.record import Record, check_here
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.modeling.families.base import family_named

SINGLE = ("finetune", "soup", "compress")
"""Stages whose artifacts are classifiers."""
CLASSIFYING = (*SINGLE, "committee")
"""Stages whose artifacts tell a text's label."""
WRITING = ("pretrain", "compress_pretrained")
"""Stages whose artifacts are language models."""
NAMED = 8
"""Candidates that an error names."""


def find_classifiers(store: ArtifactStore, names: Sequence[str]) -> list[ArtifactRef]:
    """The artifacts of single classifiers that `names` lead to, in order; a committee stands for its members.

    Args:
        names: each `stage/slug-key` as tables print it, the beginning of `stage/slug` or of a key (6 characters or more),
            or the beginning of a slug alone.

    Raises:
        UserError: if a name leads to none, to several or to another kind of artifact, to a member named before, or to one
            that is here without weights.
    """
    records = list(store.records())
    models = {record.key: record for record in records if record.stage in SINGLE}
    found: list[ArtifactRef] = []
    for name in names:
        record = _one(store, records, name)
        members = [record.ref] if record.stage in SINGLE else [record.inputs[n] for n in sorted(record.inputs)]
        for member in members:
            if member in found:
                raise UserError(f"{member} would be a member twice.", "Name each model once.")
            if member.key in models:
                check_here(models[member.key], models[member.key].left_behind)
            found.append(member)
    return found


def find_decoder(store: ArtifactStore, name: str) -> ArtifactRef:
    """The pre-trained decoder of that name, compressed or not, which may be given as for `find_classifiers`.

    Raises:
        UserError: if there is none, there are several, it does not write text, or it is here without weights.
    """
    records = [record for record in store.records() if record.stage in WRITING]
    decoders = [record for record in records if family_named(record.config["architecture"]["kind"]).causal]
    named, meant = _named(records, name)
    usable = [record for record in meant if record in decoders]
    if len(usable) > 1:
        raise UserError(f"{name!r} names {len(usable)} decoders.", f"Choose one: {_listed(usable)}.")
    if not usable:
        what = f"{named[0].ref} is an encoder: it fills gaps and does not write on." if named else ""
        raise UserError(
            what or f"No pre-trained decoder is named {name!r}.",
            f"There are: {_listed(decoders)}."
            if decoders
            else "There is none yet: `tlm run stlm-baseline` makes some.",
        )
    check_here(usable[0], usable[0].left_behind)
    return usable[0].ref


def _named(records: Sequence[Record], name: str) -> tuple[list[Record], list[Record]]:
    """The records that a name may stand for, and of these the ones whose whole name it is, if there are any, else all."""
    named = [r for r in records if matches(r, name) or (name and r.slug.startswith(name))]
    exact = [r for r in named if name in (r.slug, f"{r.stage}/{r.slug}", str(r.ref), r.key)]
    return named, exact or named


def _one(store: ArtifactStore, records: Sequence[Record], name: str) -> Record:
    named, meant = _named(records, name)
    usable = [r for r in meant if r.stage in CLASSIFYING]
    usable = usable or [r for r in named if r.stage in CLASSIFYING]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise UserError(f"{name!r} names {len(usable)} models.", f"Choose one: {_listed(usable)}.")
    if pretrained := [r for r in named if r.stage == "pretrain"]:
        tuned = [r for r in select(store, pretrained[0].key) if r.stage in SINGLE] if len(pretrained) == 1 else []
        raise UserError(
            f"{pretrained[0].ref} is a pre-trained language model: it knows no labels.",
            f"Use what was fine-tuned from it: {_listed(tuned)}." if tuned else "Fine-tune it first, with `tlm run`.",
        )
    if damaged := without_record(store, name):
        what, why = next(iter(damaged.items()))
        raise UserError(f"{what} is damaged ({why}).", "Run its study again: only what is not whole is made.")
    known = [r for r in records if r.stage in CLASSIFYING]
    what = f"{named[0].ref} tells no labels." if named else f"No fine-tuned model or committee is named {name!r}."
    raise UserError(what, f"There are: {_listed(known)}." if known else "There is none yet: `tlm run demo` makes some.")


def _listed(records: Iterable[Record]) -> str:
    refs = [str(record.ref) for record in records]
    more = f" and {len(refs) - NAMED} more" if len(refs) > NAMED else ""
    return ", ".join(refs[:NAMED]) + more
