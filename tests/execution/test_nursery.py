"""A nursery forks children that behave as if each had been started, and does not outlive whom it serves."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import python

from tlm.execution import forking, nursery, process
from tlm.execution.process import Child, StageFailed
from tlm.machine.runtime import Runtime

pytestmark = pytest.mark.skipif(not nursery.can_fork(), reason="processes are not forked here")

CHILD = """
import os, random, sys, tempfile
import numpy as np
from tlm.execution.process import talk_to_parent

def main():
    with talk_to_parent() as parent:
        while True:
            match parent.hear():
                case {"say": "who"}:
                    parent.say(pid=os.getpid(), parent=os.getppid())
                case {"say": "drawn"}:
                    parent.say(drawn=[random.random(), np.random.random(), tempfile.mktemp()])
                case {"say": "open"}:
                    parent.say(open=len(os.listdir("/proc/self/fd")), torch="torch" in sys.modules)
"""


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A nursery that imports nothing, and a module of the test's own."""
    (tmp_path / "answers.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(nursery, "IMPORTED", ("answers",))
    monkeypatch.setattr(process, "FORKED", {"answers"})
    yield
    assert nursery._newest is not None
    nursery._newest.end()


def child() -> Child:
    return Child("answers", "stage/slug", Runtime())


def asked(who: Child, what: str) -> dict[str, object]:
    who.say(say=what)
    return who.hear()


def ends(pid: int) -> bool:
    _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
    return not alive


def test_children_of_one_environment_have_one_nursery_and_those_of_another_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with child() as first, child() as second:
        nurseries = {int(str(asked(each, "who")["parent"])) for each in (first, second)}
        assert len(nurseries) == 1
        monkeypatch.setenv("SOMETHING", "else")
        with child() as third:
            assert asked(third, "who")["parent"] not in nurseries
            assert asked(first, "who")["parent"] in nurseries, "it is kept while it has children"
    assert ends(nurseries.pop()), "and no longer"


def test_what_nobody_seeded_is_drawn_anew_in_each_child() -> None:
    with child() as first, child() as second:
        one, other = (list(asked(each, "drawn")["drawn"]) for each in (first, second))  # type: ignore[call-overload]
    assert not set(one) & set(other)


def test_a_child_has_its_own_pipes_and_no_other_s() -> None:
    with child() as first:
        alone = asked(first, "open")["open"]
        with child() as second:
            assert asked(second, "open")["open"] == alone
            assert asked(second, "open")["torch"] is False, "what a nursery was not told to import"


def test_one_that_is_killed_before_it_begins_ends_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "new nursery, which is not there yet")
    with child() as unasked:
        pass
    assert unasked.process.poll() is not None
    with child() as next_one:
        assert asked(next_one, "who")["pid"]


def test_children_of_a_nursery_that_is_killed_fail_and_the_next_one_works() -> None:
    with child() as orphan:
        found = asked(orphan, "who")
        os.kill(int(str(found["parent"])), signal.SIGKILL)
        with pytest.raises(StageFailed, match="stage/slug: its process ended with code -9"):
            orphan.hear()
        assert orphan.process.poll() == -9
    assert ends(int(str(found["pid"]))), "a child outlived those who could hear it"
    with child() as next_one:
        assert asked(next_one, "who")["pid"]


def test_an_import_that_fails_is_shown_by_whoever_needed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "IMPORTED", ("nowhere",))
    monkeypatch.setenv("ANOTHER", "nursery")
    with child() as unborn, pytest.raises(StageFailed, match="(?s)code 1.*No module named 'nowhere'"):
        unborn.hear()


def test_where_there_is_no_room_for_another_process_just_that_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, (tmp_path / "stderr").open("w+") as printed:
        assert forking._fork(theirs, 3, [0, 1, printed.fileno()]) is None
        assert json.loads(ours.recv(4_096)) == {"of": 3, "code": 1}
        printed.seek(0)
        assert printed.read() == "cannot begin another process: Resource temporarily unavailable\n"


def test_it_ends_with_its_parent_even_by_kill_9(tmp_path: Path) -> None:
    code = """
import os, signal
from tlm.execution import nursery, process
from tlm.machine.runtime import Runtime
nursery.IMPORTED, process.FORKED = (), {"answers"}
child = process.Child("answers", "stage/slug", Runtime())
child.say(say="who")
print(*child.hear().values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = python(
        ["-c", code], cwd=tmp_path, PYTHONPATH=os.pathsep.join((str(Path(nursery.__file__).parents[2]), str(tmp_path)))
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    its, nurserys = map(int, done.stdout.split())
    assert ends(its) and ends(nurserys)


@pytest.mark.slow
def test_what_is_imported_leaves_python_with_one_thread_and_the_gpu_alone() -> None:
    """Or a fork would lose what other threads hold."""
    code = "import threading\n" + "".join(f"import {module}\n" for module in REAL)
    done = python(["-c", f"{code}import torch; print(threading.active_count(), torch.cuda.is_initialized())"])
    assert done.stdout.split() == ["1", "False"], done.stderr


REAL = nursery.IMPORTED
