"""Prefect as a command finds it: call `set_up` before it is first imported, and `start_server` before a flow."""

from __future__ import annotations

import os
import signal
import sys

from tlm.machine.runtime import Runtime


def set_up(runtime: Runtime, *, debug: bool = False) -> None:
    """Keep Prefect's state under TLM_HOME, its analytics off, and let it run without a server unless one is configured.

    What the environment already says wins.
    """
    if "prefect" in sys.modules:
        return
    runtime.prefect_home.mkdir(parents=True, exist_ok=True)  # Prefect makes the folder, but not its parents
    settings = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(runtime.prefect_home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "DEBUG" if debug else "CRITICAL",
        "PREFECT_INTERNAL_LOGGING_LEVEL": "ERROR" if debug else "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "true" if os.environ.get("PREFECT_API_URL") else "false",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def start_server() -> None:
    """Start the server that Prefect makes for a command without one, deaf to Ctrl-C.

    A terminal sends Ctrl-C to every process of a command, and this one has to outlive it: it is told how the flow ended,
    and where it is gone Prefect tries again for a minute.
    """
    from prefect import get_client

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        get_client(sync_client=True)  # what is blocked here is blocked in a process that it starts
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
