"""From timings to the table: medians over rounds, ratios within rounds. On the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import STOCK
from benchmarks.speed import Timing

MIB = 1 << 20
QUIET = 0.05
"""Cores that others may keep busy without a word about it."""
HEADINGS = (
    "Case",
    "Contender",
    "Precision",
    "Steps a round",
    "Tokens/s",
    "× stock",
    "min–max",
    "Peak, MiB",
    "× stock",
    "Useful GF/s",
    "Of ceiling",
)
LEGEND = (
    "Tokens/s: real tokens (no padding) a second, median over the rounds. × stock: median over the rounds of the ratio "
    "to stock in the same round, and its least and greatest. Peak: of a process of its own, with its ratio to stock's. "
    "Useful GF/s: operations that real tokens need (benchmarks/work.py), a second; of ceiling: their share of a matrix "
    "product's best speed in the same precision (?: more than all of it, so the product was measured on busy cores)."
)


@dataclass(frozen=True)
class Row:
    """One contender in one case.

    `ceiling` in gigaflops per second, `peak` in bytes (None: not measured), `others` the cores that other processes kept
    busy in the worst of its turns.
    """

    case: str
    contender: str
    precision: str
    steps: int
    tokens_per_second: float
    ratio: float
    ratio_min: float
    ratio_max: float
    peak: int | None
    peak_ratio: float | None
    useful_gflops: float
    ceiling: float
    others: float

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.case,
            self.contender,
            self.precision,
            f"{self.steps:,}",
            f"{self.tokens_per_second:,.0f}",
            f"{self.ratio:.2f}",
            f"{self.ratio_min:.2f}–{self.ratio_max:.2f}",
            "" if self.peak is None else f"{self.peak / MIB:,.0f}",
            "" if self.peak_ratio is None else f"{self.peak_ratio:.2f}",
            f"{self.useful_gflops:.1f}",
            f"{100 * self.useful_gflops / self.ceiling:.0f} %" if self.useful_gflops <= self.ceiling else "?",
        )


def summarise(timings: Sequence[Timing], peaks: Mapping[str, int], ceilings: Mapping[str, float]) -> list[Row]:
    """The rows of one case. `peaks` by contender, may be empty; `ceilings` by precision."""
    stock = {timing.round: timing for timing in timings if timing.contender == STOCK}
    rows = []
    for name in dict.fromkeys(timing.contender for timing in timings):
        own = [timing for timing in timings if timing.contender == name]
        ratios = [timing.speed / stock[timing.round].speed for timing in own]
        rows.append(
            Row(
                case=own[0].case,
                contender=name,
                precision=own[0].precision,
                steps=own[0].steps,
                tokens_per_second=median(timing.speed for timing in own),
                ratio=median(ratios),
                ratio_min=min(ratios),
                ratio_max=max(ratios),
                peak=peaks.get(name),
                peak_ratio=peaks[name] / peaks[STOCK] if name in peaks else None,
                useful_gflops=median(timing.flops / timing.seconds for timing in own) / 1e9,
                ceiling=ceilings[own[0].precision],
                others=max(timing.others for timing in own),
            )
        )
    return rows


def disturbance(timings: Sequence[Timing]) -> str:
    """How long the turns took, how many cores others kept busy meanwhile, and whether that spoils the results."""
    seconds = [timing.seconds for timing in timings]
    others = [timing.others for timing in timings]
    verdict = "" if max(others) <= QUIET else ": NOT a quiet machine, repeat before quoting any figure"
    lasted = f"turns of {min(seconds):.1f} to {max(seconds):.1f} s"
    return f"{lasted}; cores busy with others: median {median(others):.2f}, at most {max(others):.2f}{verdict}"


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(*HEADINGS)
    for index, column in enumerate(table.columns):
        column.no_wrap, column.justify = True, "right" if index > 2 else "left"
    for row in rows:
        table.add_row(*row.cells, end_section=row.case != rows[min(rows.index(row) + 1, len(rows) - 1)].case)
    console.print(table)


def markdown(rows: Sequence[Row], below: Sequence[str]) -> str:
    """The table, what its columns mean, and the lines `below`: what was measured where."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * 3 + "|--:" * (len(HEADINGS) - 3) + "|"]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    return "\n".join([*lines, "", LEGEND, "", *(f"- {line}" for line in below)]) + "\n"


def save(
    folder: Path, rows: Sequence[Row], timings: Sequence[Timing], facts: Mapping[str, str], below: Sequence[str]
) -> None:
    """throughput.md, throughput.csv (a line for each row, the facts repeated) and rounds.csv (every single timing)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "throughput.md").write_text(markdown(rows, below), encoding="utf-8")
    _write_csv(folder / "throughput.csv", [{**asdict(row), **facts} for row in rows])
    _write_csv(folder / "rounds.csv", [asdict(timing) for timing in timings])


def _write_csv(place: Path, lines: Sequence[Mapping[str, object]]) -> None:
    with open(place, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
