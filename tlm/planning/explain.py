"""Why a study would run again: which field, source or stage version differs from a recorded run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from tlm.artifacts.record import Record
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.planning.plan import Plan

ABSENT = "(absent)"
LENGTH = 60
"""Characters of a value that are shown."""
NAMED = 2
"""Changed inputs that a reason names."""


@dataclass(frozen=True)
class Change:
    """One difference: `place` is a field of the study, a source's identity or a stage's VERSION."""

    place: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Explanation:
    """How a plan differs from a recorded run, whose report is `against`; `reused` steps have artifacts of that run."""

    against: Record
    changes: tuple[Change, ...]
    reused: tuple[Step, ...]
    causes: tuple[tuple[Step, str], ...]
    """Each step that the recorded run does not have, with the reason: what differs in it, or which of its inputs does."""


def explain(planned: Plan, store: ArtifactStore, against: str) -> Explanation:
    """Compare a plan with a recorded run.

    Args:
        against: a report's key (or its beginning), an MLflow run id of one, or a study's name (its latest report).

    Raises:
        UserError: if no recorded run answers to `against`, naming those that exist.
    """
    record = find_run(store, against)
    before = {(ref.stage, ref.slug): ref.key for ref in record.inputs.values()}
    known = set(before.values())
    changes = list(_changes(record.config["study"], planned.study.identity()))
    causes: list[tuple[Step, str]] = []
    reused = []
    for step in planned.steps:
        if step.key in known or step.key == record.key:
            reused.append(step)
            continue
        old = record if step.stage == "report" else _record(store, record, before.get((step.stage, step.slug)))
        reason = _reason(step, old, known)
        causes.append((step, reason))
        if old is not None and step.stage in ("source", "tokenizer"):
            changes += _changes(old.config, step.config, str(step.stage))
        if old is not None and old.version != step.version:
            changes.append(Change(f"stage {step.stage} VERSION", old.version, step.version))
    return Explanation(record, tuple(dict.fromkeys(changes)), tuple(reused), tuple(causes))


def find_run(store: ArtifactStore, against: str) -> Record:
    """The record of the report that `against` names (of several, the latest). Raises UserError if there is none."""
    reports = sorted((r for r in store.records() if r.stage == "report"), key=lambda r: r.created)
    for record in reversed(reports):
        names = {record.labels.get("study"), (record.mlflow or {}).get("run_id")}
        if against in names or (len(against) >= 6 and record.key.startswith(against)):
            return record
    known = [f"{r.labels.get('study')} {r.key[:12]} ({r.created})" for r in reports]
    raise UserError(f"No recorded run {against!r}.", f"Recorded: {', '.join(known) or 'none yet'}.")


def _record(store: ArtifactStore, run: Record, key: str | None) -> Record | None:
    ref = next((ref for ref in run.inputs.values() if ref.key == key), None)
    return store.inspect(ref, verify=False).record if ref else None


def _reason(step: Step, old: Record | None, known: set[str]) -> str:
    if old is None:
        return "new in this study"
    if old.version != step.version:
        return f"stage VERSION {old.version} → {step.version}"
    own = list(_changes(old.config, step.config))
    if own:
        return "; ".join(f"{change.place}: {change.before} → {change.after}" for change in own[:3])
    inputs = [f"{ref.stage}/{ref.slug}" for ref in step.inputs.values() if ref.key not in known]
    return f"made from {', '.join(inputs[:NAMED])}" + (
        f" and {len(inputs) - NAMED} more" if len(inputs) > NAMED else ""
    )


def _changes(before: Any, after: Any, place: str = "") -> Iterator[Change]:
    """The differences of two JSON trees by dotted path. Elements of lists are matched by their `name`, if they have one."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            inner = f"{place}.{name}" if place else name
            yield from _changes(before.get(name, ABSENT), after.get(name, ABSENT), inner)
    elif _are_named(before) and _are_named(after):
        yield from _changes({e["name"]: e for e in before}, {e["name"]: e for e in after}, place)
    elif before != after:
        yield Change(place, *_short(before, after))


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, Mapping) and "name" in e for e in value)


def _short(before: Any, after: Any) -> tuple[str, str]:
    """Two values as text, each of up to LENGTH characters, from shortly before where they begin to differ."""
    texts = str(before), str(after)
    start = 0
    if max(map(len, texts)) > LENGTH:
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False)))
        start = max(alike - LENGTH // 3, 0)
    return _cut(texts[0], start), _cut(texts[1], start)


def _cut(text: str, start: int) -> str:
    text = f"…{text[start:]}" if start else text
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
