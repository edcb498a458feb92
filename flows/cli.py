"""The command line. Prefect and MLflow are imported only by the commands that run studies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tlm.errors import UserError
from tlm.runtime import Runtime

app = typer.Typer(
    name="tlm",
    help="Pre-train, fine-tune and compare tiny language models. Start with: tlm run demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console()
errors = Console(stderr=True)

StudyName = Annotated[str, typer.Argument(help="A named study (see `tlm studies`) or a YAML file of the same schema.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a field, e.g. --set pretrain.epochs=5.")]
Reference = Annotated[bool, typer.Option("--reference-compat", help="Use the reference code's habits.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; cuda without one is an error.")]
Home = Annotated[str | None, typer.Option(help="Where everything is written (TLM_HOME).")]
DataRoot = Annotated[str | None, typer.Option(help="Where source files are read (TLM_DATA_ROOT).")]


def _example(*commands: str) -> str:
    return "[bold]Example:[/bold]  " + "   ".join(commands)


@app.command(epilog=_example("tlm run demo", "tlm run my_study.yaml --set pretrain.epochs=5"))
def run(
    study: StudyName,
    set_: Set = None,
    reference_compat: Reference = False,
    device: Device = None,
    workers: Annotated[int | None, typer.Option(help="Stages at once (default: the cores).")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each training process.")] = None,
    home: Home = None,
    data_root: DataRoot = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")] = False,
) -> None:
    """Run a study: every stage that is not cached yet, then its report."""
    from flows.loading import load_study
    from flows.running import run_in_terminal

    runtime = _runtime(home=home, data_root=data_root, device=device, workers=workers, threads=threads)
    run_in_terminal(load_study(study, set_, reference=reference_compat), runtime, console, debug=debug)


@app.command(epilog=_example("tlm plan demo", "tlm plan quickstart --steps"))
def plan(
    study: StudyName,
    set_: Set = None,
    reference_compat: Reference = False,
    steps: Annotated[bool, typer.Option("--steps", help="List every step, not only totals by stage.")] = False,
    home: Home = None,
    data_root: DataRoot = None,
) -> None:
    """Say what a run would do: which steps are cached, which would run. Writes nothing."""
    from flows.loading import load_study
    from tlm.plan import plan as make_plan
    from tlm.store import ArtifactStore

    runtime = _runtime(home=home, data_root=data_root)
    loaded = load_study(study, set_, reference=reference_compat)
    planned = make_plan(loaded, runtime.data_root, precision=runtime.native_precision())
    store = ArtifactStore(runtime.artifacts)
    status = {step.key: store.inspect(step.ref, verify=False).status for step in planned.steps}
    table = Table("stage", "step", "status") if steps else Table("stage", "steps", "cached", "to run")
    for stage in dict.fromkeys(step.stage for step in planned.steps):
        own = [step for step in planned.steps if step.stage == stage]
        cached = sum(status[step.key] == "complete" for step in own)
        if steps:
            for step in own:
                table.add_row(stage, str(step.ref).partition("/")[2], _word(status[step.key]))
        else:
            table.add_row(stage, str(len(own)), str(cached), str(len(own) - cached))
    console.print(table)
    todo = sum(value != "complete" for value in status.values())
    console.print(f"{len(status)} steps: {len(status) - todo} cached, {todo} to run.")


def _word(status: str) -> str:
    return "cached" if status == "complete" else f"to run ({status})"


@app.command(epilog=_example("tlm show demo > my_study.yaml"))
def show(study: StudyName, set_: Set = None, reference_compat: Reference = False) -> None:
    """Print a study as YAML, every field: a file to start your own from."""
    from flows.loading import load_study, to_yaml

    typer.echo(to_yaml(load_study(study, set_, reference=reference_compat)), nl=False)


@app.command(epilog=_example("tlm studies"))
def studies() -> None:
    """List the named studies."""
    from flows.studies import STUDIES

    table = Table("study", "what it does")
    for name, make in STUDIES.items():
        table.add_row(name, (make.__doc__ or "").strip())
    console.print(table)


@app.command(epilog=_example("tlm explain demo --against demo --set finetune.epochs=3"))
def explain(
    study: StudyName,
    against: Annotated[str, typer.Option(help="A study's name (its latest run), a report's key, or an MLflow run id.")],
    set_: Set = None,
    reference_compat: Reference = False,
    home: Home = None,
    data_root: DataRoot = None,
) -> None:
    """Say which field changed since a recorded run, and which steps run again because of it."""
    from flows.loading import load_study
    from tlm.explain import explain as find_changes
    from tlm.plan import plan as make_plan
    from tlm.store import ArtifactStore

    runtime = _runtime(home=home, data_root=data_root)
    loaded = load_study(study, set_, reference=reference_compat)
    planned = make_plan(loaded, runtime.data_root, precision=runtime.native_precision())
    found = find_changes(planned, ArtifactStore(runtime.artifacts), against)
    console.print(f"Against {found.against.ref} of {found.against.created}:")
    if not found.changes:
        console.print("nothing changed.")
    changes = Table("field", "before", "after")
    for change in found.changes:
        changes.add_row(change.place, str(change.before), str(change.after))
    causes = Table("runs again", "because")
    for step, reason in found.causes:
        causes.add_row(f"{step.stage}/{step.slug}", reason)
    for table in (changes, causes):
        if table.row_count:
            console.print(table)
    console.print(f"{len(found.reused)} steps are the same, {len(found.causes)} are not.")


@app.command(epilog=_example('tlm predict finetune/agnews --text "Stocks fell."', "tlm predict KEY --file news.csv"))
def predict(
    models: Annotated[
        list[str],
        typer.Argument(
            help="A fine-tuned model or a committee: stage/slug (or its beginning) or a key. Several make a committee.",
            metavar="MODEL_OR_COMMITTEE...",
        ),
    ],
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given again.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts: one a line, or a .csv, .jsonl or .parquet table.")] = None,
    column: Annotated[str | None, typer.Option(help="The table's column of texts (default: text).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the predictions to a .parquet or .csv file.")] = None,
    rule: Annotated[str | None, typer.Option(help="How members are combined: soft (default), logit or vote.")] = None,
    top: Annotated[int, typer.Option(help="How many labels to tell of each text, the best first.")] = 1,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: the cores).")] = None,
    home: Home = None,
) -> None:
    """Label new texts with a fine-tuned model or a committee: a table, or CSV in a pipe."""
    from flows.predicting import Request, predict_in_terminal

    request = Request(tuple(models), tuple(text or ()), file, column, out, rule, top)
    predict_in_terminal(request, _runtime(home=home, device=device, threads=threads), console, errors)


@app.command(epilog=_example("tlm invalidate finetune/libraries --yes"))
def invalidate(
    selector: Annotated[str, typer.Argument(help="A stage, stage/slug (or its beginning), or a key.")],
    downstream: Annotated[bool, typer.Option(help="Also what was made from it.")] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise only show what would go.")] = False,
    home: Home = None,
) -> None:
    """Remove artifacts, so that the next run makes them again."""
    from tlm.housekeeping import select
    from tlm.store import ArtifactStore

    store = ArtifactStore(_runtime(home=home).artifacts)
    records = select(store, selector, downstream=downstream)
    for record in records:
        if yes:
            with store.lock(record.ref):
                store.delete(record.ref)
        console.print(f"{'removed' if yes else 'would remove'} {record.ref}", highlight=False)
    if not yes:
        console.print(f"{len(records)} artifacts. Add --yes to remove them.")


@app.command(epilog=_example("tlm gc", "tlm gc --keep-hours 0 --yes"))
def gc(
    keep_hours: Annotated[float, typer.Option(help="Keep what was made so recently: a study may be under way.")] = 24,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise only show what would go.")] = False,
    home: Home = None,
) -> None:
    """Remove artifacts that no report was made from, and what dead builders left behind: drafts, checkpoints."""
    from tlm.housekeeping import collect, find_garbage, recent
    from tlm.store import ArtifactStore

    store = ArtifactStore(_runtime(home=home).artifacts)
    garbage = find_garbage(store, keep=recent(store, keep_hours), hours=keep_hours)
    for ref in garbage.unreferenced:
        console.print(f"{ref}", highlight=False)
    if yes:
        collect(store, garbage)
    verb = "removed" if yes else "would remove"
    console.print(
        f"{verb} {len(garbage.unreferenced)} artifacts and {len(garbage.abandoned)} abandoned drafts and checkpoints, "
        f"{garbage.bytes / 1e6:.1f} MB.{'' if yes else ' Add --yes to remove them.'}"
    )


@app.command(epilog=_example('tlm sql "select * from results"', "tlm sql --file sql/queries/gap_by_ws.sql"))
def sql(
    query: Annotated[str | None, typer.Argument(help="SQL over the views runs, results, overlap, …")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the query from a file.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every row.")] = False,
    limit: Annotated[int, typer.Option(help="Rows to show in the table.")] = 50,
    home: Home = None,
) -> None:
    """Query the catalogue: overlap statistics, runs, results, predictions. Read-only."""
    from tlm import catalogue
    from tlm.store import ArtifactStore

    if (query is None) == (file is None):
        raise UserError("Give either a query or --file.", 'Example: tlm sql "select * from results"')
    try:
        text = query if query is not None else Path(str(file)).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot read {file}: {error.strerror}.") from error
    runtime = _runtime(home=home)
    store = ArtifactStore(runtime.artifacts)
    if catalogue.is_stale(store, runtime.catalogue):
        runtime.check_writable()
        catalogue.build(store, runtime.catalogue)
    found = catalogue.query(runtime.catalogue, text)
    if csv:
        from pyarrow.csv import write_csv

        write_csv(found, sys.stdout.buffer)
        return
    table = Table(*found.column_names)
    for row in found.slice(0, limit).to_pylist():
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)
    if found.num_rows > limit:
        console.print(f"{limit} of {found.num_rows} rows; --limit or --csv shows more.")


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@app.command(epilog=_example("tlm catalogue"))
def catalogue(home: Home = None) -> None:
    """Rebuild data/catalogue.duckdb from the records, and check it."""
    from tlm import catalogue as views
    from tlm.store import ArtifactStore

    runtime = _runtime(home=home)
    runtime.check_writable()
    views.build(ArtifactStore(runtime.artifacts), runtime.catalogue)
    console.print(f"{runtime.catalogue}", highlight=False)


def _runtime(**given: object) -> Runtime:
    from pydantic import ValidationError

    try:
        return Runtime.from_environment(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{field}: {problem['msg']} (got {problem.get('input')!r}).") from error


def main() -> None:
    """Entry point: a user's error is one line and exit code 2; with --debug its traceback too."""
    try:
        app()
    except UserError as error:
        if "--debug" in sys.argv:
            raise
        errors.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
