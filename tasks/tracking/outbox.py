"""What MLflow is still to be told: put down by those who work, and told by a thread of its own, so that nobody waits.

If MLflow does not answer, all of it waits until it does. What has not been told when a study ends follows from the records:
the next run, or `tlm track`, tells it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from tasks import board
from tasks.answering import shown, silence

Client = Any
"""An mlflow.MlflowClient, which this module need not import."""
Job = Callable[[Client], Any]
Result = TypeVar("Result")

PATIENCE, HURRY = 60.0, 4.0
"""Seconds to wait at the end of a study for an MLflow that takes long over everything: if it came to its end, and if it was
interrupted."""


class Outbox:
    """Jobs for one MLflow, done in order.

    Args:
        uri: of MLflow.
        connect: makes a client.
        silence: why MLflow does not answer at `uri`, "" if it does.
    """

    attempts = 3
    """At a job that fails although MLflow answers. Those after it get one each, until one succeeds."""
    pause = 30.0
    """Seconds before an MLflow that did not answer is asked again."""
    long = 4.0
    """Seconds after which those who wait are told for what; after such an answer nobody waits until one was quicker."""

    def __init__(self, uri: str, connect: Callable[[], Client], silence: Callable[[str], str] = silence) -> None:
        self.uri = uri
        self._connect, self._silence = connect, silence
        self._jobs: deque[Job] = deque()
        self._failed: list[str] = []
        self._lost = ""
        """Why MLflow did not answer when it was last asked."""
        self._dragging = False
        """Whether it took long to answer one who waited, and has not been quicker since."""
        self._done = 0
        self._changed = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None

    def put(self, job: Job) -> None:
        """Have it done in its turn, and again if it fails: it must not mind."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
                self._thread.start()

    def now(self, job: Callable[[Client], Result]) -> Result | None:
        """Do it at once and return its result; None if MLflow does not answer, or did not, or took long, before."""
        if self._lost or self._dragging:
            return None
        notice = threading.Timer(self.long, self._say, [f"waiting for MLflow at {shown(self.uri)}"])
        notice.daemon = True
        notice.start()
        started = time.monotonic()
        try:
            return job(self._connect())
        except Exception as error:  # whatever it is: what is trained is worth more
            self._lose(self._silence(self.uri) or _line(error))
            return None
        finally:
            notice.cancel()
            self._dragging = time.monotonic() - started > self.long

    def tick(self) -> None:
        """Say, from within a job of many parts, that one is done."""
        self._done += 1

    def drain(self, patience: float = PATIENCE, more: float = PATIENCE) -> list[str]:
        """Wait until all jobs are done, and return why some are not: what failed, or that MLflow is silent or slow.

        A silent one it does not wait for. After `patience` seconds it goes on only if, at the pace so far, `more` of them
        will do.
        """
        if self._lost and self._jobs:
            self._lost = self._silence(self.uri)
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            started, before, told = time.monotonic(), self._done, False
            while self._jobs and not self._lost:
                self._changed.wait(0.2)
                waited = time.monotonic() - started
                if waited > self.long and not told:
                    self._say(f"waiting for MLflow at {shown(self.uri)}: {len(self._jobs)} updates")
                    told = True
                if waited > patience and len(self._jobs) > (self._done - before) / waited * more:
                    self._failed.append("it is slow")
                    break
            self._ending = False
            return self._give_up()

    def _give_up(self) -> list[str]:
        """Forget what is left, and say so. Called with the lock held."""
        faults = self._failed + ([self._lost] if self._lost and self._jobs else [])
        self._jobs.clear()
        self._failed = []
        if faults:
            self._say(
                f"MLflow at {shown(self.uri)} has not been told everything ({faults[-1]}). Nothing is lost: "
                "the next run of the study, or `tlm track`, completes it from the records."
            )
        return faults

    def _work(self) -> None:
        failures, attempts = 0, self.attempts
        while True:
            with self._changed:
                while not self._jobs:
                    self._changed.wait()
                job = self._jobs[0]
            if self._lost and (still := self._silence(self.uri)):
                self._rest(still)
                continue
            started, fault = time.monotonic(), ""
            try:
                job(self._connect())
            except Exception as error:
                fault = _line(error)
            if time.monotonic() - started < self.long:
                self._dragging = False
            if fault and (lost := self._silence(self.uri)):
                self._rest(lost)
                continue
            self._lost = ""
            failures = failures + 1 if fault else 0
            with self._changed:
                if fault and failures < attempts:
                    self._changed.wait(failures * 0.5)
                    continue
                if fault:
                    self._failed.append(fault)
                attempts = 1 if fault else self.attempts
                failures = 0
                self._done += not fault
                if self._jobs and self._jobs[0] is job:  # unless they were given up meanwhile
                    self._jobs.popleft()
                self._changed.notify_all()

    def _rest(self, lost: str) -> None:
        """MLflow does not answer: wait before it is asked again, unless the study ends."""
        self._lose(lost)
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ending or not self._jobs, self.pause)
        time.sleep(0.05)

    def _lose(self, fault: str) -> None:
        if not self._lost:
            self._say(
                f"MLflow at {shown(self.uri)} does not answer ({fault}). Training goes on; what MLflow misses is logged "
                "once it answers, by the next run, or by `tlm track`."
            )
        self._lost = fault

    def _say(self, text: str) -> None:
        board.current().say(text)


def _line(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:300]
