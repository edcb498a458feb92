"""The speed run: all contenders of a case in this process, taking turns."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contenders import Contender
from benchmarks.machine import cpu_seconds
from benchmarks.setting import Setting
from benchmarks.work import synchronize, useful_flops
from tlm.data.ragged import Rows

PROBE_SHARE = 0.25
"""How long, as a share of a turn, the probes last by which a contender's steps are chosen."""
PROBES = 2


@dataclass(frozen=True)
class Timing:
    """One contender's turn in one round."""

    case: str
    contender: str
    precision: str
    round: int
    steps: int
    tokens: int
    seconds: float
    flops: float
    """Useful floating point operations, the same for every contender on the same batches."""
    others: float
    """Cores that other processes kept busy meanwhile. Where that is not nearly 0, the time says little."""

    @property
    def speed(self) -> float:
        """Real tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Plan:
    """In each round every contender runs the same `batches` batches, some of them several times over."""

    batches: int
    repeats: Mapping[str, int]


def measure_round(setting: Setting, contenders: Mapping[str, Contender], plan: Plan, number: int) -> list[Timing]:
    """Every contender's turn in round `number`, from 0: each round has batches of its own."""
    case, workload = setting.case, setting.workload
    batches = workload.batches(number * plan.batches, plan.batches, case.batch_size)
    tokens = workload.real_tokens(batches, case.max_length)
    flops = useful_flops(case, workload, batches)
    timings = []
    for name, contender in contenders.items():
        repeats = plan.repeats[name]
        work = contender.prepare(batches, repeats)
        machine_before, own_before = cpu_seconds()
        seconds = timed(work, setting.device)
        machine_after, own_after = cpu_seconds()
        timings.append(
            Timing(
                case=case.name,
                contender=name,
                precision=contender.precision,
                round=number,
                steps=repeats * len(batches),
                tokens=repeats * tokens,
                seconds=seconds,
                flops=repeats * flops,
                others=max(0.0, machine_after - machine_before - own_after + own_before) / seconds,
            )
        )
    return timings


def plan_rounds(setting: Setting, contenders: Mapping[str, Contender], seconds: float) -> Plan:
    """Warm every contender up and choose the steps that give each about `seconds` a round.

    The slowest sets the number of batches. The others repeat just those, so that nobody gets easier ones.
    """
    case, workload = setting.case, setting.workload

    def batches(count: int) -> list[Rows]:
        return workload.batches(0, count, case.batch_size)

    costs = {
        name: _seconds_per_step(contender, batches, case.least_batches, PROBE_SHARE * seconds, setting.device)
        for name, contender in contenders.items()
    }
    count = max(case.least_batches, round(seconds / max(costs.values())))
    return Plan(count, {name: max(1, round(seconds / (count * cost))) for name, cost in costs.items()})


def _seconds_per_step(
    contender: Contender, batches: Callable[[int], Sequence[Rows]], count: int, least: float, device: str
) -> float:
    """After an uncounted run, the best of at least PROBES runs of at least `least` seconds together.

    The best: a probe that others disturb is too slow, and a turn planned by it would be too short to measure anything.
    """
    timed(contender.prepare(batches(count), 1), device)
    best, spent, probes = math.inf, 0.0, 0
    while spent < least or probes < PROBES:
        seconds = timed(contender.prepare(batches(count), 1), device)
        best, spent, probes = min(best, seconds / count), spent + seconds, probes + 1
        if seconds < least / PROBES:
            count *= 2
    return best


def timed(work: Callable[[], None], device: str) -> float:
    """Seconds of `work`, up to the end of what it left to the GPU."""
    gc.collect()
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start
