"""Prefect as a command finds it: its settings, and a server of its own where the environment names none."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress

from flows.terminal import passing_line
from tlm.errors import UserError
from tlm.execution.process import Child, StageFailed
from tlm.machine.file_errors import file_error
from tlm.machine.runtime import Runtime

START_SECONDS = 120.0
STOP_SECONDS = 8.0


class Server:
    """Prefect's server for this process alone (`is_own`); nothing, where PREFECT_API_URL names one.

    While it starts, what needs it waits at a socket that listens already.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._child: Child | None = None
        self._answers = False
        self.is_own = not os.environ.get("PREFECT_API_URL")

    def start(self) -> None:
        """Start it; `wait` until it answers. It stops by itself when this process ends, but then without a last word.

        Its address is known, and in the environment, at once: Prefect reads its settings when it is imported.
        """
        self.runtime.prefect_home.mkdir(parents=True, exist_ok=True)  # Prefect makes the folder, but not its parents
        if not self.is_own:
            return
        with socket.create_server(("127.0.0.1", 0)) as listener:
            os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
            _refresh()
            files = [listener.fileno()]
            self._child = Child("tasks.prefect_server", "Prefect's server", self.runtime, works=False, files=files)
            self._child.say(listener=listener.fileno())

    def wait(self) -> None:
        """Raises UserError if it does not start, or does not answer after START_SECONDS."""
        if self._child is None:
            return
        late = threading.Timer(START_SECONDS, self._child.process.kill)
        late.daemon = True
        late.start()
        try:
            self._child.hear()
        except StageFailed as error:
            if told := file_error(error, self.runtime.prefect_home):
                raise told from error
            reason = str(error).splitlines()[-1]
            home = self.runtime.prefect_home
            remedy = f"Run the command again; if it goes on, remove {home}, which holds no result."
            raise UserError(f"Prefect's server does not start ({reason}).", remedy) from error
        finally:
            late.cancel()
        self._answers = True

    def fault(self) -> str:
        """What to say if it has ended although nobody stopped it, in place of what Prefect says then; "" if it has not."""
        code = None if self._child is None else self._child.process.poll()
        return "" if code is None else f"Prefect's server ended with code {code}."

    def stop(self) -> None:
        """Let it write down what it has been told, and wait for its end."""
        if self._child is None:
            return
        os.environ.pop("PREFECT_API_URL", None)
        if self._answers:
            self._child.say(stop=True)
            with passing_line("stopping Prefect's server"), suppress(subprocess.TimeoutExpired):
                self._child.process.wait(STOP_SECONDS)
        self._child.process.kill()
        self._child.process.wait()


def set_up(runtime: Runtime, *, debug: bool = False) -> Server:
    """Keep Prefect's state under TLM_HOME and its analytics off.

    What the environment already says wins. Nothing is written, and no server runs, until it is started.
    """
    settings = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(runtime.prefect_home),
        "PREFECT_LOGGING_LEVEL": "DEBUG" if debug else "CRITICAL",
        "PREFECT_INTERNAL_LOGGING_LEVEL": "ERROR" if debug else "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "true" if os.environ.get("PREFECT_API_URL") else "false",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    server = Server(runtime)
    _refresh()
    # Prefect says what is left to say when Python ends, but before it comes to what was registered before Prefect.
    atexit.register(server.stop)
    return server


def _refresh() -> None:
    """Have Prefect read its settings again, if an extension has imported it already."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
