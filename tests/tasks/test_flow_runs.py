"""How a flow run of this process heeds who cancels it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace
from uuid import uuid4

import pytest
from helpers import python_environment
from prefect.exceptions import TerminationSignal

from tasks import flow_runs
from tlm.machine import interruption


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when this process would have sent itself a signal; the run counts as cancelled, by whomever."""
    sent = threading.Event()
    monkeypatch.setattr(flow_runs, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(flow_runs, "_is_cancelled", lambda flow_run_id: True)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.set())
    return sent


def test_who_cancels_the_run_ends_the_process(signalled: threading.Event) -> None:
    with flow_runs._heeding(uuid4()):
        assert signalled.wait(20)


def test_a_run_that_a_signal_cancels_is_not_ended_a_second_time(
    signalled: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second signal ends a process at once, before it has said what is kept."""
    monkeypatch.setattr(interruption, "_ending", ending := threading.Event())
    ending.set()
    with flow_runs._heeding(uuid4()):
        assert not signalled.wait(0.2)


def test_a_line_for_a_worker_who_is_gone_does_not_end_the_run() -> None:
    """Rich would end the process, in the moment before what it writes to is sent nowhere."""
    code = (
        "import os, sys; from types import SimpleNamespace; from uuid import uuid4; from rich.console import Console\n"
        "from tasks import flow_runs\n"
        "flow_runs.flow_run, flow_runs.WATCH_SECONDS = SimpleNamespace(id=str(uuid4())), 3600\n"
        "flow_runs._replace, later = (lambda descriptors: None), flow_runs._replace\n"
        "def run():\n"
        "    Console().print('a line'); Console(stderr=True).print('another')\n"
        "    flow_runs._replace = later\n"
        "    Console().print('a line'); print('and one')\n"
        "    return 7\n"
        "sys.exit(flow_runs.outliving_the_worker(run))"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], env=python_environment(), stdout=write, stderr=write)
    os.close(write)
    assert done.returncode == 7


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_run_that_its_worker_ends_is_shown_as_cancelled_if_somebody_asked_for_that(
    cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker also ends its runs when it is stopped itself."""
    own, shown = uuid4(), []
    monkeypatch.setattr(flow_runs, "flow_run", SimpleNamespace(id=str(own)))
    monkeypatch.setattr(flow_runs, "_is_cancelled", lambda flow_run_id: cancelled)
    monkeypatch.setattr(flow_runs, "_cancel", shown.append)

    def run() -> None:
        raise TerminationSignal(signal=15)

    with pytest.raises(TerminationSignal):
        flow_runs.outliving_the_worker(run)
    assert shown == ([own] if cancelled else [])
