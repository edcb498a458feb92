"""How a flow run of this process heeds who cancels it."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from uuid import uuid4

import pytest
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
