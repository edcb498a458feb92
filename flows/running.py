"""Running a study in a terminal: checks first, live bars while it runs, then the table, the report and what to try next."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from flows.planning import show_left_out
from flows.prefect_environment import Server, set_up
from flows.terminal import printable
from tasks.answering import check_servers, shown
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.cost.precision import settled
from tlm.errors import UserError
from tlm.machine.file_errors import file_error
from tlm.machine.interruption import closing, saying
from tlm.machine.runtime import Runtime, trains_here
from tlm.modeling.families.base import family_of
from tlm.planning.found import Found, unmade, verified
from tlm.planning.plan import Plan
from tlm.planning.preflight import check
from tlm.report.formatting import experiment_url
from tlm.study.config import StudyConfig
from tlm.study.dry_run import DRY_RUN, is_dry_run

if TYPE_CHECKING:
    from flows.completing import Summary
    from tasks.board import End

GO_ON = "Finished stages are kept: run the same command again to go on."


class BarBoard:
    """A bar for each running stage, and one for the study, which counts the steps of `todo` (their keys)."""

    def __init__(self, progress: Progress, console: Console, todo: Collection[str]) -> None:
        self.progress = progress
        self.console = console
        self.todo = set(todo)
        self.study = progress.add_task("study", total=len(self.todo))
        self.bars: dict[str, tuple[TaskID, float]] = {}
        self.last_end = time.monotonic()
        """When the last step ended."""

    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        bar = self.progress.add_task(f"{ref.stage}/{ref.slug}", total=None)
        self.bars[ref.key] = (bar, time.monotonic())
        return lambda done, total: self.progress.update(bar, completed=done, total=total)

    def note(self, ref: ArtifactRef, note: str) -> None:
        self.console.print(printable(f"{ref.stage}/{ref.slug}: {note}."), highlight=False, soft_wrap=True)

    def doing(self, what: str) -> None:
        self.progress.update(self.study, description=what)

    def say(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, soft_wrap=True)

    def close(self, ref: ArtifactRef, end: End) -> None:
        bar, started = self.bars.pop(ref.key)
        self.progress.remove_task(bar)
        if ref.key in self.todo:
            self.progress.advance(self.study)
        self.last_end = time.monotonic()
        seconds = self.last_end - started
        if end == "failed" or seconds >= 0.5:
            self.console.print(f"{end:6} {ref.stage}/{ref.slug} ({seconds:.1f} s)", highlight=False)


class Clock:
    """How long each part of a command took, in seconds that add up."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.laps: list[tuple[int, str]] = []
        self._left = 0.0
        """What rounding has left over, for the next part."""

    def lap(self, what: str, until: float | None = None) -> None:
        """A part is over, or was at the time `until`."""
        now = time.monotonic() if until is None else until
        exact = now - self._last + self._left
        self.laps.append((round(exact), what))
        self._left, self._last = exact - round(exact), now

    def __str__(self) -> str:
        total = sum(seconds for seconds, _ in self.laps)
        parts = ", ".join(f"{seconds} s {what}" for seconds, what in self.laps if seconds)
        return f"{total} s: {parts}" if parts else f"{total} s"


def counted(summary: Summary) -> str:
    """How many stages a run executed, and how many it found, if any."""
    found = f", {summary.cached} cached" if summary.cached else ""
    return f"{len(summary.executed)} stages executed{found}."


def run_in_terminal(study: StudyConfig, runtime: Runtime, console: Console, *, asked: str, debug: bool = False) -> None:
    """Run `study` and print its results. `asked` is the study as the command line named it, with its options.

    Raises:
        UserError: for bad input, before Prefect and MLflow are even imported and before anything is written; for what goes
            wrong with a file, and a full disk.
    """
    clock = Clock()
    check_servers(runtime)
    if not trains_here(runtime):
        runtime.prefect_home.mkdir(parents=True, exist_ok=True)  # which Prefect, once it is imported, asks for
        from tasks.engines import engine_of

        engine_of(runtime).check(study, runtime)
    server = set_up(runtime, debug=debug)
    notes: list[str] = []
    with console.status("checking the study and its sources"):
        planned = check(
            study, runtime, settle=partial(settled, runtime=runtime, say=notes.append), trains_here=trains_here(runtime)
        )
    say = partial(console.print, highlight=False, soft_wrap=True)
    for line in notes:
        say(line)
    show_left_out(planned, runtime, say)
    store = ArtifactStore(runtime.artifacts)
    try:
        with closing(server.stop), saying(f"interrupted. {GO_ON}"):
            found = _verified(planned, store, console)
            clock.lap("to check")
            summary = _run(planned, found, runtime, server, console, clock)
    except UserError:
        raise
    except Exception as error:
        if debug:
            raise
        if told := file_error(error, runtime.state):
            raise told from error
        fault = server.fault() or error
        console.print(Text.assemble(("failed:", "red"), f" {fault}"), highlight=False, soft_wrap=True)
        console.print(f"{GO_ON} --debug shows the traceback.")
        sys.exit(1)
    answers = _show(summary, planned, store, console, clock)
    runs_page = experiment_url(shown(runtime.mlflow_url), summary.mlflow_experiment_id)
    console.print(f"MLflow: {runs_page}", highlight=False, soft_wrap=True)
    console.print("Next, try:")
    for command in (
        *(("tlm report    # the verdicts of every study, in docs/results.md",) if answers else ()),
        *_next(asked, planned),
        "make ui    # runs side by side in MLflow, flows in Prefect",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _next(asked: str, planned: Plan) -> Iterator[str]:
    """Commands that look into what a study has made: of one without tasks, language models and their scores."""
    study = planned.study
    explain = f"tlm explain {asked} --against {study.name} --set"
    marked = ", dry_run" if is_dry_run(study) else ""
    if marked:
        yield f"tlm run {asked}    # the same, trained to its end"
    if study.tasks:
        yield f"{explain} finetune.epochs={study.finetune.epochs + 1}"
        columns = f"system, task, ws, round(accuracy, 3) as accuracy{marked}"
        yield f'tlm sql "select {columns} from results order by accuracy desc"'  # noqa: S608 – text to paste
        return
    yield f"{explain} pretrain.learning_rate={study.pretrain.learning_rate / 2:g}"
    columns = f"system, task, ws, round(score, 3) as score, chance, ngram{marked}"
    yield f'tlm sql "select {columns} from likelihood order by score desc"'  # noqa: S608 – text to paste
    causal = {arch.name for arch in study.architectures if family_of(arch).causal}
    writing = (step for step in planned.steps if step.stage == "pretrain" and step.labels["arch"] in causal)
    for step in islice(writing, 1):
        yield f'tlm generate {step.stage}/{step.slug} --prompt "The "'


def _verified(planned: Plan, store: ArtifactStore, console: Console) -> Found:
    """What the store holds of the study, and say how much is to run."""
    with console.status("verifying what is made"):
        found = verified(planned, store)
    counts = f": {len(planned.steps)} steps, {len(unmade(planned, found))} to run"
    console.print(Text.assemble((planned.study.name, "bold"), counts), highlight=False)
    return found


def _run(planned: Plan, found: Found, runtime: Runtime, server: Server, console: Console, clock: Clock) -> Summary:
    """Run a checked study under live bars: by Prefect, unless there is nothing for it to run and nobody to see it."""
    from tasks import board

    todo = {step.key for step in unmade(planned, found)}
    run = _by_prefect if todo or not server.is_own else _without_prefect
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bars = BarBoard(progress, console, todo)
        board.use(bars)
        summary = run(planned, found, runtime, server)
    clock.lap("for the steps", bars.last_end)
    clock.lap("for the catalogue and MLflow")
    return summary


def _by_prefect(planned: Plan, found: Found, runtime: Runtime, server: Server) -> Summary:
    """`server` starts meanwhile: it takes as long as the imports."""
    server.start()

    from flows.study import run_checked
    from tasks.engines import task_runner
    from tasks.flow_runs import run_here

    task_runner(runtime)  # refused, if it is, before any work
    server.wait()
    name = planned.study.name
    return run_here(partial(run_checked, planned, found, runtime), runtime, flow_name=name, run_name=name)


def _without_prefect(planned: Plan, found: Found, runtime: Runtime, server: Server) -> Summary:
    from flows.completing import run_study

    return run_study(planned, found, runtime, lambda *_: set())


def _show(summary: Summary, planned: Plan, store: ArtifactStore, console: Console, clock: Clock) -> bool:
    """Print what was damaged, accuracies, scores, verdicts, and where the report is; return whether there is a verdict."""
    from flows.querying import name_left_out
    from tlm.report.saved import FINDINGS_FILE, SUMMARY_FILE, load_findings, load_summary
    from tlm.report.summary import scores_to_rich, to_rich

    for name, reason in summary.damaged.items():
        damaged = Text.assemble(("damaged", "yellow"), f" {name}: {reason}; it was made again")
        console.print(damaged, highlight=False, soft_wrap=True)
    name_left_out(summary.left_out, console)
    report = store.get(summary.report)
    if is_dry_run(planned.study):
        console.print(Text(DRY_RUN, style="yellow"), soft_wrap=True)
    if planned.study.tasks:
        console.print(to_rich(load_summary(report.path(SUMMARY_FILE))))
    if scored := [store.get(step.ref).record for step in planned.steps if step.stage == "likelihood"]:
        console.print(scores_to_rich(scored))
    verdicts = load_findings(report.path(FINDINGS_FILE)).verdicts
    for verdict in verdicts:
        console.print(Text.assemble((verdict.outcome, "bold"), f": {verdict.claim}: {verdict.figure}"), highlight=False)
    console.print(f"{counted(summary)} {clock}.", highlight=False, soft_wrap=True)
    console.print(f"MLflow run {summary.mlflow_run_id}.", highlight=False)
    console.print(f"Report: {report.path('report.html')}", highlight=False, soft_wrap=True)
    return bool(verdicts)
