"""How a step's run is called, and its parameters and metrics in the order in which MLflow offers them for charts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from tlm.artifacts.dry_runs import dry_run_label, is_of_dry_run
from tlm.artifacts.record import Record
from tlm.artifacts.step import Label, Step

Described: TypeAlias = Step | Record
"""A step has a key, labels, configuration and inputs before it is made; a record has the same ones."""

FIRST_PARAMS = (
    *("ws", "arch", "committee", "baseline", "task", "init", "treatment"),
    *("pretrain_seed", "finetune_seed", "corpus_seed"),
)
"""Labels by which models are compared, in this order; other labels and the configuration follow."""
UNTREATED = "none"
"""Of the parameter `treatment`, so that models of untreated sets can be grouped beside the others."""
FIRST_METRICS = ("test_accuracy", "dev_accuracy")


def run_name(made: Described) -> str:
    """What tells runs apart comes first: a narrow column shows no more."""
    return named(f"{made.slug} {made.stage}", is_dry_run=is_of_dry_run(made))


def labels_of(made: Described) -> dict[str, Label]:
    """Its labels. Those of a dry run say that it is one, as they did not in earlier versions."""
    return {**made.labels, **dry_run_label(is_of_dry_run(made))}


def named(name: str, *, is_dry_run: bool) -> str:
    """A run's name: wherever MLflow draws or lists a dry run's numbers, it shows no more than that."""
    return f"{name} (dry run)" if is_dry_run else name


def slug_of(name: str | None) -> str:
    """The slug in a run's name; earlier versions put the stage first, as `stage/slug`."""
    _, slash, slug = (name or "").partition("/")
    return slug if slash else (name or "").partition(" ")[0]


def params_of(made: Described) -> dict[str, str]:
    """The labels of a step that it has, then its configuration; a label that is in both is there once."""
    given = labels_of(made)
    if "treatment" in given:
        given["treatment"] = given["treatment"] or UNTREATED
    ordered = [*(name for name in FIRST_PARAMS if name in given), *sorted(given.keys() - {*FIRST_PARAMS})]
    labels = {name: str(given[name]) for name in ordered if given[name] is not None}
    return {**labels, **dict(_flat(made.config))}


def numbers_of(record: Record) -> dict[str, float]:
    """The facts of a record that are numbers, and the seconds it took. A committee's test accuracy is its soft one's."""
    found = dict(_numbers(record.facts))
    if "accuracy.soft" in found:
        found = {"test_accuracy": found["accuracy.soft"], **found}
    first = {name: found[name] for name in FIRST_METRICS if name in found}
    return {**first, **found, "seconds": record.seconds}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _numbers(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
