"""What a process writes reaches its reader in order, and does no harm when that one is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tlm.machine.output import outliving_its_reader


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_000_000])
def test_all_of_it_arrives_that_of_children_too(size: int) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from tlm.machine.output import outliving_its_reader\n"
        "os.write(1, b'before ')\n"
        "with outliving_its_reader():\n"
        f"    os.write(2, b'x' * {size}); print('a' * {size}, end='', flush=True)\n"
        f"    subprocess.run([sys.executable, '-c', 'print(\"b\" * {size}, end=\"\")'])\n"
        "os.write(1, b' after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"before " + b"a" * size + b"b" * size + b" after", b"x" * size)


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_reader_who_is_gone_is_not_missed(when: str) -> None:
    read, write = os.pipe()
    if when == "before":
        os.close(read)
    with outliving_its_reader((write,)):
        for number in range(200):
            if when == "while" and number == 100:
                os.close(read)
            assert os.write(write, b"x" * 100) == 100
    assert os.write(write, b"and afterwards") == 14
    os.close(write)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_nothing_of_it_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    read, write = os.pipe()
    with outliving_its_reader((write,)):
        os.write(write, b"text")
    assert os.read(read, 100) == b"text"
    os.close(read)
    os.close(write)
    assert os.listdir("/proc/self/fd") == before
