"""`tlm predict`: texts in; a table in a terminal, CSV in a pipe, or a file out. Checks come before any work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from flows.terminal import on_terminal, printable
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.inference.resolve import find_classifiers
from tlm.machine.runtime import Runtime


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    models: tuple[str, ...]
    texts: tuple[str, ...] = ()
    file: Path | None = None
    column: str | None = None
    out: Path | None = None
    rule: str | None = None
    top: int = 1


def predict_in_terminal(request: Request, runtime: Runtime, console: Console, errors: Console) -> None:
    """Print or write the predictions.

    Raises:
        UserError: for bad input, before a model is loaded and before anything is written.
    """
    refs = _check_models(request, runtime)
    _check_files(request)
    count = _count(request)

    import torch

    from tlm.inference.files import prediction_table, schema_of
    from tlm.inference.models import Committee
    from tlm.machine.allocator import keep_heap

    keep_heap()
    if "threads" in runtime.model_fields_set:  # else every core: nothing else runs beside this
        torch.set_num_threads(runtime.threads)
    committee = Committee.load(ArtifactStore(runtime.artifacts), refs, _rule(request), runtime.torch_device())
    if request.top > len(committee.labels):
        raise UserError(f"--top {request.top}: the model knows {len(committee.labels)} labels.", "Ask for fewer.")
    schema = schema_of(request.top, {"tlm.models": " ".join(map(str, refs)), "tlm.rule": _rule(request)})
    hidden = request.out is None or not errors.is_terminal
    with _sink(request, schema, console) as write:
        texts = track(_texts(request), "predicting", count, console=errors, disable=hidden, transient=True)
        for chunk, predicted in committee.stream(texts):
            write(prediction_table(chunk, predicted, committee.labels, schema))
    if request.out is not None:
        console.print(f"{count} texts: {request.out}", highlight=False, soft_wrap=True)


def _check_models(request: Request, runtime: Runtime) -> list[ArtifactRef]:
    """The models that are asked for, as far as their records tell."""
    from tlm.evaluation.committee import RULES

    if request.top < 1:
        raise UserError(f"--top {request.top}: at least one label.", "Leave it out, or ask for 1 or more.")
    if request.rule is not None and request.rule not in RULES:
        raise UserError(f"--rule: unknown {request.rule!r}.", f"Choose from {sorted(RULES)}.")
    refs = find_classifiers(ArtifactStore(runtime.artifacts), request.models)
    if request.rule is not None and len(refs) == 1:
        raise UserError(f"--rule {request.rule}: {refs[0]} is one model.", "Name a committee, or several models.")
    if runtime.device == "cuda":
        runtime.torch_device()
    return refs


def _check_files(request: Request) -> None:
    from tlm.inference.files import check_output, has_columns

    if (not request.texts) == (request.file is None):
        raise UserError("Give either --text or --file.", 'Example: tlm predict finetune/agnews --text "Stocks fell."')
    if request.column is not None and (request.file is None or not has_columns(request.file)):
        raise UserError(
            f"--column {request.column}: the texts have no columns.", "Use it with a .csv, .jsonl or .parquet file."
        )
    if request.out is not None:
        check_output(request.out)
        if request.file is not None and request.out.resolve() == request.file.resolve():
            raise UserError(f"--out {request.out} is the file of texts.", "Write to another file.")


def _count(request: Request) -> int:
    """How many texts there are, each of them checked: better now than after an hour."""
    from tlm.inference.files import check_texts, count_texts

    if request.file is not None:
        return count_texts(request.file, request.column or "text")
    check_texts(request.texts, "--text")
    return len(request.texts)


def _texts(request: Request) -> Iterable[str]:
    from tlm.inference.files import read_texts

    return request.texts if request.file is None else read_texts(request.file, request.column or "text")


def _rule(request: Request) -> str:
    return request.rule or "soft"


@contextmanager
def _sink(request: Request, schema: Any, console: Console) -> Iterator[Callable[[Any], None]]:
    """Where tables of predictions go, as they come."""
    from tlm.inference.files import prediction_writer

    if request.out is not None:
        with prediction_writer(request.out, schema) as write:
            yield write
    elif on_terminal():
        shown = _Screen(console, request.top)
        yield shown.write
    else:
        from pyarrow.csv import CSVWriter

        with CSVWriter(sys.stdout.buffer, schema) as writer:
            yield writer.write_table


class _Screen:
    """Tables as wide as the terminal, one below the other, with one header."""

    def __init__(self, console: Console, top: int) -> None:
        self.console = console
        self.columns = [("label" if rank == 1 else f"label_{rank}") for rank in range(1, top + 1)]
        self.begun = False

    def write(self, predictions: Any) -> None:
        table = Table(expand=True, show_header=not self.begun)
        table.add_column("text", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("label", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("probability", width=11, justify="right")
        for row in predictions.to_pylist():
            # A text is shown as it is: square brackets are no markup, and a line break would break the table.
            labels = Text("\n".join(printable(str(row[name])) for name in self.columns))
            shares = "\n".join(f"{row[name.replace('label', 'probability')]:.3f}" for name in self.columns)
            table.add_row(Text(printable(" ".join(row["text"].split()))), labels, shares)
        self.console.print(table)
        self.begun = True
