"""What a user's shell has set is not what tests run in: here it is set aside, for this process and all that it starts."""

from __future__ import annotations

import os
import signal
import threading

REAL_DATA = "TEST_DATA_ROOT"
"""Where TLM_DATA_ROOT is kept for tests on real data, which ask `real_data_root`; the code under test must not see it."""

PREFIXES = ("TLM_", "MLFLOW_", "PREFECT_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "CLICOLOR", "LC_")
NAMES = {
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LANG", "TZ"),
    "PYTHONDONTWRITEBYTECODE",  # with it, each process compiles all that it imports, and pytest rewrites every test module
}
PROXIES = ("_PROXY",)
"""Servers of tests are on this machine."""


def set_aside() -> None:
    """Take out of the environment whatever the code under test, or what it is built on, reads from it."""
    if root := os.environ.get("TLM_DATA_ROOT"):
        os.environ[REAL_DATA] = root
    for name in tuple(os.environ):
        if name in NAMES or name.startswith(PREFIXES) or name.upper().endswith(PROXIES):
            del os.environ[name]
    # A shell has what it starts in the background ignore Ctrl-C, and tests send that to processes of theirs.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def real_data_root() -> str:
    """The folder of real data that the user's TLM_DATA_ROOT names, "" if it names none."""
    return os.environ.get(REAL_DATA, "")
