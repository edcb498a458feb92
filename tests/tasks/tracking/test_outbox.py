"""Nobody waits for MLflow, nothing that it was to be told is told twice or out of order, and what is left is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tasks import board
from tasks.tracking.outbox import Outbox


class Lines(board.LogBoard):
    """A board whose lines are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Server:
    """A client that fails, and a server that is silent, as long as it is told to."""

    def __init__(self) -> None:
        self.silent = ""
        self.told: list[int] = []

    def tell(self, number: int) -> Callable[[Server], int]:
        def job(server: Server) -> int:
            if server.silent:
                raise ConnectionError("no route")
            server.told.append(number)
            return number

        return job


@pytest.fixture
def lines() -> Iterator[list[str]]:
    before = board.current()
    shown = Lines()
    board.use(shown)
    yield shown.lines
    board.use(before)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def outbox(server: Server, lines: list[str]) -> Outbox:
    made = Outbox("http://me:secret@host:1", lambda: server, lambda uri: server.silent)
    made.pause = 0.02
    return made


def test_all_is_told_in_order(outbox: Outbox, server: Server, lines: list[str]) -> None:
    for number in range(50):
        outbox.put(server.tell(number))
    assert outbox.drain() == [] and server.told == list(range(50)) and lines == []
    assert outbox.now(server.tell(50)) == 50


def test_what_a_silent_server_misses_is_told_once_it_answers(outbox: Outbox, server: Server, lines: list[str]) -> None:
    server.silent = "Connection refused"
    for number in range(3):
        outbox.put(server.tell(number))
    while not lines:
        time.sleep(0.01)
    assert outbox.now(server.tell(9)) is None, "nobody waits for a server that is known to be silent"
    server.silent = ""
    assert outbox.drain() == [] and server.told == [0, 1, 2]
    assert len(lines) == 1 and "http://host:1 does not answer (Connection refused)" in lines[0]


def test_at_the_end_nobody_waits_for_a_silent_server_and_it_is_said_once(
    outbox: Outbox, server: Server, lines: list[str]
) -> None:
    server.silent = "Connection refused"
    for number in range(3):
        outbox.put(server.tell(number))
    assert outbox.drain() == ["Connection refused"]
    assert server.told == []
    assert len(lines) == 2 and "has not been told everything" in lines[1] and "tlm track" in lines[1]
    assert "secret" not in " ".join(lines)
    server.silent = ""
    outbox.put(server.tell(7))
    assert outbox.drain() == [] and server.told == [7], "what was given up came back"


def test_one_who_needs_an_answer_gets_none_from_a_silent_server(outbox: Outbox, server: Server) -> None:
    server.silent = "Connection refused"
    assert outbox.now(server.tell(1)) is None
    server.silent = ""
    outbox.put(server.tell(2))
    outbox.drain()
    assert outbox.now(server.tell(3)) == 3 and server.told == [2, 3]


def test_a_job_that_a_living_server_refuses_is_tried_again_then_left_and_the_others_are_done(
    outbox: Outbox, server: Server, lines: list[str]
) -> None:
    tries = []

    def refused(server: Server) -> None:
        tries.append(1)
        raise ValueError("too long a name\nand a second line")

    outbox.put(refused)
    outbox.put(server.tell(1))
    assert outbox.drain() == ["too long a name"]
    assert len(tries) == outbox.attempts and server.told == [1]
    assert len(lines) == 1 and "(too long a name)" in lines[0]


def test_a_slow_server_is_waited_for_only_so_long_and_one_is_told_for_what(
    outbox: Outbox, server: Server, lines: list[str]
) -> None:
    outbox.long = 0.05
    never = threading.Event()
    for _ in range(3):
        outbox.put(lambda server: never.wait(30))
    assert outbox.drain(0.5, 0.5) == ["it is slow"]
    assert lines[0] == "waiting for MLflow at http://host:1: 3 updates" and len(lines) == 2
    never.set()


def test_a_server_that_will_soon_be_through_is_waited_for_beyond_that(outbox: Outbox, server: Server) -> None:
    for number in range(10):
        outbox.put(lambda server, number=number: (time.sleep(0.05), server.told.append(number)))
    assert outbox.drain(0.1, 1) == [] and len(server.told) == 10


def test_one_that_would_take_much_longer_is_not(outbox: Outbox, server: Server) -> None:
    for number in range(100):
        outbox.put(lambda server, number=number: (time.sleep(0.05), server.told.append(number)))
    assert outbox.drain(0.2, 0.2) == ["it is slow"] and 0 < len(server.told) < 20


def test_after_a_slow_answer_nobody_waits_until_there_was_a_quick_one(
    outbox: Outbox, server: Server, lines: list[str]
) -> None:
    outbox.long = 0.05
    assert outbox.now(lambda server: (time.sleep(0.2), 1)[1]) == 1
    assert lines == ["waiting for MLflow at http://host:1"]
    assert outbox.now(server.tell(1)) is None
    outbox.put(server.tell(2))
    assert outbox.drain() == []
    assert outbox.now(server.tell(3)) == 3
