"""The memory run: one contender, a few steps, in a process of its own (`python -m benchmarks.memory JOB`, JOB as JSON)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.cases import Case
from benchmarks.contenders import build
from benchmarks.machine import CHECKOUT, environment, peak_memory
from benchmarks.setting import Setting
from benchmarks.work import synchronize
from benchmarks.workload import load

STEPS = 2


def measure(contender: str, setting: Setting, threads: int) -> int:
    """Peak memory in bytes (see `machine.peak_memory`) of a fresh process that trains or evaluates for a few batches.

    Raises RuntimeError with the process's last words if it fails.
    """
    job = {
        "case": setting.case.as_dict(),
        "contender": contender,
        "workload": str(setting.workload.folder.resolve()),
        "device": setting.device,
        "threads": threads,
        "bfloat16": setting.bfloat16,
    }
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(job)]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment(threads), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{setting.case.name}, {contender}: ended with {done.returncode}\n{done.stderr[-2000:]}")
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    """The child: do the job and print the peak in bytes as the last line."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    case, workload = Case.from_dict(job["case"]), load(Path(job["workload"]))
    contender = build(job["contender"], Setting(case, workload, job["device"], job["bfloat16"]))
    contender.prepare(workload.batches(0, max(STEPS, case.least_batches), case.batch_size), 1)()
    synchronize(job["device"])
    print(peak_memory(job["device"]))


if __name__ == "__main__":
    main()
