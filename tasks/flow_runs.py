"""Flow runs, and how those end that do not come to their own end: told to stop, or their process or their worker dead."""

from __future__ import annotations

import os
import select
import signal
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from filelock import FileLock, Timeout
from prefect import State, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed
from rich.console import Console

from tasks.engines import task_runner
from tlm.machine.interruption import closing, hold
from tlm.machine.runtime import Runtime

T = TypeVar("T")

PROCESS = "process"
"""The parameter of a flow run of this module that names the lock which its process holds."""
UNDER_WAY = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
WATCH_SECONDS = 3
OUTPUT = (1, 2)
"""Standard output and standard error: of a run of a worker, pipes to it."""


def run_here(work: Callable[[], T], runtime: Runtime, *, flow_name: str, run_name: str) -> T:
    """Call `work` in a flow of this process, which Prefect shows as cancelled if a signal ends it."""
    options: Any = {"task_runner": task_runner(runtime), "persist_result": False}

    @flow(name=flow_name, flow_run_name=run_name, **options)
    def here(process: str) -> T:
        own = UUID(flow_run.id)
        with closing(lambda: _cancel(own)), _heeding(own):
            return work()

    processes = runtime.prefect_home / "processes"
    _end_those_of_the_dead(processes)
    with _alive(processes) as process:
        return here(process)


@contextmanager
def _heeding(flow_run_id: UUID) -> Iterator[None]:
    """Inside, whoever cancels the run in Prefect's UI sends this process SIGTERM."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            if _is_cancelled(flow_run_id):
                _end_this_process()
                return

    threading.Thread(target=watch, name="cancellation", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _cancel(flow_run_id: UUID) -> None:
    with get_client(sync_client=True) as client:
        _end(client, flow_run_id, Cancelled(message="Cancelled while it ran."))


def _end(client: SyncPrefectClient, flow_run_id: UUID, state: State) -> None:
    """Put a flow run and its task runs that have not ended into a final state."""
    client.set_flow_run_state(flow_run_id, state, force=True)
    its_own = FlowRunFilter.model_validate({"id": {"any_": [flow_run_id]}})
    unfinished = TaskRunFilter.model_validate({"state": {"type": {"any_": UNDER_WAY}}})
    for task_run in client.read_task_runs(flow_run_filter=its_own, task_run_filter=unfinished):
        client.set_task_run_state(task_run.id, state.model_copy(update={"id": uuid.uuid4()}), force=True)


# --- runs whose process died ---


@contextmanager
def _alive(folder: Path) -> Iterator[str]:
    """Hold a lock that the kernel releases however this process ends; the name of it is a flow run's PROCESS."""
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    with FileLock(folder / f"{name}.lock"):
        try:
            yield name
        finally:
            (folder / f"{name}.lock").unlink(missing_ok=True)


def _end_those_of_the_dead(folder: Path) -> None:
    """Have Prefect show runs as crashed whose processes left their locks behind in `folder`."""
    dead = dict(_left_behind(folder))
    if not dead:
        return
    with get_client(sync_client=True) as client:
        under_way = FlowRunFilter.model_validate({"state": {"type": {"any_": UNDER_WAY}}})
        for found in client.read_flow_runs(flow_run_filter=under_way):
            if found.parameters.get(PROCESS) in dead:
                _end(client, found.id, Crashed(message="Its process died."))
    for name, lock in dead.items():
        (folder / f"{name}.lock").unlink(missing_ok=True)
        lock.release()


def _left_behind(folder: Path) -> Iterator[tuple[str, FileLock]]:
    """The locks that nobody held, now held by this process."""
    for path in sorted(folder.glob("*.lock")):
        lock = FileLock(path)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            yield path.stem, lock


def _end_this_process() -> None:
    """As SIGTERM does, unless a signal is at it: that one has cancelled the run, and a second one would cut it short."""
    hold()
    os.kill(os.getpid(), signal.SIGTERM)


# --- runs of a worker ---


def outliving_the_worker(run: Callable[[], T]) -> T | State:
    """Call `run` in a flow run that a worker started. If the worker dies, it goes on, and heeds who cancels it in Prefect.

    Returns:
        What `run` returns, or the state to end in.
    """
    worker, flow_run_id = os.getppid(), UUID(flow_run.id)
    over, told = threading.Event(), threading.Event()

    def watch() -> None:
        readers = select.poll()
        for descriptor in OUTPUT:
            readers.register(descriptor, 0)
        while not over.is_set():
            _replace([descriptor for descriptor, _ in readers.poll(WATCH_SECONDS * 1000)])
            if os.getppid() != worker and _is_cancelled(flow_run_id):
                told.set()
                _end_this_process()
                return

    threading.Thread(target=watch, name="worker", daemon=True).start()
    # For good: this process has no other flow run, and Prefect still writes when this one is over.
    Console.on_broken_pipe = _write_on  # type: ignore[assignment,method-assign]
    try:
        return run()
    except TerminationSignal:
        if told.is_set():
            return Cancelled(message="Cancelled; its worker was gone.")
        if _is_cancelled(flow_run_id):  # the worker would take a minute to say so
            _cancel(flow_run_id)
        raise
    finally:
        over.set()


def _replace(descriptors: Collection[int]) -> None:
    """Send nowhere what would be written to somebody who is gone."""
    for descriptor in descriptors:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _write_on(console: Console) -> None:
    """In the place of Rich's own, which raises SystemExit where a line is written before `_replace` had its turn."""
    del console._buffer[:]
    _replace(OUTPUT)


def _is_cancelled(flow_run_id: UUID) -> bool:
    with suppress(Exception), get_client(sync_client=True) as client:  # a server may be away for a while
        state = client.read_flow_run(flow_run_id).state
        return state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)
    return False
