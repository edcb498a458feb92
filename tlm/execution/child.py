"""Training in a child process (`tlm.execution.process`).

The parent says one job; the child answers with {"progress": [done, total]}…, {"points": [[step, metric, value]…]}… or
{"fits": batch size}…, then {"facts": …}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import BatchTooLarge, UserError
from tlm.execution.process import Child, StageFailed, StageStopped, talk_to_parent
from tlm.machine.memory import WAYS_TO_NEED_LESS, limit_memory
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES
from tlm.stages.job import Facts, Job


def run_isolated(job: Job) -> Facts:
    """Run a job's stage in a child process and return its facts.

    Raises:
        UserError: as raised by the stage; if the memory did not hold a batch, it names one that fits.
        StageFailed: if the child crashed, was killed or ran past `runtime.stage_timeout` seconds.
    """
    try:
        return _run_child(job)
    except BatchTooLarge as error:
        raise UserError(error.problem, _batch_that_fits(job, error.items)) from None


def _batch_that_fits(job: Job, items: int) -> str:
    """The way out of a batch of `items` that was too large, from a child that tries smaller ones."""
    sizes = [0]
    try:
        _run_child(job, trial=items, fits=sizes.append)
    except StageStopped:
        raise
    except (StageFailed, UserError):  # it is expected to end badly
        pass
    if sizes[-1]:
        return f"A batch of {sizes[-1]} fits: set batch_size: {sizes[-1]}."
    return f"Not even one item fits: use {WAYS_TO_NEED_LESS}."


def _run_child(job: Job, trial: int = 0, fits: Callable[[int], None] = lambda size: None) -> Facts:
    """Run the stage; or, given a `trial`, try batches up to half of so many items and report those that fit."""
    with Child("tlm.execution.child", str(job.step.ref), job.runtime, timeout=job.runtime.stage_timeout) as child:
        child.say(
            step=job.step.model_dump(mode="json"),
            runtime=job.runtime.model_dump(mode="json"),
            out=str(job.out),
            trial=trial,
            watched=job.points is not None,
        )
        while True:
            match child.hear():
                case {"progress": [done, total]}:
                    job.progress(done, total)
                case {"points": points} if job.points:
                    job.points([(step, name, value) for step, name, value in points])
                case {"fits": size}:
                    fits(size)
                case {"facts": facts}:
                    return dict(facts)


def main() -> None:
    """The child: one job, then the end."""
    with talk_to_parent() as parent:
        given = parent.hear()
        step = Step.model_validate(given["step"])
        runtime = Runtime.model_validate(given["runtime"])
        store = ArtifactStore(runtime.artifacts)
        inputs = {name: store.get(ref) for name, ref in step.inputs.items()}
        points = (lambda points: parent.say(points=points)) if given["watched"] else None
        job = Job(
            step, inputs, Path(given["out"]), runtime, lambda done, total: parent.say(progress=[done, total]), points
        )
        parent.say(facts=_run(job, given["trial"], lambda size: parent.say(fits=size)))


def _run(job: Job, trial: int, fits: Callable[[int], None]) -> Facts:
    """The stage, within the memory limit if it trains on the CPU (a GPU's driver maps far more than it uses)."""
    stage = STAGES[job.step.stage].of(job.step)
    if not stage.trains:
        return stage.run(job)

    from tlm.execution.trial import try_batches
    from tlm.training.memory import no_substitutes, out_of_memory_is

    device = job.runtime.torch_device()
    if device == "cpu":
        limit_memory(job.runtime.memory_gib)
        no_substitutes()
    with out_of_memory_is(f"out of memory on {device}"):
        if trial:
            try_batches(job, trial, fits)
            return {}
        return stage.run(job)


if __name__ == "__main__":
    main()
