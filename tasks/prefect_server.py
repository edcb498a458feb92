"""Prefect's server for a command that has none: a child of the command, which ends when the command does."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

from tlm.errors import UserError
from tlm.execution.process import Parent, talk_to_parent
from tlm.machine.file_errors import full_disk

CLOSING_SECONDS = 3
"""How long connections that are open have to end."""
ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""What Prefect sets for a server that it starts itself."""
NEEDLESS = (
    "cancellation_cleanup",
    "foreman",
    "late_runs",
    "pause_expirations",
    "repossessor",
    "scheduler",
    "triggers",
)
"""Services of Prefect's for what a command's own server never has: deployments, workers, automations. Without them a step
costs about a sixth less processor time."""


class App:
    """Prefect's application, and why it did not start, which uvicorn only logs."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.fault: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.inner(scope, receive, send)
        except Exception as error:
            if scope["type"] == "lifespan":
                self.fault = error
            raise


async def serve(app: App, listener: socket.socket, parent: Parent) -> None:
    """Answer on a listening socket; tell the parent once that works, and stop when it says so."""
    import uvicorn

    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=CLOSING_SECONDS)
    server = uvicorn.Server(config)

    def stop() -> None:
        parent.hear()
        server.should_exit = True

    threading.Thread(target=stop, daemon=True).start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.05)
    if server.started:
        parent.say(ready=True)
    await serving


def main() -> None:
    """The child: it is told the descriptor of its socket, and then to stop.

    Raises:
        UserError: in the parent, if Prefect does not start on what lies in its home.
    """
    with talk_to_parent() as parent:
        listener = socket.socket(fileno=parent.hear()["listener"])
        os.environ.update(ENVIRONMENT)
        for service in NEEDLESS:
            os.environ.setdefault(f"PREFECT_SERVER_SERVICES_{service.upper()}_ENABLED", "false")

        from prefect.server.api.server import create_app

        app = App(create_app())
        try:
            asyncio.run(serve(app, listener, parent))
        except SystemExit as error:  # uvicorn's way to say that the application did not start
            home = os.environ["PREFECT_HOME"]
            reason = str(app.fault).partition("\n")[0]
            remedy = f"If its database is damaged, remove {home}, which holds no result."
            broken = UserError(f"Prefect's server does not start: {reason}.", remedy)
            raise full_disk(app.fault or error, home) or broken from error


if __name__ == "__main__":
    main()
