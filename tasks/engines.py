"""What runs the tasks of a study: threads of this process, a Ray cluster, or another of Prefect's task runners. The one
place to add one.

`TLM_ENGINE` names it. An extension registers its own: `ENGINES.register("mine", Mine())`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks import board
from tasks.answering import ray_address
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.process import stop_all
from tlm.machine.places import is_url
from tlm.machine.registry import Registry
from tlm.machine.runtime import Runtime
from tlm.stages import STAGES

if TYPE_CHECKING:
    from tlm.study.config import StudyConfig

RETRIES = 3
"""How often Ray starts a step again whose process or node died. What a step raises is never retried by Ray."""


class Engine(ABC):
    """A subclass says what is different about it: all that is here suits tasks that run on this machine."""

    def check(self, study: StudyConfig, runtime: Runtime) -> None:
        """Raise UserError, naming the variable, if a study cannot run on it: before any work."""
        return None

    @abstractmethod
    def task_runner(self, runtime: Runtime) -> TaskRunner[Any]:
        """The task runner of one run of a study.

        Raises:
            UserError: if it cannot run here, naming the setting that is missing.
        """

    def at_once(self, runtime: Runtime) -> int:
        """How many steps to submit before one of them ends."""
        return runtime.workers

    def placing(self, step: Step, runtime: Runtime) -> AbstractContextManager[object]:
        """What is around the submission of a step: what it needs of a machine."""
        return nullcontext()

    def board(self) -> board.Board:
        """Where a step that runs in this process shows its progress."""
        return board.current()

    def telling(self) -> AbstractContextManager[object]:
        """What is around the submission of all steps: what they show elsewhere is shown here."""
        return nullcontext()

    def stop(self, futures: Collection[PrefectFuture[Any]]) -> None:
        """End the trainings of steps that were submitted."""
        stop_all()


class Threads(Engine):
    """`runtime.workers` threads of this process; those that train wait for a child process."""

    def task_runner(self, runtime: Runtime) -> TaskRunner[Any]:
        return ThreadPoolTaskRunner(max_workers=runtime.workers)


class Ray(Engine):
    """The nodes of the Ray cluster that RAY_ADDRESS names: all have this commit and environment, and see the same home."""

    def check(self, study: StudyConfig, runtime: Runtime) -> None:
        if find_spec("prefect_ray") is None:
            raise UserError("TLM_ENGINE=ray needs packages that are not installed.", "pip install 'tlm[ray]'")
        for name, value, what in (
            ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS"), "the address of the cluster's head, host:port"),
            ("PREFECT_API_URL", os.environ.get("PREFECT_API_URL"), "the Prefect server that every node reaches"),
            ("MLFLOW_TRACKING_URI", _if_server(runtime.tracking_uri), "the MLflow server that every node reaches"),
        ):
            if not value:
                raise UserError(f"TLM_ENGINE=ray needs {name}.", f"Set it to {what}.")
        ray_address()
        if runtime.device == "auto":
            raise UserError(
                "TLM_ENGINE=ray with TLM_DEVICE=auto: nodes could train on different devices without a word.",
                "Set TLM_DEVICE to cpu or cuda.",
            )
        fields = [f"{part}.precision" for part in ("pretrain", "finetune") if getattr(study, part).precision == "auto"]
        if fields:  # an arm has the study's, or says which
            raise UserError(
                f"TLM_ENGINE=ray with {' and '.join(fields)} set to auto: what is measured here is not theirs.",
                f"Choose: {' '.join(f'--set {field}=bfloat16' for field in fields)} (or float32).",
            )
        runtime.check_writable()
        ArtifactStore(runtime.artifacts).shelf.check_usable()
        from tasks.nodes import check_nodes, connect

        connect()
        check_nodes(runtime)

    def task_runner(self, runtime: Runtime) -> TaskRunner[Any]:
        from tasks.nodes import ClusterRunner

        return ClusterRunner()

    def at_once(self, runtime: Runtime) -> int:
        from tasks.nodes import cpus

        return max(1, sum(cpus()))

    @contextmanager
    def placing(self, step: Step, runtime: Runtime) -> Iterator[None]:
        """A training has `runtime.threads` CPUs, its share of a GPU and TLM_MEMORY_GIB; a stage that measures the machine
        has one of the largest nodes to itself."""
        from prefect_ray.context import remote_options

        from tasks.nodes import cpus

        stage = STAGES[step.stage]
        needs: dict[str, Any] = {"num_cpus": 1, "max_retries": RETRIES}
        if stage.trains:
            needs["num_cpus"] = runtime.threads
            if runtime.device == "cuda":
                needs["num_gpus"] = 1 if stage.alone else runtime.gpu_share
            if runtime.memory_gib is not None:
                needs["memory"] = int(runtime.memory_gib * 2**30)
        if stage.alone:
            needs["num_cpus"] = max(cpus())
        with remote_options(**needs):
            yield

    def board(self) -> board.Board:
        from tasks.nodes import told_board

        return told_board()

    def telling(self) -> AbstractContextManager[object]:
        from tasks.nodes import telling

        return telling(board.current())

    def stop(self, futures: Collection[PrefectFuture[Any]]) -> None:
        """By force: a task that waits for its training's process heeds nothing else. That process ends with it."""
        import ray

        stop_all()
        for future in futures:
            ray.cancel(future.wrapped_future, force=True)  # type: ignore[attr-defined]


def _if_server(uri: str | None) -> str | None:
    """A tracking URI, if it is that of a server."""
    return uri if uri and is_url(uri) and not uri.startswith(("sqlite:", "file:")) else None


ENGINES: Registry[Engine] = Registry("engine", {})
ENGINES.register("threads", Threads())
ENGINES.register("ray", Ray())


def engine_of(runtime: Runtime) -> Engine:
    """The engine that `runtime.engine` names. Raises UserError for an unknown one."""
    try:
        return ENGINES[runtime.engine]
    except ValueError as error:
        raise UserError(f"TLM_ENGINE: {error}.", "Unset it for threads of this process.") from None


def task_runner(runtime: Runtime) -> TaskRunner[Any]:
    """The task runner that `runtime.engine` names. Raises UserError for an unknown one, and what the engine raises."""
    return engine_of(runtime).task_runner(runtime)
