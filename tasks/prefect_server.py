"""Prefect's server for a command that has none: a child of the command, which ends when the command does."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

from tlm.execution.process import Parent, talk_to_parent

CLOSING_SECONDS = 3
"""How long connections that are open have to end."""
ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""What Prefect sets for a server that it starts itself."""


async def serve(listener: socket.socket, parent: Parent) -> None:
    """Answer on a listening socket; tell the parent once that works, and stop when it says so."""
    import uvicorn

    app = "prefect.server.api.server:create_app"
    config = uvicorn.Config(
        app, factory=True, log_level="error", lifespan="on", timeout_graceful_shutdown=CLOSING_SECONDS
    )
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
    """The child: it is told the descriptor of its socket, and then to stop."""
    with talk_to_parent() as parent:
        os.environ.update(ENVIRONMENT)
        asyncio.run(serve(socket.socket(fileno=parent.hear()["listener"]), parent))


if __name__ == "__main__":
    main()
