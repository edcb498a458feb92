"""What runs the tasks of a study: threads of this process, or another of Prefect's task runners. The one place to add one.

`TLM_ENGINE` names it. An extension registers its own: `ENGINES.register("mine", Mine())`.
"""

from __future__ import annotations

from typing import Any, Protocol

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tlm.errors import UserError
from tlm.machine.registry import Registry
from tlm.machine.runtime import Runtime


class Engine(Protocol):
    def task_runner(self, runtime: Runtime) -> TaskRunner[Any]:
        """The task runner of one run of a study.

        Raises:
            UserError: if it cannot run here, naming the setting that is missing.
        """
        ...


class Threads:
    """`runtime.workers` threads of this process; those that train wait for a child process."""

    def task_runner(self, runtime: Runtime) -> TaskRunner[Any]:
        return ThreadPoolTaskRunner(max_workers=runtime.workers)


ENGINES: Registry[Engine] = Registry("engine", {})
ENGINES.register("threads", Threads())


def task_runner(runtime: Runtime) -> TaskRunner[Any]:
    """The task runner that `runtime.engine` names. Raises UserError for an unknown one, and what the engine raises."""
    try:
        engine = ENGINES[runtime.engine]
    except ValueError as error:
        raise UserError(f"TLM_ENGINE: {error}.", "Unset it for threads of this process.") from None
    return engine.task_runner(runtime)
