"""Commands about what studies made: predict, generate, sql, catalogue, verify, invalidate, gc, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.base import (
    DataRoot,
    Device,
    Home,
    LimitSteps,
    ScaleName,
    Set,
    SourceOrigin,
    StudyName,
    command,
    console,
    errors,
    runtime,
)
from flows.spreadsheets import EscapeFormulas
from flows.terminal import printable
from tlm.errors import UserError


@command("Use what was trained", 'tlm predict finetune/agnews --text "Stocks fell."', "tlm predict KEY --file news.csv")
def predict(
    models: Annotated[
        list[str],
        typer.Argument(
            help="A fine-tuned model or a committee: stage/slug (or its beginning) or a key. Several make a committee.",
            metavar="MODEL_OR_COMMITTEE",
        ),
    ],
    text: Annotated[list[str] | None, typer.Option(help="A text; may be given again.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts: a .txt file of one a line, a .csv, .tsv, .jsonl or .parquet table, or - (one a line)."
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="What --file holds if its name does not say: lines, csv, tsv, jsonl, parquet."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="The table's column of texts (default: text).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the predictions to a .parquet or .csv file.")] = None,
    rule: Annotated[str | None, typer.Option(help="How members are combined: soft (default), logit or vote.")] = None,
    top: Annotated[int, typer.Option(help="How many labels to give for each text, the best first.")] = 1,
    escape_formulas: EscapeFormulas = False,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: the cores).")] = None,
    home: Home = None,
) -> None:
    """Label new texts with a fine-tuned model or a committee: a table, or CSV in a pipe."""
    from flows.predicting import Request, predict_in_terminal

    request = Request(tuple(models), tuple(text or ()), file, form, column, out, rule, top, escape_formulas)
    predict_in_terminal(request, runtime(home=home, device=device, threads=threads), console, errors)


@command("Use what was trained", 'tlm generate pretrain/plain --prompt "The sea" --samples 3')
def generate(
    model: Annotated[
        str, typer.Argument(help="A pre-trained decoder: stage/slug (or its beginning) or a key.", metavar="DECODER")
    ],
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the text begins with; may be given again (default: nothing).")
    ] = None,
    tokens: Annotated[
        int, typer.Option(help="Tokens (of a byte model: bytes and ends of patches) to write at most.")
    ] = 40,
    temperature: Annotated[
        float, typer.Option(help="Below 1 likely tokens become likelier; 0: always the likeliest.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many of the likeliest tokens (default: all).")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Texts for each prompt.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same texts.")] = 0,
    device: Device = None,
    home: Home = None,
) -> None:
    """Let a pre-trained decoder write on from a prompt: one text a line."""
    from flows.generating import generate_in_terminal

    generate_in_terminal(
        model,
        [text for text in (prompt or [""]) for _ in range(samples)],
        runtime(home=home, device=device),
        console,
        errors,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )


@command("Keep house", "tlm invalidate finetune/libraries --yes")
def invalidate(
    selector: Annotated[str, typer.Argument(help="A stage, stage/slug (or its beginning), or a key.")],
    downstream: Annotated[bool, typer.Option(help="Also what was made from it.")] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise only show what would go.")] = False,
    home: Home = None,
) -> None:
    """Remove artifacts, so that the next run makes them again."""
    from tlm.artifacts.housekeeping import select, without_record
    from tlm.artifacts.store import ArtifactStore

    store = ArtifactStore(runtime(home=home).artifacts)
    damaged = without_record(store, selector)
    records = select(store, selector, downstream=downstream, required=not damaged)
    for record in records:
        if yes:
            with store.lock(record.ref):
                store.delete(record.ref)
    for name in damaged:
        if yes:
            store.discard(name)
    for name in (*(str(record.ref) for record in records), *damaged):
        console.print(f"{'removed' if yes else 'would remove'} {printable(name)}", highlight=False)
    if not yes:
        console.print(f"{len(records) + len(damaged)} artifacts. Add --yes to remove them.")


@command("Keep house", "tlm gc", "tlm gc --keep-hours 0 --yes")
def gc(
    keep_hours: Annotated[float, typer.Option(help="Keep what was made so recently.")] = 24,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also of studies that have not ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise only show what would go.")] = False,
    home: Home = None,
) -> None:
    """Remove artifacts that no report was made from, and what dead builders left behind: drafts, checkpoints."""
    from tlm.artifacts.housekeeping import collect, find_garbage, recent
    from tlm.artifacts.in_progress import forget
    from tlm.artifacts.in_progress import unfinished as find_unfinished
    from tlm.artifacts.store import ArtifactStore

    store = ArtifactStore(runtime(home=home).artifacts)
    begun = list(find_unfinished(store))
    needed = set() if unfinished else {key for study in begun for key in study.keys}
    garbage = find_garbage(store, keep=recent(store, keep_hours) | needed, hours=keep_hours)
    for ref in garbage.unreferenced:
        console.print(f"{ref}", highlight=False)
    if yes:
        collect(store, garbage)
    for study in begun:
        if unfinished and yes:
            forget(store, study.place)
        what = "not kept" if unfinished else "kept (--unfinished: not)"
        console.print(f"{study.name}, begun {study.begun:%Y-%m-%d %H:%M} UTC, has not ended: {what}", highlight=False)
    verb = "removed" if yes else "would remove"
    console.print(
        f"{verb} {len(garbage.unreferenced)} artifacts and {len(garbage.abandoned)} abandoned drafts and checkpoints, "
        f"{garbage.bytes / 1e6:.1f} MB.{'' if yes else ' Add --yes to remove them.'}"
    )


@command("Look into results", 'tlm sql "select * from results"', "tlm sql --file sql/queries/gap_by_ws.sql")
def sql(
    query: Annotated[
        str | None, typer.Argument(help="SQL over the tables runs, results, overlap, … (`show tables` lists them).")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Read the query from a file.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A variable that the query reads, e.g. --set key=2f4dd2967ad3.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every row, as a pipe gets it.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show in the table.")] = 50,
    escape_formulas: EscapeFormulas = False,
    home: Home = None,
) -> None:
    """Query the catalogue: overlap statistics, runs, results, predictions. Read-only. A table, or CSV in a pipe."""
    from flows.querying import ask, name_left_out, show, variables_of
    from tlm.artifacts.catalogue import left_out
    from tlm.artifacts.sql_models import read_sql

    if (query is None) == (file is None):
        raise UserError("Give either a query or --file.", 'Example: tlm sql "select * from results"')
    text = read_sql(file) if file is not None else str(query)
    where = runtime(home=home)
    show(
        ask(where, text, variables_of(set_ or (), text)),
        console,
        errors,
        csv=csv,
        limit=limit,
        escape_formulas=escape_formulas,
    )
    name_left_out(left_out(where.catalogue), errors)


@command("Keep house", "tlm catalogue")
def catalogue(home: Home = None) -> None:
    """Rebuild data/catalogue.duckdb from the records, and check it."""
    from flows.querying import name_left_out, rebuild

    where = runtime(home=home)
    name_left_out(rebuild(where), errors)
    console.print(f"{where.catalogue}", highlight=False)


@command("Keep house", "tlm verify")
def verify(home: Home = None) -> None:
    """Check every artifact: its record, and the digests of all its files. Exit code 1 if any is not whole."""
    from tlm.artifacts import housekeeping
    from tlm.artifacts.store import ArtifactStore

    whole = wrong = sealed = bare = 0
    for name, seen in housekeeping.verify(ArtifactStore(runtime(home=home).artifacts)):
        if seen.status == "complete":
            whole += 1
            sealed += seen.record is not None and not seen.record.is_sealed
            bare += seen.record is not None and bool(seen.record.left_behind)
        else:
            wrong += 1
            console.print(f"{seen.status} {printable(f'{name}: {seen.reason}')}", highlight=False, soft_wrap=True)
    if sealed:
        console.print(
            f"{sealed} records were made before records had a digest of their own: they have one from now on."
        )
    without = f" ({bare} of them without weights, as their records say)" if bare else ""
    console.print(f"{whole} artifacts are whole{without}, {wrong} are not.", highlight=False)
    if wrong:
        console.print("A run makes again what it needs; `tlm invalidate NAME --yes` removes one.")
        raise typer.Exit(1)


@command("Work elsewhere", "tlm export ws-sweep bundle --scale small")
def export(
    study: StudyName,
    folder: Annotated[Path, typer.Argument(help="A folder to make, for another machine.")],
    set_: Set = None,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
    limit_steps: LimitSteps = None,
    device: Device = None,
    home: Home = None,
    data_root: DataRoot = None,
) -> None:
    """Pack a study's training for a machine that has torch and neither Prefect nor MLflow: `python -m tlm.sequential`."""
    from flows.importing import export_in_terminal
    from flows.loading import load_study

    where = runtime(home=home, data_root=data_root, device=device)
    loaded = load_study(study, set_, scale=scale, origin=origin, limit_steps=limit_steps)
    export_in_terminal(loaded, folder, where, console)


@command("Work elsewhere", "tlm import bundle", name="import")
def import_(
    folder: Annotated[
        Path, typer.Argument(help="A folder with artifacts that another machine made, or with tar archives of them.")
    ],
    home: Home = None,
) -> None:
    """Take artifacts from another machine into the store and into MLflow, once they are verified."""
    from flows.importing import import_in_terminal

    import_in_terminal(folder, runtime(home=home), console)
