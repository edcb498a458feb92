"""Training in a child process: it can be timed out and killed, has its own threads, and dies with its parent.

The parent writes one job as a line of JSON to the child's standard input and keeps that open; the child answers with
lines of JSON: {"progress": [done, total]}… (or {"fits": batch size}…), then {"facts": …}, {"user_error": …},
{"too_large": …} or {"error": …}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import BatchTooLarge, UserError
from tlm.machine.allocator import ALLOCATORS
from tlm.machine.memory import WAYS_TO_NEED_LESS, limit_memory
from tlm.machine.runtime import PACKAGE_PARENT, Runtime
from tlm.stages import STAGES
from tlm.stages.job import Facts, Job

_children: set[subprocess.Popen[str]] = set()


class StageFailed(RuntimeError):
    """A training process ended without a result."""


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
    with suppress(StageFailed, UserError):  # it is expected to end badly
        _run_child(job, trial=items, fits=sizes.append)
    if sizes[-1]:
        return f"A batch of {sizes[-1]} fits: set batch_size: {sizes[-1]}."
    return f"Not even one item fits: use {WAYS_TO_NEED_LESS}."


def _run_child(job: Job, trial: int = 0, fits: Callable[[int], None] = lambda size: None) -> Facts:
    """`trial`: try batches up to half of so many items instead of running the stage, and report those that fit."""
    message = {
        "step": job.step.model_dump(mode="json"),
        "runtime": job.runtime.model_dump(mode="json"),
        "out": str(job.out),
        "trial": trial,
    }
    with tempfile.TemporaryFile("w+") as noise:
        child = subprocess.Popen(
            [sys.executable, "-m", "tlm.execution.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env=child_environment(job.runtime),
        )
        _children.add(child)
        assert child.stdin is not None and child.stdout is not None
        expired = threading.Event()

        def stop() -> None:
            expired.set()  # first, so that whoever sees the child gone also sees why
            child.kill()

        timer = threading.Timer(job.runtime.stage_timeout or threading.TIMEOUT_MAX, stop)
        timer.daemon = True
        timer.start()
        try:
            child.stdin.write(json.dumps(message) + "\n")
            child.stdin.flush()
            answer = _listen(child.stdout, job, fits)
            child.stdin.close()
            code = child.wait()
        except BrokenPipeError:
            answer, code = None, child.wait()
        finally:
            timer.cancel()
            child.kill()
            child.wait()
            _children.discard(child)
        return _facts(answer, code, expired.is_set(), noise, job)


def stop_all() -> None:
    """Kill every training process of this one: the stages that wait for them fail at once, and nothing is published."""
    for child in tuple(_children):
        child.kill()


def _listen(lines: IO[str], job: Job, fits: Callable[[int], None]) -> dict[str, Any] | None:
    for line in lines:
        if not line.endswith("\n"):
            return None  # killed while it wrote
        message: dict[str, Any] = json.loads(line)
        if "progress" in message:
            job.progress(*message["progress"])
        elif "fits" in message:
            fits(message["fits"])
        else:
            return message
    return None


def _facts(answer: dict[str, Any] | None, code: int, timed_out: bool, noise: IO[str], job: Job) -> Facts:
    if answer is not None and "facts" in answer:
        return dict(answer["facts"])
    if answer is not None and "too_large" in answer:
        raise BatchTooLarge(*answer["too_large"])
    if answer is not None and "user_error" in answer:
        raise UserError(*answer["user_error"])
    if answer is not None:
        raise StageFailed(f"{job.step.ref}: {answer['error']}\n{answer['traceback']}")
    if timed_out:
        raise StageFailed(f"{job.step.ref}: stopped after stage_timeout={job.runtime.stage_timeout} seconds")
    noise.seek(0)
    last = "".join(noise.readlines()[-15:]).strip()
    # At the limit, libraries that do not look at what malloc returns end with a segmentation fault.
    hint = " (out of memory? lower batch_size or workers)" if code in (-9, -11) else ""
    raise StageFailed(f"{job.step.ref}: its process ended with code {code}{hint}\n{last}".strip())


def child_environment(runtime: Runtime) -> dict[str, str]:
    """What a training process runs in: this one's environment, with its threads and allocators."""
    environment = {**ALLOCATORS, **os.environ, "OMP_NUM_THREADS": str(runtime.threads)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_PARENT), environment.get("PYTHONPATH", "")]))
    return environment


def main() -> None:
    """The child: one job, then the end."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    message = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")

    try:
        step = Step.model_validate(message["step"])
        runtime = Runtime.model_validate(message["runtime"])
        store = ArtifactStore(runtime.artifacts)
        inputs = {name: store.get(ref) for name, ref in step.inputs.items()}
        job = Job(step, inputs, Path(message["out"]), runtime, lambda done, total: say(progress=[done, total]))
        say(facts=_run(job, message["trial"], lambda size: say(fits=size)))
    except BatchTooLarge as error:
        say(too_large=[error.problem, error.way_out, error.items])
    except UserError as error:
        say(user_error=[error.problem, error.way_out])
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    answers.close()


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


def _die_with_parent() -> None:
    """Standard input ends when the parent does, even by kill -9; training on for nobody would hold the machine."""
    while os.read(0, 4_096):  # the raw descriptor: a thread inside sys.stdin would block the interpreter's own exit
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
