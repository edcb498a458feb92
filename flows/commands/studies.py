"""Commands about studies: run, plan, show, studies, explain, report."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.base import (
    DataRoot,
    Device,
    Home,
    LimitSteps,
    Reference,
    ScaleName,
    Set,
    SourceOrigin,
    StudyName,
    Threads,
    Workers,
    command,
    console,
    runtime,
)


@command("Begin", "tlm run demo", "tlm run ws-sweep --scale tiny", "tlm run my_study.yaml --set pretrain.epochs=5")
def run(
    study: StudyName,
    set_: Set = None,
    reference_compat: Reference = False,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
    limit_steps: LimitSteps = None,
    device: Device = None,
    workers: Workers = None,
    threads: Threads = None,
    home: Home = None,
    data_root: DataRoot = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")] = False,
) -> None:
    """Run a study: every stage that is not cached yet, then its report."""
    from flows.loading import load_study

    where = runtime(home=home, data_root=data_root, device=device, workers=workers, threads=threads)
    loaded = load_study(study, set_, reference=reference_compat, scale=scale, origin=origin, limit_steps=limit_steps)
    if not console.is_terminal:  # where something moves instead
        console.print(f"{loaded.name}: checking the study and its sources", highlight=False, soft_wrap=True)
    from flows.running import run_in_terminal  # which takes seconds

    asked = [study, *(("--scale", scale) if scale else ()), *(("--origin", origin) if origin else ())]
    asked += ["--reference-compat"] * reference_compat
    asked += [word for each in set_ or () for word in ("--set", each)]
    run_in_terminal(loaded, where, console, asked=shlex.join(asked), debug=debug)


@command("Begin", "tlm plan demo", "tlm plan ws-sweep --scale paper", "tlm plan ws-sweep committee --scale tiny")
def plan(
    study: Annotated[list[str], typer.Argument(help="A named study or a YAML file; of several, what they share.")],
    set_: Set = None,
    reference_compat: Reference = False,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
    limit_steps: LimitSteps = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step, not only totals by stage.")] = False,
    time: Annotated[bool, typer.Option("--time/--no-time", help="Project the time, from a short calibration.")] = True,
    verdicts: Annotated[
        bool | None,
        typer.Option(
            "--verdicts/--no-verdicts", help="Rehearse which half-width each verdict will have (default: as --time)."
        ),
    ] = None,
    device: Device = None,
    workers: Workers = None,
    threads: Threads = None,
    home: Home = None,
    data_root: DataRoot = None,
) -> None:
    """Say what a run would do: stages, tokens, time, what is cached, and how well it will tell. Makes nothing of it."""
    from flows.loading import load_study
    from flows.planning import show_left_out, show_plan, show_reuse
    from tlm.artifacts.store import ArtifactStore
    from tlm.cost.precision import settled
    from tlm.planning.plan import plan as make_plan
    from tlm.planning.registries import check_registries

    where = runtime(home=home, data_root=data_root, device=device, workers=workers, threads=threads)
    store = ArtifactStore(where.artifacts)
    options: dict[str, Any] = {
        "reference": reference_compat,
        "scale": scale,
        "origin": origin,
        "limit_steps": limit_steps,
    }
    alone = len({*study}) == 1
    say = partial(console.print, highlight=False, soft_wrap=True) if alone else lambda line: None
    plans = {}
    for name in dict.fromkeys(study):
        loaded = load_study(name, set_, **options)
        check_registries(loaded)
        # What nothing was made of yet is planned alike in either precision: to measure is worth its time with the time.
        plans[name] = make_plan(settled(loaded, where, say, measuring=time and alone), where.data_root)
    if len(plans) > 1:
        show_reuse(plans, store, console)
        return
    (planned,) = plans.values()
    show_left_out(planned, where, partial(console.print, highlight=False, soft_wrap=True))
    show_plan(planned, store, where, console, steps=steps, time=time, verdicts=time if verdicts is None else verdicts)


@command("Begin", "tlm show demo > my_study.yaml")
def show(
    study: StudyName,
    set_: Set = None,
    reference_compat: Reference = False,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
) -> None:
    """Print a study as YAML, every field: a file to start your own from."""
    from flows.loading import load_study, to_yaml

    typer.echo(to_yaml(load_study(study, set_, reference=reference_compat, scale=scale, origin=origin)), nl=False)


@command("Begin", "tlm studies")
def studies() -> None:
    """List the named studies."""
    from flows.studies import STUDIES

    table = Table("study", "scales", "what it does")
    for name, study in STUDIES.items():
        table.add_row(name, "tiny, small, paper" if study.scaled else "", study.description)
    console.print(table)


@command("Look into results", "tlm explain demo --against demo --set finetune.epochs=3")
def explain(
    study: StudyName,
    against: Annotated[str, typer.Option(help="A study's name (its latest run), a report's key, or an MLflow run id.")],
    set_: Set = None,
    reference_compat: Reference = False,
    scale: ScaleName = None,
    origin: SourceOrigin = None,
    home: Home = None,
    data_root: DataRoot = None,
) -> None:
    """Say which field changed since a recorded run, and which steps run again because of it."""
    from flows.loading import load_study
    from tlm.artifacts.store import ArtifactStore
    from tlm.cost.precision import settled
    from tlm.planning.explain import explain as find_changes
    from tlm.planning.plan import plan as make_plan

    where = runtime(home=home, data_root=data_root)
    loaded = load_study(study, set_, reference=reference_compat, scale=scale, origin=origin)
    planned = make_plan(settled(loaded, where), where.data_root)
    found = find_changes(planned, ArtifactStore(where.artifacts), against)
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


@command("Look into results", "tlm report", "tlm report --published")
def report(
    out: Annotated[Path, typer.Option(help="The document; its plots go into a folder img beside it.")] = Path(
        "docs/results.md"
    ),
    published: Annotated[
        bool, typer.Option("--published", help="From the folder `published` beside the document, not from this home.")
    ] = False,
    home: Home = None,
) -> None:
    """Write the verdicts of every named study that has run, at every scale: figures, plots, commands, MLflow runs."""
    from flows.reporting import command_of
    from tlm.artifacts.store import ArtifactStore
    from tlm.results.answers import of_home
    from tlm.results.document import write_document
    from tlm.results.published import FOLDER, answers, folders

    kept = out.parent / FOLDER
    found = (
        answers(kept, command_of)
        if published
        else of_home(ArtifactStore(runtime(home=home).artifacts), command_of, published=len(folders(kept)))
    )
    written = write_document(found, out)
    for line in (*written.studies, *written.tallies):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"{out}", highlight=False)


@command("Look into results", "tlm publish", "tlm publish ws-sweep committee-tiny")
def publish(
    study: Annotated[
        list[str] | None, typer.Argument(help="Studies that have run, with or without their scale (default: all).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where each study has a folder; others there stay as they are.")] = Path(
        "docs/published"
    ),
    home: Home = None,
) -> None:
    """Write results as small Parquet files, from which `tlm report --published` draws the document without training."""
    from flows.publishing import publish_studies
    from tlm.artifacts.store import ArtifactStore

    publish_studies(ArtifactStore(runtime(home=home).artifacts), study or (), out, console)
