"""What `benchmarks.latency` measured: rows, sentences about them, and the files they are saved in."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.latency_systems import ALONE, DEEP, ONE_BY_ONE, PROCESSES, THREADS, Cost
from tlm.artifacts.provenance import provenance
from tlm.report.drawing import MARKERS, SERIES, STYLE
from tlm.study.architecture import SHALLOW

QUIET = 0.1
"""Cores that others may keep busy before the findings say so."""

Setting = tuple[str, int, int]
"""precision, threads, batch"""


@dataclass(frozen=True)
class Row:
    """One system, run in one way, in one setting. Times in milliseconds; `calls` were timed.

    `others`: cores that other processes kept busy in this setting.
    """

    precision: str
    threads: int
    batch: int
    system: str
    how: str
    members: int
    p50: float
    p95: float
    calls: int
    parameters: int = 0
    flops: int = 0
    depth: int = 0
    others: float = 0.0

    @classmethod
    def of(
        cls, system: str, how: str, precision: str, threads: int, batch: int, members: int, rounds: list[list[float]]
    ) -> Row:
        """From seconds of each call, of each round."""
        every = np.concatenate(rounds)
        p50 = float(np.median([np.median(times) for times in rounds]))
        p95 = float(np.percentile(every, 95))
        return cls(precision, threads, batch, system, how, members, 1e3 * p50, 1e3 * p95, len(every))

    def costing(self, cost: Cost) -> Row:
        return replace(self, **asdict(cost))

    @property
    def setting(self) -> Setting:
        return self.precision, self.threads, self.batch


def by_setting(rows: Iterable[Row]) -> list[tuple[Setting, list[Row]]]:
    """In the order in which they were measured."""
    return [(setting, list(own)) for setting, own in groupby(rows, key=lambda row: row.setting)]


# --- sentences ---


def findings(rows: Sequence[Row]) -> list[str]:
    """For each setting whether the committee of all shallow variants is faster than BERT-6, and by how much."""
    found: list[str] = []
    for setting, own in by_setting(rows):
        deep = next((row for row in own if row.system == DEEP), None)
        if deep is not None:
            busy = f" (NOT QUIET: others kept {deep.others:.1f} cores busy)" if deep.others > QUIET else ""
            found.append(f"{_named(setting)}: {DEEP} takes {deep.p50:.1f} ms.{busy}")
            found += [f"  {line}" for line in (*_five(own, deep), *_repeated(own, deep))]
    return found


def _five(rows: Sequence[Row], deep: Row) -> list[str]:
    lines = [
        f"The committee of {row.members}, {_way(row)}: {row.p50:.1f} ms, {_compared(row.p50, deep.p50)}."
        for row in rows
        if row.members == len(SHALLOW) and row.system.startswith("five")
    ]
    at_a_time = [row for row in rows if row.system.startswith("five") and row.how in (THREADS, PROCESSES)]
    if at_a_time:
        best = min(at_a_time, key=lambda row: row.p50)
        lines.append(f"Of threads and processes, {best.how} are the faster.")
    alone = [row for row in rows if row.system in SHALLOW]
    if len(alone) == len(SHALLOW):
        slowest = max(alone, key=lambda row: row.p50)
        lines.append(
            f"On a perfectly parallel machine, as slow as its slowest member, {slowest.system}: {slowest.p50:.1f} ms, "
            f"{_compared(slowest.p50, deep.p50)}. Depth: {slowest.depth} stages against {deep.depth}."
        )
        faster = [row.system for row in alone if row.p50 < deep.p50]
        lines.append(f"Variants that are faster alone: {', '.join(faster) or 'none'}.")
    return lines


def _repeated(rows: Sequence[Row], deep: Row) -> list[str]:
    many = [row for row in rows if " × " in row.system]
    if not many:
        return []
    fits = [row for row in many if row.p50 < deep.p50]
    name = many[0].system.partition(" × ")[2]
    if not fits:
        return [f"No committee of {min(row.members for row in many)} or more × {name} is faster."]
    best = max(fits, key=lambda row: (row.members, -row.p50))
    return [f"The largest committee of {name} that is faster: {best.members}, {_way(best)}, {best.p50:.1f} ms."]


def _compared(time: float, reference: float) -> str:
    ratio = time / reference
    return f"{ratio:.2f} times BERT-6's time ({'FASTER' if ratio < 1 else 'SLOWER'})"


def _way(row: Row) -> str:
    return row.how if row.how in (ALONE, ONE_BY_ONE) else f"{row.threads} at a time by {row.how}"


def _named(setting: Setting) -> str:
    precision, threads, batch = setting
    return f"{precision}, {threads} thread{'s' if threads > 1 else ''}, batch {batch}"


# --- files ---


def write(rows: Sequence[Row], folder: Path, about: Mapping[str, str]) -> None:
    """latency.csv, latency.md and latency.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "latency.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (folder / "latency.md").write_text("\n".join(_markdown(rows, about)) + "\n", encoding="utf-8")
    _plot(rows, folder / "latency.png")


def _markdown(rows: Sequence[Row], about: Mapping[str, str]) -> list[str]:
    code = provenance()
    where = {
        **about,
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "torch": str(code["packages"]["torch"]),
        "commit": f"{code['git_commit']}{' and changes' if code['git_dirty'] else ''}",
    }
    lines = ["# Latency", "", *(f"- {name}: {value}" for name, value in where.items()), "", "```"]
    lines += [*findings(rows), "```"]
    for setting, own in by_setting(rows):
        deep = next((row.p50 for row in own if row.system == DEEP), None)
        lines += ["", f"## {_named(setting)}", ""]
        lines += ["| system | run | p50, ms | p95, ms | calls | ÷ BERT-6 | parameters, M | GFLOPs an item | depth |"]
        lines += ["| :--- | :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        for row in own:
            ratio = "n/a" if deep is None else f"{row.p50 / deep:.2f}"
            lines.append(
                f"| {row.system} | {_way(row)} | {row.p50:.2f} | {row.p95:.2f} | {row.calls} | {ratio} "
                f"| {row.parameters / 1e6:.1f} | {row.flops / 1e9:.2f} | {row.depth} |"
            )
    return lines


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def _plot(rows: Sequence[Row], path: Path) -> None:
    """p50 against FLOPs and against depth, a row of plots for each batch size; float32 on one thread where measured."""
    first = rows[0].setting
    shown = [(setting, own) for setting, own in by_setting(rows) if setting[:2] == first[:2]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        axes: Any = figure.subplots(len(shown), 2, squeeze=False)
        for place, (setting, own) in zip(axes, shown, strict=True):
            _panel(place[0], own, "flops", "FLOPs an item", _named(setting))
            _panel(place[1], own, "depth", "Sequential depth, stages", _named(setting))
        figure.savefig(path, dpi=150)


def _panel(axes: Any, rows: Sequence[Row], field: str, label: str, title: str) -> None:
    kinds = {
        "BERT-6": [row for row in rows if row.system == DEEP],
        "BERT-1 variants": [row for row in rows if row.system in SHALLOW],
        "committees": [row for row in rows if row.how == ONE_BY_ONE],
    }
    for (kind, own), color, marker in zip(kinds.items(), SERIES, MARKERS, strict=False):
        axes.scatter(
            [getattr(row, field) for row in own], [row.p50 for row in own], color=color, marker=marker, label=kind
        )
        for row in own:
            name = row.system.partition(" (")[0]
            axes.annotate(name, (getattr(row, field), row.p50), (5, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel=label, ylabel="p50, ms", title=title, yscale="log", xscale="log" if field == "flops" else "linear")
    axes.legend()
