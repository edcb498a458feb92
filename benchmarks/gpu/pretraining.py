"""Pre-training within a time: the fastest sound engine, and as many epochs as fit."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.checks import checked
from benchmarks.gpu.session import Session, free, synchronize
from benchmarks.gpu.throughput import COMPILED, FASTEST, PLAIN, engines, launched, multiple_for
from tlm.artifacts.step import Step
from tlm.modeling.interchange import save
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig
from tlm.training.captured import Engine, Stepper
from tlm.training.optimisation import Curve
from tlm.training.prepacked import Epoch, Run
from tlm.training.replay import OutOfTime, capture_run, language_stepper, plan_run, pretrain, pretraining_steps

MARGIN = 1.03
"""Of the time that the measured rate foretells."""
TRIED, TRIED_SECONDS = 300, 10.0
"""Steps of a trial, and the seconds after which it ends even so."""
LOSS_TOLERANCE = 0.02
"""Between engines, whose dropout differs, after so few steps: on an H200 they differed by 0.0002."""
PUBLISHED_SECONDS = 8.0
HANGING_SECONDS = 150.0
"""A kernel that never ends must not take the whole time: the process is ended, and another call may try other engines."""
EVALUATION_SECONDS = 4.0
"""Of the held-out part, all of a run's together, before anything is known."""


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


def pretrained(session: Session, step: Step, seconds: float, *, place: str, shorten: bool) -> tuple[Step, Engine]:
    """The step that was made, now or in an earlier call, and the engine that made it, or will fine-tune it.

    Args:
        seconds: it trains for no longer.
        place: of its figures.
        shorten: train fewer epochs, with the schedule of a run of that length, where not all of them fit.

    Raises:
        OutOfTime: if not one epoch fits, or not all and it is not to be shortened.
    """
    kept = session.figures.get(place, {}).get("pretrained")
    found = Step.model_validate(kept) if kept else step
    if (found.inputs, found.labels) != (step.inputs, step.labels):  # of another bundle in this home
        found = step
    if session.store.inspect(found.ref, verify=False).status == "complete":
        return found, best_engine(session)
    made = _pretrain(session, step, seconds, place, shorten)
    free(session.device)
    return made


def _pretrain(session: Session, step: Step, seconds: float, place: str, shorten: bool) -> tuple[Step, Engine]:
    end = time.monotonic() + seconds
    config = PretrainConfig.model_validate(step.config["pretrain"])
    planned = config.epochs
    run = _run(session, step, config)
    started = time.monotonic()
    if session.device == "cuda":
        faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True)
    trial, epochs = _chosen(session, step, run, place)
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
        if not shorten:
            raise OutOfTime(f"{fits} of {config.epochs} epochs fit into {seconds:.0f} s.")
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
        place,
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
    session.say(f"{step.slug}: pre-trained in {trained:.1f} s: {done.facts}")
    return step, engine


@dataclass(frozen=True)
class _Trial:
    """An engine with captured steps that trained for a while, and is as new again. `loss`: the last third's mean."""

    engine: Engine
    stepper: Stepper
    seconds: float
    """Of a step."""
    loss: float


def _chosen(session: Session, step: Step, run: Run, place: str) -> tuple[_Trial, Iterator[Epoch]]:
    """The fastest of the engines that are sound: right gradients, and losses like those of torch's own kernels.

    What needs no compiler is tried first, as a compiler takes half a minute. The run's epochs are begun meanwhile.
    """
    short = Run(**{**vars(run), "steps": min(run.steps, TRIED)})
    epoch: Epoch = next(iter(session.preparing.start(short)))
    epochs = session.preparing.start(run)
    architecture = str(step.labels["arch"])
    if architecture in session.sound:
        return _tried(session, step, short, run, epoch, session.sound[architecture]), epochs
    plain = PLAIN if session.device == "cuda" else Engine()
    asked = [session.engine] if session.engine else [e for e in engines(session.device) if e.fused]
    asked = [engine for engine in asked if engine != plain]
    found = checked(session, [engine for engine in asked if engine.fused])
    session.keep(place, {"checks": found})
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
    session.keep(place, {"trials": {str(t.engine): {"ms": 1e3 * t.seconds, "loss": t.loss} for t in trials}})
    best = min(trials, key=lambda trial: trial.seconds)
    session.sound[architecture] = best.engine
    return best, epochs


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


def _publish(
    session: Session, step: Step, model: Any, curve: Curve, facts: dict[str, Any], seconds: float, engine: Engine
) -> None:
    store = session.store
    with store.lock(step.ref), store.draft(step.ref) as draft:
        save(model, draft)
        session.job(step, draft).write(curve.frame(), "metrics.parquet")
        store.publish(step, draft, facts=facts, provenance=session.provenance(engine), seconds=seconds)
