"""Whether the servers that a command was told to use answer: asked before any work, and known within seconds."""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import unquote, urlsplit

from tlm.errors import UserError
from tlm.machine.printing import without_passwords
from tlm.machine.runtime import Runtime

SECONDS = 5.0
"""How long a server may take to answer that it is there."""

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of gRPC, which Ray speaks, begins: HTTP/2's preface, and settings that are empty."""
FRAME_HEADER, KIND, SETTINGS = 9, 3, 4
"""Of what the server begins with: its length, where its kind stands in it, and which kind that is."""

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TAKES_PASSWORDS = (401, 403)


def check_servers(runtime: Runtime) -> None:
    """Try the servers that PREFECT_API_URL and MLFLOW_TRACKING_URI name, if they name any. Raises UserError."""
    if url := os.environ.get("PREFECT_API_URL"):
        check_prefect(url)
    if runtime.tracking_uri:
        check_tracking(runtime.tracking_uri)


def check_prefect(url: str) -> None:
    """Raise UserError unless a Prefect server answers at the address of its API."""
    if fault := _asked(f"{url.rstrip('/')}/health", cloud=url.startswith("https://api.prefect.cloud/")):
        raise UserError(
            f"No Prefect server answers at {shown(url)} ({fault}).", "Start it (make server), or unset PREFECT_API_URL."
        )


def check_tracking(uri: str) -> None:
    """Raise UserError unless the MLflow server, or the database server, of a tracking URI answers."""
    if fault := silence(uri):
        raise UserError(
            f"No MLflow server answers at {shown(uri)} ({fault}).",
            "Start it (make server), or unset MLFLOW_TRACKING_URI.",
        )


def ray_address() -> tuple[str, int]:
    """Host and port of RAY_ADDRESS. Raises UserError, also for what only Ray takes for one: auto, local, ray://host:port."""
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        parts = urlsplit(f"//{address}")
        if parts.hostname and parts.port and parts.netloc == address and not re.search(r"[@\s]", address):
            return parts.hostname, parts.port
    except ValueError:  # a port that is no number, or too large
        pass
    raise UserError(
        f"RAY_ADDRESS={without_passwords(address if address.isprintable() else ascii(address))} is not host:port.",
        "Set it to the address of the cluster's head, such as head:6379.",
    )


def check_ray(host: str, port: int) -> None:
    """Raise UserError unless the head of a Ray cluster answers there: Ray itself would try for minutes, and log it.

    Args:
        host: where Ray would look for it; its own name for this machine where RAY_ADDRESS says localhost.
    """
    if fault := _no_grpc(host, port):
        given = os.environ.get("RAY_ADDRESS", "")
        place = f"{host}:{port}"
        asked = ray_address() if given else (host, port)
        where = "there" if asked == (host, port) else f"at {place}, which is what Ray makes of it"
        raise UserError(
            f"RAY_ADDRESS={given}: no head of a Ray cluster answers {where} ({fault}).",
            "Start it (ray start --head --port=6379), or set RAY_ADDRESS to its host:port.",
        )


def _no_grpc(host: str, port: int) -> str:
    """Why no server of gRPC answers; "" if one does."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):  # greeted like this, it would hang up
                return ""
            connection.sendall(GREETING)
            answer = connection.recv(FRAME_HEADER, socket.MSG_WAITALL)
    except (OSError, ValueError) as error:  # a name that is none is a UnicodeError
        return _reason(error)
    return "" if answer[KIND : KIND + 1] == bytes((SETTINGS,)) else "what answers is something else"


def silence(uri: str) -> str:
    """Why the server behind an MLflow tracking URI does not answer; "" if it does, or if there is no server behind it."""
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https"):
            return _asked(f"{uri.rstrip('/')}/health", any_answer=True)
        port = parts.port or DATABASE_PORTS.get(parts.scheme.partition("+")[0])
        if parts.hostname and port:
            with socket.create_connection((parts.hostname, port), timeout=SECONDS):
                pass
    except (OSError, ValueError) as error:
        return _reason(error)
    return ""


def shown(url: str) -> str:
    """An address without the user and the password in it."""
    try:
        user, at, _ = urlsplit(url).netloc.rpartition("@")
    except ValueError:
        return url
    return url.replace(user + at, "", 1)


def _asked(url: str, *, any_answer: bool = False, cloud: bool = False) -> str:
    """What is wrong with a server's answer to a question for its health: "" if nothing.

    Args:
        any_answer: whatever is no server's error will do; otherwise it must be Prefect's `true`.
        cloud: Prefect's own service, which has no such page.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return "it is no http address"
        request = urllib.request.Request(shown(url))  # noqa: S310 - http or https
        if parts.username:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310 - as above
            healthy = any_answer or cloud or response.read(100).strip() == b"true"
            return "" if healthy else "what answers is no Prefect API, whose address ends in /api"
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in TAKES_PASSWORDS or (error.code < 500 and (any_answer or cloud)):
            return ""
        return f"it answers with status {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        # A certificate that is not trusted here may be one that Prefect or MLflow is told to trust.
        return "" if isinstance(getattr(error, "reason", error), ssl.SSLError) else _reason(error)


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"nothing within {SECONDS:g} seconds"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
