"""Peak memory and time from source to overlap, by the number of paragraphs: `python -m benchmarks.corpus`.

The corpus is the local Wikipedia source, repeated: each copy begins its paragraphs at another of their words, so that no
two are alike. Every step runs in a process of its own. Its memory is the most that it had for itself (Linux's RssAnon,
looked at a hundred times a second: pages of memory-mapped files do not count, since the kernel drops them when it needs the
room), its time that of all its threads. Needs TLM_DATA_ROOT.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.studies.registry import STUDIES
from tlm.artifacts.step import Step
from tlm.data import sources
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan
from tlm.study.config import StudyConfig
from tlm.study.sources import WikipediaSource

STAGES = ("source", "tokenizer", "tokens", "corpus", "task", "overlap", "duplicates")
TASK = "ag_news"
MIB = 1 << 20


@dataclass(frozen=True)
class Measured:
    """One step: the most memory it had, in bytes, and processor seconds."""

    memory: int
    cpu: float


def main(arguments: Sequence[str] | None = None) -> dict[int, dict[str, Measured]]:
    """Measure and print a table for each stage: its largest step, and against the smallest number of paragraphs."""
    options = _parser().parse_args(arguments)
    found: dict[int, dict[str, Measured]] = {}
    for paragraphs in options.paragraphs:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found[paragraphs] = measure(paragraphs, Path(folder))
        _show(paragraphs, found)
    return found


def measure(paragraphs: int, folder: Path) -> dict[str, Measured]:
    """Every step from source to overlap in an empty home: of each stage its largest step."""
    given = os.environ.get("TLM_DATA_ROOT", "")
    root = folder / "data"
    shutil.copytree(Path(given) / TASK, root / TASK)
    write_corpus(paragraphs, root / "wikipedia", given)
    runtime = Runtime.from_environment(home=str(folder / "home"), data_root=str(root))
    largest: dict[str, Measured] = {}
    for step in plan(study(paragraphs), runtime.data_root).steps:
        if step.stage in STAGES:
            own = in_a_process(step, runtime)
            before = largest.get(step.stage, own)
            largest[step.stage] = own if own.memory >= before.memory else before
    return largest


def study(paragraphs: int) -> StudyConfig:
    """`ws-sweep` at `tiny` on one task and all paragraphs at once, of which nothing is trained here."""
    named = STUDIES["ws-sweep"]("tiny")
    sizes = (0, paragraphs - named.corpus.heldout)
    tasks = tuple(task for task in named.tasks if task.source.kind == TASK)
    return named.model_copy(update={"corpus": named.corpus.model_copy(update={"sizes": sizes}), "tasks": tasks})


def write_corpus(paragraphs: int, folder: Path, data_root: str) -> None:
    """Shards of the local Wikipedia source, as many as it takes."""
    folder.mkdir()
    written = copy = 0
    while written < paragraphs:
        for number, part in enumerate(sources.read(WikipediaSource(origin="local"), data_root).parts):
            own = part.slice(0, paragraphs - written)
            if not own.num_rows:
                return
            texts = [_rotated(text, copy) for text in own["text"].to_pylist()]
            ids = [f"{copy}-{each}" for each in own["item_id"].to_pylist()]
            pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"train-{copy:03d}-{number:03d}.parquet")
            written += own.num_rows
        copy += 1


def in_a_process(step: Step, runtime: Runtime) -> Measured:
    """What one step takes in a fresh process."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[Measured] = context.SimpleQueue()
    process = context.Process(target=_run, args=(step, runtime, results))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{step.ref}: the process ended with {process.exitcode}")
    return results.get()


def _run(step: Step, runtime: Runtime, results: multiprocessing.SimpleQueue[Measured]) -> None:
    most = [0]
    threading.Thread(target=_watch, args=(most,), daemon=True).start()
    execute(step, runtime)
    results.put(Measured(most[0], time.process_time()))


def _watch(most: list[int]) -> None:
    while True:
        fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        most[0] = max(most[0], *(int(field[1]) << 10 for field in fields if field[0] == "RssAnon:"))
        time.sleep(0.01)


def _rotated(text: str, by: int) -> str:
    words = text.split(" ")
    place = by % len(words)
    return " ".join(words[place:] + words[:place])


def _show(paragraphs: int, found: dict[int, dict[str, Measured]]) -> None:
    first = found[min(found)]
    print(f"{paragraphs:,} paragraphs")
    for stage, own in found[paragraphs].items():
        memory, cpu = own.memory / first[stage].memory, own.cpu / first[stage].cpu
        print(
            f"  {stage:10} {own.memory / MIB:7.0f} MiB ({memory:5.2f} x)   {own.cpu:8.1f} CPU s ({cpu:6.2f} x)",
            flush=True,
        )
    total, before = (sum(each.cpu for each in stages.values()) for stages in (found[paragraphs], first))
    print(f"  all        {'':19}   {total:8.1f} CPU s ({total / before:6.2f} x)", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--paragraphs", type=int, nargs="+", default=[160_000, 1_600_000], help="how many, each in turn"
    )
    parser.add_argument("--folder", help="where the corpus is written (default: the folder for temporary files)")
    return parser


if __name__ == "__main__":
    main()
