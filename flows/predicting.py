"""`tlm predict`: texts in; a table in a terminal, CSV in a pipe, or a file out. Checks come before any work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from flows.spreadsheets import without_formulas
from flows.terminal import on_terminal, printable
from tlm.artifacts.dry_runs import is_of_dry_run
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.inference.resolve import find_classifiers
from tlm.machine.runtime import Runtime
from tlm.study.dry_run import DRY_MODEL


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    models: tuple[str, ...]
    texts: tuple[str, ...] = ()
    file: Path | None = None
    form: str | None = None
    column: str | None = None
    out: Path | None = None
    rule: str | None = None
    top: int = 1
    escape_formulas: bool = False


def predict_in_terminal(request: Request, runtime: Runtime, console: Console, errors: Console) -> None:
    """Print or write the predictions.

    Raises:
        UserError: for bad input, before a model is loaded and before anything is written.
    """
    refs = _check_models(request, runtime)
    _check_files(request)
    warn_of_dry_runs(ArtifactStore(runtime.artifacts), refs, errors)
    with _texts(request, errors) as (texts, count):
        _predict(request, runtime, refs, texts, count, console, errors)
    if request.out is not None:
        console.print(f"{count} texts: {request.out}", highlight=False, soft_wrap=True)


def warn_of_dry_runs(store: ArtifactStore, models: Sequence[ArtifactRef], errors: Console) -> None:
    """One line, if a model that is asked was hardly trained."""
    dry = [ref for ref in models if (found := store.inspect(ref, verify=False).record) and is_of_dry_run(found)]
    if dry:
        more = f" and {len(dry) - 1} more" if dry[1:] else ""
        errors.print(f"{DRY_MODEL} ({dry[0]}{more}).", style="yellow", highlight=False, soft_wrap=True)


def _predict(
    request: Request,
    runtime: Runtime,
    refs: list[ArtifactRef],
    texts: Iterable[str],
    count: int,
    console: Console,
    errors: Console,
) -> None:
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
        shown = track(texts, "predicting", count, console=errors, disable=hidden, transient=True)
        for chunk, predicted in committee.stream(shown):
            write(prediction_table(chunk, predicted, committee.labels, schema))


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
    from tlm.inference.files import check_output

    if (not request.texts) == (request.file is None):
        raise UserError("Give either --text or --file.", 'Example: tlm predict finetune/agnews --text "Stocks fell."')
    for option, value in (("column", request.column), ("format", request.form)):
        if value is not None and request.file is None:
            raise UserError(f"--{option} {value}: the texts have no columns.", "Use it with --file.")
    if request.out is not None:
        check_output(request.out)
        if request.file is not None and request.out.resolve() == request.file.resolve():
            raise UserError(f"--out {request.out} is the file of texts.", "Write to another file.")
        if request.escape_formulas and request.out.suffix.lower() != ".csv":
            raise UserError(
                f"--escape-formulas: {request.out} is no CSV, and nothing computes its cells.", "Leave it out."
            )


@contextmanager
def _texts(request: Request, errors: Console) -> Iterator[tuple[Iterable[str], int]]:
    """The texts and how many they are, each of them checked: better now than after an hour."""
    from tlm.inference.files import STANDARD_INPUT, check_texts, open_texts

    if request.file is None:
        check_texts(request.texts, "--text")
        yield request.texts, len(request.texts)
        return
    if request.file in STANDARD_INPUT and sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
        errors.print("One text on each line; Ctrl-D after the last.")
    with open_texts(request.file, request.form, request.column) as texts:
        yield texts, texts.count()


def _rule(request: Request) -> str:
    return request.rule or "soft"


@contextmanager
def _sink(request: Request, schema: Any, console: Console) -> Iterator[Callable[[Any], None]]:
    """Where tables of predictions go, as they come."""
    from tlm.inference.files import prediction_writer

    prepared = without_formulas if request.escape_formulas else lambda table: table
    if request.out is not None:
        with prediction_writer(request.out, schema) as write:
            yield lambda table: write(prepared(table))
    elif on_terminal():
        shown = _Screen(console, request.top)
        yield shown.write
    else:
        from pyarrow.csv import CSVWriter

        with CSVWriter(sys.stdout.buffer, schema) as writer:
            yield lambda table: writer.write_table(prepared(table))


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
