"""A proxy before an HTTP server, which dies or hangs at a chosen request and can be healed."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["dies", "hangs", "answers no more"]


@dataclass(frozen=True)
class Moment:
    """The `number`th request whose method and path contain `request` (1 is the first)."""

    name: str
    request: str
    number: int = 1


class Proxy:
    """Passes on what arrives at `port` to the server at `target`, until the moment that is set.

    Then it *dies*: it closes all connections and its port. Or it *hangs*: it accepts connections and requests and answers
    none. Or it passes the request on and *answers no more*, this time and from then on.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.requests: list[str] = []
        self._moment: Moment | None = None
        self._fault: Fault = "dies"
        self._broken = False
        self._healed = threading.Event()
        self._lock = threading.Lock()
        self._server = self._serve(0)
        self.port: int = self._server.server_port

    def set(self, moment: Moment | None, fault: Fault = "dies") -> None:
        self._moment, self._fault, self.requests = moment, fault, []

    @property
    def broken(self) -> bool:
        return self._broken

    def heal(self) -> None:
        """Serve again, at the same port."""
        self._moment = None
        if self._broken:
            self._broken = False
            if self._fault == "dies":
                self._server = self._serve(self.port)
            self._healed.set()
            self._healed = threading.Event()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """One request: passed on, or not answered."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        line = f"{handler.command} {handler.path}"
        with self._lock:
            self.requests.append(line)
            moment = self._moment
            met = moment is not None and moment.request in line
            if met and sum(moment.request in each for each in self.requests) == moment.number:
                self._break(handler, body)
        if self._broken:
            handler.close_connection = True
            if self._fault != "dies":
                self._healed.wait(600)
            return
        self._pass_on(handler, body)

    def _break(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if self._fault == "answers no more":
            self._ask(handler, body)
        self._broken = True
        if self._fault == "dies":
            self._server.shutdown()
            self._server.server_close()

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=120)
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "connection"}
        connection.request(handler.command, handler.path, body=body or None, headers=headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response, content

    def _pass_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        response, content = self._ask(handler, body)
        handler.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _serve(self, port: int) -> ThreadingHTTPServer:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that gave up waiting is what this is for."""

        server = Quiet(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server
