"""The search itself: trials side by side, seed by seed. How steps are made, and who is told, is given."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tlm.artifacts.in_progress import begin, end
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.stages import STAGES
from tlm.study.config import StudyConfig
from tlm.tuning.objective import FACT, Measurement, Score
from tlm.tuning.search import Search, Trial

GIVE_UP_AFTER = 4
"""Failed trials in a row: what they share is at fault."""

Make = Callable[[Mapping[int, Sequence[Step]]], Mapping[str, str]]
"""Make steps, which are given by the number of the trial that needs them (first), each after its inputs; return the keys of
those that failed, each with the reason. Whatever does not depend on a failed one is made."""
Measure = Callable[[StudyConfig], Measurement]


class Watcher(Protocol):
    """Who is told what happens."""

    def begins(self, trial: Trial) -> None: ...

    def reports(self, trial: Trial, rung: int, rungs: int, score: Score) -> None: ...

    def ends(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None: ...


@dataclass
class Running:
    """A trial with what it is judged by; it has a reason once it has failed."""

    trial: Trial
    measurement: Measurement
    reason: str = ""
    state: str = ""
    score: Score | None = None

    @property
    def rungs(self) -> int:
        return len(self.measurement.rungs)


def tune(
    search: Search,
    store: ArtifactStore,
    study_of: Callable[[Mapping[str, Any]], StudyConfig],
    measure: Measure,
    make: Make,
    watcher: Watcher,
    *,
    trials: int,
    seconds: float = math.inf,
    data: Collection[str] = (),
) -> bool:
    """Run a search until it has `trials` trials, or `seconds` are over; return whether it has them.

    Time is looked at before each seed of the trials at hand; those that have not ended go on when the search does.

    Args:
        study_of: the study with other values of some fields. UserError if there is none such: the trial has failed.
        measure: what a study is judged by.
        data: keys of steps that the study as it is needs before any training: if one fails, that is no trial's fault.

    Raises:
        UserError: if one trial after another fails, or one of `data`, with the reason.
    """
    deadline = time.monotonic() + seconds
    failed = 0
    while batch := search.batch(trials):
        running = [_begin(search.config.name, trial, store, study_of, measure, watcher) for trial in batch]
        for rung in range(max((each.rungs for each in running), default=0)):
            if time.monotonic() >= deadline:
                return False
            _make_rung(rung, [each for each in running if not each.state], store, make, search, watcher, data)
        for each in running:  # at the end, so that the trials of a batch know nothing of each other
            _end(each, store, search, watcher)
        failed = failed + len(running) if all(each.state == "failed" for each in running) else 0
        if failed >= GIVE_UP_AFTER:
            raise UserError(
                f"The last {failed} trials have all failed. The last one: {running[-1].reason}",
                "Mend that, or narrow the space; the search goes on with other trials.",
            )
    return True


def _begin(
    name: str,
    trial: Trial,
    store: ArtifactStore,
    study_of: Callable[[Mapping[str, Any]], StudyConfig],
    measure: Measure,
    watcher: Watcher,
) -> Running:
    watcher.begins(trial)
    try:
        measurement = measure(study_of(trial.values))
    except UserError as error:
        return Running(trial, Measurement({}), str(error), "failed")
    begin(store, f"{name} {trial.number}", measurement.steps)
    return Running(trial, measurement)


def _make_rung(
    rung: int,
    running: Sequence[Running],
    store: ArtifactStore,
    make: Make,
    search: Search,
    watcher: Watcher,
    data: Collection[str],
) -> None:
    """Make what the trials need for one more seed, and end those that are finished, hopeless or broken."""
    todo: dict[int, list[Step]] = {}
    seen: set[str] = set()
    for each in running:
        steps = [step for step in each.measurement.rungs[rung] if step.key not in seen]
        seen |= {step.key for step in steps}
        todo[each.trial.number] = steps
    failed = make(todo)
    if broken := next((key for key in failed if key in data), None):
        raise UserError(f"What the study needs cannot be made: {failed[broken]}", "No trial has ended by it.")
    for each in running:
        each.reason = next((failed[step.key] for step in each.measurement.rungs[rung] if step.key in failed), "")
        if each.reason:
            each.state = "failed"
            continue
        each.score = each.measurement.score(lambda step: dev_accuracy(store, step), rung + 1)
        hopeless = search.report(each.trial, rung, each.score.value)
        watcher.reports(each.trial, rung, each.rungs, each.score)
        if rung + 1 == each.rungs:
            each.state = "complete"
        elif hopeless:
            each.state = "pruned"


def _end(running: Running, store: ArtifactStore, search: Search, watcher: Watcher) -> None:
    score, steps = running.score, running.measurement.steps
    made = [store.get(s.ref).record for s in steps if store.inspect(s.ref, verify=False).status == "complete"]
    notes: dict[str, Any] = {
        "values": dict(running.trial.values),
        "reason": running.reason,
        "cells": score.means if score else {},
        "standard_error": score.standard_error if score else None,
        "seconds": sum(record.seconds for record in made if STAGES[record.stage].trains),
        "finetuned": [record.key for record in made if FACT in record.facts],
    }
    search.end(running.trial, running.state, score, notes)
    if steps:
        end(store, steps)
    watcher.ends(running.trial, running.state, score, notes)


def dev_accuracy(store: ArtifactStore, step: Step) -> float:
    """Of a fine-tuning, 0 to 1. Raises LookupError if it is not made."""
    return float(store.get(step.ref).record.facts[FACT])
