"""kill -9 of a pre-training, six times, its parent's too: the model that comes out is the undisturbed one's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from helpers import python_environment

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.execution import process as processes
from tlm.execution.execute import Outcome, execute
from tlm.execution.process import StageFailed
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan
from tlm.study.config import StudyConfig

pytestmark = pytest.mark.slow
STEPS = 700
LIBRARIES = ("networkx", "numpy")
STUDY = {
    "name": "killed",
    "corpus": {
        "source": {"kind": "docstrings", "part": "corpus", "libraries": LIBRARIES, "min_words": 15},
        "sizes": [2_000],
        "heldout": 100,
    },
    "tokenizer": {"kind": "wordpiece", "vocab_size": 2_000},
    "max_length": 48,
    "architectures": [{"variant": "bert1b", "name": "conv", "head_size": 4, "conv_channels": 4}],
    "tasks": [
        {
            "name": "libraries",
            "source": {"kind": "docstrings", "part": "task", "libraries": LIBRARIES},
            "train_per_label": 20,
            "dev_per_label": 5,
            "test_per_label": 5,
        }
    ],
    "pretrain": {"steps": STEPS, "batch_size": 8, "learning_rate": 1e-3},
    "finetune": {"epochs": 1},
}
ATTEMPT = """
import sys
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.artifacts.step import Step
step, runtime = Step.model_validate_json(sys.argv[1]), Runtime.model_validate_json(sys.argv[2])
execute(step, runtime, progress=lambda done, total: print(done, flush=True))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Step, Runtime]:
    """A pre-training step with its inputs made, and the runtime that holds them."""
    runtime = Runtime(home=str(tmp_path_factory.mktemp("killed")), data_root="/nonexistent", isolate=True)
    steps = plan(StudyConfig.model_validate(STUDY), runtime.data_root).steps
    step = next(step for step in steps if step.stage == "pretrain")
    for needed in steps:
        if needed.stage in ("source", "tokenizer", "tokens", "corpus"):
            execute(needed, runtime)
    return step, runtime


def kill_the_child(step: Step, runtime: Runtime, reports: int, delay: float) -> list[int]:
    """Run the step here, and kill its process `delay` seconds after so many reports of progress, which are returned."""
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == reports:
            threading.Timer(delay, kill).start()

    def kill() -> None:
        for child in tuple(processes._living):
            os.kill(child.process.pid, signal.SIGKILL)

    with pytest.raises(StageFailed, match="ended with code -9"):
        execute(step, runtime, progress=progress)
    return seen


def kill_the_parent(step: Step, runtime: Runtime, reports: int, delay: float) -> list[int]:
    """The same in a process of its own, which is killed; its child must not outlive it."""
    command = [sys.executable, "-c", ATTEMPT, step.model_dump_json(), runtime.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=python_environment(), text=True) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(reports)]
        children = psutil.Process(process.pid).children(recursive=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=delay)
        process.kill()
        seen += [int(line) for line in process.stdout]
    _, alive = psutil.wait_procs(children, timeout=20)
    assert children and not alive, "a training process outlived its parent"
    return seen


def digests(outcome: Outcome) -> dict[str, str]:
    return {name: output.sha256 for name, output in outcome.record.outputs.items()}


def test_a_pretraining_killed_six_times_ends_in_the_bits_of_the_undisturbed_one(prepared: tuple[Step, Runtime]) -> None:
    step, runtime = prepared
    store = ArtifactStore(runtime.artifacts)
    generator = random.Random(0)
    reached, starts = 0, []
    for attempt in range(6):
        # How often a run writes is no part of what it is. After each step: nearly every kill meets a write.
        often = runtime.model_copy(update={"checkpoint_seconds": 0 if attempt % 2 == 0 else 0.05})
        kill = kill_the_parent if attempt in (2, 5) else kill_the_child
        seen = kill(step, often, reports=generator.randint(2, 4), delay=generator.uniform(0, 0.1))
        starts.append(seen[0])
        if attempt % 2:  # the attempt before wrote after each step
            assert reached - 1 <= seen[0], f"attempt {attempt} redid steps: {reached} were done, it began at {seen[0]}"
        reached = seen[-1]
        assert store.inspect(step.ref).status == "missing"
        assert Path(store.checkpoints(step.ref)).is_dir()
    assert starts == sorted(starts) and starts[-1] > 50, "the run has moved on from kill to kill"
    seen = []
    resumed = execute(step, runtime, progress=lambda done, total: seen.append(done))
    assert starts[-1] <= seen[0] < seen[-1] == STEPS
    assert not store.checkpoints(step.ref).exists()

    store.delete(step.ref)
    undisturbed = execute(step, runtime)
    assert undisturbed.status == "executed"
    assert digests(resumed) == digests(undisturbed)
    assert {"model.safetensors", "metrics.parquet"} <= set(digests(resumed))
    assert resumed.record.facts == undisturbed.record.facts
