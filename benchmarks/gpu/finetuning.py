"""Fine-tunings of a pre-training, pre-trained beside scratch, in the order of their worth."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from benchmarks.gpu.pretraining import MARGIN
from benchmarks.gpu.session import Session, free, synchronize, ws_of
from benchmarks.gpu.throughput import PLAIN, multiple_for
from tlm.artifacts.step import Step
from tlm.stages.job import Job
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, WEIGHTS
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig
from tlm.training.captured import Engine
from tlm.training.replay import Finetuner, OutOfTime, side_by_side

TASKS = ("fewrel", "dbpedia", "agnews")
"""In the order of their worth, where time may end. Every seed of these comes before any of another task."""


@dataclass(frozen=True)
class _Todo:
    step: Step
    task: str
    seed: int
    scratch: bool


def _finetunings(session: Session, planned: Step, made: Step) -> list[_Todo]:
    """Seed by seed, task by task, pre-trained beside scratch: whenever time is up, what is there can be compared."""
    todos = []
    for step in session.steps_of("finetune", arch=planned.labels["arch"]):
        task, seed, start = (
            str(step.labels["task"]),
            int(str(step.labels["finetune_seed"])),
            step.inputs.get("pretrained"),
        )
        if start is None:
            todos.append(_Todo(step, task, seed, True))
        elif start.key == planned.key:
            todos.append(_Todo(rebased(step, made), task, seed, False))
    return sorted(todos, key=_worth)


def _worth(todo: _Todo) -> tuple[bool, int, int, str]:
    known = todo.task in TASKS
    return not known, todo.seed, TASKS.index(todo.task) if known else 0, todo.task


def rebased(step: Step, pretrained: Step) -> Step:
    """A fine-tuning that starts from another pre-training than was planned."""
    if step.inputs["pretrained"].key == pretrained.key:
        return step
    inputs = {**step.inputs, "pretrained": pretrained.ref}
    slug = f"{step.slug}-{pretrained.slug.rpartition('-')[2]}"
    return Step(
        stage=step.stage, version=step.version, config=step.config, inputs=inputs, slug=slug, labels=step.labels
    )


def finetune_all(session: Session, planned: Step, made: Step, engine: Engine, *, scratch: bool = True) -> None:
    """Fine-tune a pre-training that was made as `planned`, or shorter, as often as there is time for.

    Args:
        scratch: also train from scratch, beside it.
    """
    tuners: dict[tuple[str, bool], Finetuner] = {}
    needed: dict[str, float] = {}
    wanted = [todo for todo in _finetunings(session, planned, made) if scratch or not todo.scratch]
    record = session.store.inspect(made.ref, verify=False).record
    if record is not None and record.left_behind:
        session.say(f"{made.ref} is here without weights: nothing more is fine-tuned from it")
        wanted = [todo for todo in wanted if todo.scratch]
    for (_, task), pair in groupby(wanted, key=lambda todo: (todo.seed, todo.task)):
        todos = list(pair)
        missing = [t for t in todos if session.store.inspect(t.step.ref, verify=False).status != "complete"]
        names, expected = ", ".join(t.step.slug for t in missing), needed.get(task, 0.0)
        if not missing:
            continue
        if session.left < expected * MARGIN + 2:
            session.say(f"{names}: {session.left:.0f} s are left, {expected:.0f} s are needed")
            continue
        started = time.monotonic()
        found: list[dict[str, Any]] = []
        try:
            for todo in missing:
                if (task, todo.scratch) not in tuners:
                    tuners[task, todo.scratch] = _tuner(session, todo.step, engine)
            synchronize(session.device)
            captured = time.monotonic() - started
            runs = [_finetuning(session, t.step, tuners[task, t.scratch], engine) for t in missing]
            found = side_by_side(runs, session.device)
        except OutOfTime as error:
            session.say(f"{names}: {error}")
        except Exception as error:
            if engine == PLAIN or session.device == "cpu":
                raise
            session.say(f"{engine} does not fine-tune here: {type(error).__name__}: {error}; {PLAIN} from now on"[:500])
            engine = PLAIN
            tuners.clear()
            free(session.device)
        if not found:
            continue
        took = time.monotonic() - started
        needed[task] = max(needed.get(task, 0.0), took - captured)
        for todo, facts in zip(missing, found, strict=True):
            labels = {"arch": str(todo.step.labels["arch"]), "ws": ws_of(todo.step)}
            facts |= {"task": todo.task, "seed": todo.seed, **labels}
            facts |= {"side_by_side": len(missing)}
            facts |= {"total_seconds": took, "capture_seconds": captured}
            session.keep("finetuned", {str(todo.step.ref): facts})
            session.say(
                f"{todo.step.ref}: test {facts['test_accuracy']:.4f}, dev {facts['dev_accuracy']:.4f}, {took:.1f} s"
            )
        session.pack()
    session.pack()


def _tuner(session: Session, step: Step, engine: Engine) -> Finetuner:
    return Finetuner(
        session.sequences(step, "tokens"),
        pd.read_parquet(session.input(step, "task").path("items.parquet")),
        session.vocabulary(step),
        Architecture.model_validate({"name": str(step.labels["arch"]), **step.config["architecture"]}),
        FinetuneConfig.model_validate(step.config["finetune"]),
        engine,
        max_length=int(step.config["max_length"]),
        device=session.device,
        multiple=multiple_for(session.device),
    )


def _finetuning(
    session: Session, step: Step, tuner: Finetuner, engine: Engine
) -> Generator[None, None, dict[str, Any]]:
    """Train, a step each time, and publish; the facts."""
    run = tuner.run(int(step.config["seed"]))
    epochs = session.preparing.start(run)
    start = session.store.get(step.inputs["pretrained"]) if "pretrained" in step.inputs else None
    started = time.monotonic()
    store = session.store
    with store.lock(step.ref), store.draft(step.ref) as draft:
        job: Job = session.job(step, draft)
        with job.stream("predictions.parquet", ["item_id", "part", "label", "logits"]) as sink:
            done = yield from tuner.finetune(
                run,
                epochs,
                sink,
                pretrained=start.folder(CONFIG_AND_WEIGHTS) if start else None,
                deadline=session.deadline,
            )
        seconds = time.monotonic() - started
        done.model.config.save_pretrained(draft)
        job.write(done.curve.frame(), "metrics.parquet")
        facts: dict[str, Any] = {**done.facts}
        made_by = session.provenance(engine)
        store.publish(step, draft, facts=facts, provenance=made_by, seconds=seconds, left_behind=WEIGHTS)
    return {**facts, "seconds": seconds}
