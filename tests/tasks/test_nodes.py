"""The way to a Ray cluster."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest
from helpers import python_environment

JOIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell of these tests ignores
from tasks import nodes
from tlm.machine import interruption
nodes.check_ray = lambda host, port: None  # as if the head had died just after it was asked
interruption.run(nodes.connect)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("prefect_ray") is None, reason="Ray is not installed: pip install 'tlm[ray]'")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_waits_for_a_head_that_is_gone_ends_it_with_one_line(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", JOIN],
        env=python_environment(RAY_ADDRESS="127.0.0.2:1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any("Failed to connect" in line for line in process.stderr), "Ray waits, and says so"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert said.splitlines()[-1] == "interrupted." and process.returncode == 128 + number
    finally:
        process.kill()
        process.communicate()
