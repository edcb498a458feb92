"""MLflow put in order from the records, in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.answering import check_tracking, shown
from tlm.machine.runtime import Runtime
from tlm.report.formatting import experiment_url


def track_in_terminal(runtime: Runtime, console: Console) -> None:
    """Complete and rebuild MLflow's runs, with a bar, and say what was done.

    Raises:
        UserError: if MLflow does not answer, or its database is none that it can work with.
    """
    runtime.check_writable()
    if runtime.tracking_uri:
        check_tracking(runtime.tracking_uri)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("MLflow", total=None)

        from tasks.tracking.rebuilding import track

        done = track(runtime, lambda done, total: progress.update(bar, completed=done, total=total))
    for name, reason in done.left_out.items():
        console.print(f"left out {name}: {reason}", highlight=False, soft_wrap=True)
    console.print(
        f"{done.made} artifacts logged from their records, {done.present} were there. Of unfinished runs "
        f"{done.settled.completed} were completed, {done.settled.killed} ended as killed.",
        highlight=False,
    )
    if done.searches:
        console.print(f"{done.searches} searches logged again, with their trials.", highlight=False)
    where = shown(runtime.tracking_uri) if runtime.tracking_uri else str(runtime.mlflow_folder / "mlflow.db")
    console.print(f"MLflow: {where}", highlight=False, soft_wrap=True)
    console.print(
        f"Runs: {experiment_url(shown(runtime.mlflow_url), done.experiment_id)}", highlight=False, soft_wrap=True
    )
