"""The paper's result: pre-train on the largest Ws, fine-tune on every task, and from scratch, seed after seed.

Artifacts are those of the study in the bundle, under its keys, with one exception: if the time does not allow for all
epochs of pre-training, fewer are planned (with the schedule of a run of that length), and that is another step.
"""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
import torch

from benchmarks.gpu.checks import checked
from benchmarks.gpu.session import Session, free, synchronize
from benchmarks.gpu.throughput import COMPILED, FASTEST, PLAIN, engines, launched, multiple_for
from tlm.artifacts.provenance import provenance
from tlm.artifacts.step import Step
from tlm.modeling.interchange import save
from tlm.stages.job import Job
from tlm.stages.pretrain import CONFIG_AND_WEIGHTS, WEIGHTS
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig, PretrainConfig
from tlm.training.captured import Engine, Stepper
from tlm.training.optimisation import Curve
from tlm.training.prepacked import Epoch, Run
from tlm.training.replay import (
    Finetuner,
    OutOfTime,
    capture_run,
    language_stepper,
    plan_run,
    pretrain,
    pretraining_steps,
    side_by_side,
)

MARGIN = 1.03
"""Of the time that the measured rate foretells."""
TRIED, TRIED_SECONDS = 300, 10.0
"""Steps of a trial, and the seconds after which it ends even so."""
LOSS_TOLERANCE = 0.02
"""Between engines, whose dropout differs, after so few steps: on an H200 they differed by 0.0002."""
PUBLISHED_SECONDS = 8.0
HANGING_SECONDS = 150.0
"""A kernel that never ends must not take the whole time: the process is ended, and another call may try other engines."""
TASKS = ("fewrel", "dbpedia", "agnews")
"""In the order of their worth, where time may end. Every seed of these comes before any of another task."""
EVALUATION_SECONDS = 4.0
"""Of the held-out part, all of a run's together, before anything is known."""


def headline(session: Session, *, reserve: float) -> None:
    """Pre-train, then fine-tune as often as there is time for; `reserve` seconds of it are kept for fine-tuning."""
    step = max(session.steps_of("pretrain"), key=lambda s: int(str(s.labels["ws"])))
    made, engine = _made(session, step), best_engine(session)
    if made is None:
        made, engine = _pretrain(session, step, session.left - reserve)
        free(session.device)
    _finetune_all(session, step, made, engine)


def best_engine(session: Session) -> Engine:
    """What was asked for, else what pre-trained, else the fastest of the throughput stage, else what should be."""
    if session.engine is not None:
        return session.engine
    rows = session.figures.get("throughput", {})
    known = engines(session.device)
    times = {engine: rows.get(f"pretrain-bert6 | {engine}", {}).get("ms") for engine in known}
    trained = session.figures.get("headline", {}).get("pretraining", {}).get("engine")
    used = [engine for engine in known if str(engine) == trained]
    timed = sorted((ms, str(engine), engine) for engine, ms in times.items() if ms is not None)
    default = FASTEST if session.device == "cuda" else Engine()
    return used[0] if used else timed[0][2] if timed else default


def _made(session: Session, step: Step) -> Step | None:
    """The pre-training if an earlier call has finished it, with the epochs that it had."""
    kept = session.figures.get("headline", {}).get("pretrained")
    found = Step.model_validate(kept) if kept else step
    return found if session.store.inspect(found.ref, verify=False).status == "complete" else None


# --- pre-training ---


def _pretrain(session: Session, step: Step, seconds: float) -> tuple[Step, Engine]:
    """Train for as many epochs as fit into `seconds`, and publish; the step that was made, and the engine that made it."""
    end = time.monotonic() + seconds
    config = PretrainConfig.model_validate(step.config["pretrain"])
    planned = config.epochs
    run = _run(session, step, config)
    started = time.monotonic()
    if session.device == "cuda":
        faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True)
    trial, epochs = _chosen(session, step, run)
    faulthandler.cancel_dump_traceback_later()
    stepper, engine, rate = trial.stepper, trial.engine, trial.seconds
    captured = time.monotonic() - started
    free(session.device)
    fits = int((end - time.monotonic() - EVALUATION_SECONDS) / (MARGIN * rate * run.order.steps_per_epoch))
    session.say(
        f"{engine}, found in {captured:.1f} s; {1e3 * rate:.3f} ms a step; {fits} epochs fit, {planned} are planned"
    )
    if fits < 1:
        raise OutOfTime(f"not one epoch of {run.order.steps_per_epoch} steps fits into {seconds:.0f} s.")
    if config.epochs is not None and fits < config.epochs:
        session.say(f"NOT the paper's {config.epochs} epochs: {fits}, with the schedule of a run of {fits}")
        step = shortened(step, fits)
        config = PretrainConfig.model_validate(step.config["pretrain"])
        run = _run(session, step, config)
        epochs = session.preparing.start(run)
    synchronize(session.device)
    started = time.monotonic()

    def tell(epoch: int) -> None:
        if epoch % 5 == 4:
            session.say(f"epoch {epoch + 1} of {run.epochs} launched, {time.monotonic() - started:.1f} s")

    # Better late, and less fine-tuning, than nothing: only what would end after everything else is given up.
    latest = session.deadline - PUBLISHED_SECONDS
    heldout = session.sequences(step, "corpus", "heldout")
    done = pretrain(stepper, run, heldout, epochs, deadline=latest, after_epoch=tell)
    synchronize(session.device)
    trained = time.monotonic() - started
    _publish(session, step, done.model, done.curve, {**done.facts}, trained, engine)
    session.keep(
        "headline",
        {
            "pretrained": step.model_dump(mode="json"),
            "pretraining": {
                **done.facts,
                "epochs": run.epochs,
                "planned_epochs": planned,
                "seconds": trained,
                "capture_seconds": captured,
                "ms_per_step": 1e3 * trained / run.steps,
                "tokens_per_second": done.facts["tokens"] / trained,
                "engine": str(engine),
                "corpus_tokens": int(run.sequences.lengths.sum()),
            },
        },
    )
    session.say(f"pre-trained in {trained:.1f} s: {done.facts}")
    return step, engine


@dataclass(frozen=True)
class _Trial:
    """An engine with captured steps that trained for a while, and is as new again. `loss`: the last third's mean."""

    engine: Engine
    stepper: Stepper
    seconds: float
    """Of a step."""
    loss: float


def _chosen(session: Session, step: Step, run: Run) -> tuple[_Trial, Iterator[Epoch]]:
    """The fastest of the engines that are sound: right gradients, and losses like those of torch's own kernels.

    What needs no compiler is tried first, as a compiler takes half a minute. The run's epochs are begun meanwhile.
    """
    plain = PLAIN if session.device == "cuda" else Engine()
    asked = [session.engine] if session.engine else [e for e in engines(session.device) if e.fused]
    asked = [engine for engine in asked if engine != plain]
    found = checked(session, [engine for engine in asked if engine.fused])
    session.keep("headline", {"checks": found})
    short = Run(**{**vars(run), "steps": min(run.steps, TRIED)})
    epoch: Epoch = next(iter(session.preparing.start(short)))
    epochs = session.preparing.start(run)
    trials = [_tried(session, step, short, run, epoch, plain)]
    for engine in (*asked, *([] if session.engine or session.device == "cpu" else [COMPILED])):
        if engine == COMPILED and len(trials) > 1:
            break
        if not found.get(str(engine), {"sound": True})["sound"]:
            continue
        try:
            trial = _tried(session, step, short, run, epoch, engine)
        except Exception as error:
            session.say(f"{engine} does not run here: {type(error).__name__}: {error}"[:500])
            free(session.device)
            continue
        if abs(trial.loss - trials[0].loss) < LOSS_TOLERANCE:
            trials.append(trial)
    session.keep("headline", {"trials": {str(t.engine): {"ms": 1e3 * t.seconds, "loss": t.loss} for t in trials}})
    return min(trials, key=lambda trial: trial.seconds), epochs


def _tried(session: Session, step: Step, short: Run, run: Run, epoch: Epoch, engine: Engine) -> _Trial:
    """An engine on the first batches of a run, with the schedule of a short one."""
    started = time.monotonic()
    stepper = language_stepper(
        run.vocabulary,
        Architecture.model_validate({"name": str(step.labels["arch"]), **step.config["architecture"]}),
        PretrainConfig.model_validate(step.config["pretrain"]),
        engine,
        max_length=run.max_length,
        seed=run.seed,
        steps=run.steps,
        device=session.device,
    )
    capture_run(stepper, run)
    captured = time.monotonic() - started
    stepper.model.train()
    stepper.reseed(run.seed)
    count, seconds = launched(stepper, short, epoch, TRIED_SECONDS)
    losses = stepper.losses_T[:count]
    if not bool(losses.isfinite().all()):
        raise ArithmeticError("a loss is not finite")
    loss = float(losses[-max(1, count // 3) :].mean())
    stepper.flat.rewind()
    stepper.losses_T.fill_(torch.nan)
    session.say(f"{engine}: {1e3 * seconds / count:.3f} ms, loss {loss:.4f}, captured in {captured:.1f} s")
    return _Trial(engine, stepper, seconds / count, loss)


def _run(session: Session, step: Step, config: PretrainConfig) -> Run:
    corpus = session.sequences(step, "corpus")
    return plan_run(
        corpus,
        session.vocabulary(step),
        config,
        max_length=int(step.config["max_length"]),
        seed=int(step.config["seed"]),
        steps=pretraining_steps(corpus, config),
        multiple=multiple_for(session.device),
    )


def shortened(step: Step, epochs: int) -> Step:
    """The step with fewer epochs of pre-training: another config, and so another key."""
    config = {**step.config, "pretrain": {**step.config["pretrain"], "epochs": epochs}}
    return Step(
        stage=step.stage,
        version=step.version,
        config=config,
        inputs=step.inputs,
        slug=f"{step.slug}-e{epochs}",
        labels=step.labels,
    )


# --- fine-tuning ---


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


def _finetune_all(session: Session, planned: Step, made: Step, engine: Engine) -> None:
    tuners: dict[tuple[str, bool], Finetuner] = {}
    needed: dict[str, float] = {}
    done: list[Step] = [made]
    for (_, task), pair in groupby(_finetunings(session, planned, made), key=lambda todo: (todo.seed, todo.task)):
        todos = list(pair)
        missing = [t for t in todos if session.store.inspect(t.step.ref, verify=False).status != "complete"]
        done += [t.step for t in todos if t not in missing]
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
            facts |= {"task": todo.task, "seed": todo.seed, "scratch": todo.scratch, "side_by_side": len(missing)}
            facts |= {"total_seconds": took, "capture_seconds": captured}
            session.keep("finetuned", {str(todo.step.ref): facts})
            session.say(
                f"{todo.step.ref}: test {facts['test_accuracy']:.4f}, dev {facts['dev_accuracy']:.4f}, {took:.1f} s"
            )
            done.append(todo.step)
        session.pack(done)
    session.pack(done)


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
        made_by = _provenance(session, engine)
        store.publish(step, draft, facts=facts, provenance=made_by, seconds=seconds, left_behind=WEIGHTS)
    return {**facts, "seconds": seconds}


# --- records ---


def _publish(
    session: Session, step: Step, model: Any, curve: Curve, facts: dict[str, Any], seconds: float, engine: Engine
) -> None:
    store = session.store
    with store.lock(step.ref), store.draft(step.ref) as draft:
        save(model, draft)
        session.job(step, draft).write(curve.frame(), "metrics.parquet")
        store.publish(step, draft, facts=facts, provenance=_provenance(session, engine), seconds=seconds)


def _provenance(session: Session, engine: Engine) -> dict[str, Any]:
    """Where and how."""
    more: dict[str, Any] = {"device": session.device, "threads": torch.get_num_threads(), "engine": str(engine)}
    if session.commit:
        more |= {"git_commit": session.commit, "git_dirty": False}
    return provenance(**more, gpu=session.figures["machine"]["device"])
