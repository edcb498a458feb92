"""Servers that were asked for answer, or are named with the way out within seconds and before any work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers import Tlm, command_line

from tasks import answering
from tasks.answering import check_prefect, check_ray, check_tracking, ray_address, shown
from tlm.errors import UserError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "SECONDS", 0.3)


@contextmanager
def server(status: int, body: bytes = b"") -> Iterator[str]:
    """One that answers everything in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()


@contextmanager
def hanging() -> Iterator[str]:
    """One that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"127.0.0.1:{port}"


CHECKS = [(check_prefect, "Prefect", "PREFECT_API_URL"), (check_tracking, "MLflow", "MLFLOW_TRACKING_URI")]


@pytest.mark.parametrize(("there", "reason"), [(nobody, "Connection refused"), (hanging, "nothing within 0.3 seconds")])
@pytest.mark.parametrize(("check", "name", "variable"), CHECKS)
def test_a_server_that_does_not_answer_is_named_with_the_way_out(
    check: Callable[[str], None], name: str, variable: str, there: Callable[[], Iterator[str]], reason: str
) -> None:
    with there() as place, pytest.raises(UserError) as error:  # type: ignore[attr-defined]
        check(f"http://me:secret@{place}/api")
    assert str(error.value) == (
        f"No {name} server answers at http://{place}/api ({reason}). Start it (make server), or unset {variable}."
    )


@pytest.mark.parametrize("check", [check_prefect, check_tracking])
@pytest.mark.parametrize("status", [401, 403])
def test_one_that_wants_a_password_answers(check: Callable[[str], None], status: int) -> None:
    with server(status) as url:
        check(url)


@pytest.mark.parametrize("check", [check_prefect, check_tracking])
def test_a_gateway_without_a_server_behind_it_does_not(check: Callable[[str], None]) -> None:
    with server(502) as url, pytest.raises(UserError, match="it answers with status 502"):
        check(url)


def test_prefect_is_known_by_its_answer() -> None:
    with server(200, b"true") as url:
        check_prefect(f"{url}/api/")
    with server(200, b"<!doctype html>") as url, pytest.raises(UserError, match="whose address ends in /api"):
        check_prefect(url)
    with server(404) as url, pytest.raises(UserError, match="status 404"):
        check_prefect(url)


def test_mlflow_behind_another_path_answers() -> None:
    with server(200, b"OK") as url:
        check_tracking(url)
    with server(404) as url:
        check_tracking(f"{url}/mlflow")


def test_a_database_server_is_tried_and_what_is_no_server_is_not() -> None:
    with hanging() as place:
        check_tracking(f"postgresql+psycopg2://me:secret@{place}/mlflow")
    with nobody() as place, pytest.raises(UserError, match=f"mysql://{place}/mlflow .Connection refused"):
        check_tracking(f"mysql://me:secret@{place}/mlflow")
    for uri in ("sqlite:////nowhere/mlflow.db", "databricks", "databricks-uc://profile", "./mlruns", "file:///x"):
        check_tracking(uri)


NO_ADDRESSES = ["http://[", "http://127.0.0.1:99999", "ftp://127.0.0.1/x", "127.0.0.1:4200", "http://", "4200", " "]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_is_an_error_on_one_line(url: str) -> None:
    with pytest.raises(UserError, match="PREFECT_API_URL") as error:
        check_prefect(url)
    assert len(str(error.value).splitlines()) == 1


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """One that says the same to whoever connects, and hangs up."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (nobody, "Connection refused"),
        (hanging, "nothing within 0.3 seconds"),
        (partial(saying, b"HTTP/1.1 400 Bad Request\r\n"), "what answers is something else"),
        (partial(saying, b""), "what answers is something else"),
    ],
)
def test_a_head_of_ray_that_does_not_answer_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, there: Callable[[], Any], reason: str
) -> None:
    with there() as place, pytest.raises(UserError) as error:
        monkeypatch.setenv("RAY_ADDRESS", place)
        check_ray(*ray_address())
    assert str(error.value) == (
        f"RAY_ADDRESS={place}: no head of a Ray cluster answers there ({reason}). "
        "Start it (ray start --head --port=6379), or set RAY_ADDRESS to its host:port."
    )


def test_where_ray_looks_for_its_head_is_named_if_that_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as place:
        monkeypatch.setenv("RAY_ADDRESS", f"localhost:{place.rpartition(':')[2]}")
        with pytest.raises(
            UserError, match=f"^RAY_ADDRESS=localhost:.* answers at {place}, which is what Ray makes of it \\("
        ):
            check_ray("127.0.0.1", ray_address()[1])


def test_a_head_of_ray_greets_as_grpc_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with saying(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as place:
        monkeypatch.setenv("RAY_ADDRESS", place)
        check_ray(*ray_address())
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with hanging() as place:  # who speaks TLS is not to be greeted without
        monkeypatch.setenv("RAY_ADDRESS", place)
        check_ray(*ray_address())


@pytest.mark.parametrize("address", ["head:6379", "10.0.0.1:1", "[::1]:6379", "head.lab:65535"])
def test_an_address_of_ray_is_host_and_port(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    host, port = ray_address()
    assert address in (f"{host}:{port}", f"[{host}]:{port}")


NO_HEADS = [
    "foo",
    "host:",
    ":1",
    "host:x",
    "host:0",
    "host:70000",
    "host:-1",
    "::1:5",
    "host:1/x",
    "http://h:1",
    "a@h:1",
]


@pytest.mark.parametrize(
    "address", [*NO_HEADS, "auto", "local", "ray://h:1", " ", " h:1", "h:1\n", "[h:1", "\x1b[1mh:1"]
)
def test_what_is_no_address_of_ray_is_an_error_on_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="^RAY_ADDRESS=.* is not host:port. Set it to .* such as head:6379") as error:
        ray_address()
    assert str(error.value).isprintable()


def test_a_password_in_an_address_of_ray_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("me:SECRET@head:6379", "redis://:SECRET@head:6379", "me:SE@CRET@head:6379"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match="^RAY_ADDRESS=.*head:6379 is not host:port") as error:
            ray_address()
        assert "CRET" not in str(error.value)


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("https://me:secret@host:1/api?x=1") == "https://host:1/api?x=1"
    assert shown("https://host:1/@x") == "https://host:1/@x"
    assert shown("sqlite:////a/mlflow.db") == "sqlite:////a/mlflow.db"


@pytest.fixture
def tlm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Tlm:
    monkeypatch.setenv("TLM_HOME", str(tmp_path / "home"))
    return command_line(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("variable", "command"),
    [
        ("PREFECT_API_URL", ("run", "demo")),
        ("MLFLOW_TRACKING_URI", ("run", "demo")),
        ("MLFLOW_TRACKING_URI", ("track",)),
    ],
)
def test_commands_try_the_servers_before_anything_is_written(
    tlm: Tlm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, command: tuple[str, ...]
) -> None:
    with nobody() as place:
        monkeypatch.setenv(variable, f"http://{place}/api")
        said = tlm(*command)
    assert said.code == 2 and said.out == ("demo: checking the study and its sources\n" if "run" in command else "")
    [line] = said.err.splitlines()
    assert line.startswith("error: No ") and f"http://{place}/api" in line and f"unset {variable}" in line
    assert not (tmp_path / "home").exists()
