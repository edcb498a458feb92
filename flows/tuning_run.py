"""A search in a terminal: what it will do, live bars, a line for each trial that ends, and at the end what to take over."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from flows.prefect_environment import set_up
from flows.terminal import printable
from flows.tuning import Tuning, check_tuning
from tasks.answering import check_servers
from tlm.artifacts.step import ArtifactRef
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.interruption import closing, saying
from tlm.study.dry_run import DRY_RUN, is_dry_run
from tlm.tuning.objective import Score
from tlm.tuning.result import RESULT, TRIALS, TrialResult, TuningResult, check_out, result
from tlm.tuning.search import Search, Trial
from tlm.tuning.tune import tune

GO_ON = "What is done is kept: run the same command again to go on."
SHOWN = 10
"""Of the best trials, how many the table at the end has."""


class TuningBoard:
    """A bar for each running stage and one for the trials, which end with a line each; a board and a watcher at once."""

    def __init__(self, progress: Progress, console: Console, trials: int) -> None:
        self.progress = progress
        self.console = console
        self.all = progress.add_task("trials", total=trials)
        self.bars: dict[str, TaskID] = {}
        self.best: tuple[float, int] | None = None

    def open(self, ref: ArtifactRef) -> Callable[[int, int], None]:
        bar = self.bars[ref.key] = self.progress.add_task(f"{ref.stage}/{ref.slug}", total=None)
        return lambda done, total: self.progress.update(bar, completed=done, total=total)

    def note(self, ref: ArtifactRef, note: str) -> None:
        self.say(printable(f"{ref.stage}/{ref.slug}: {note}."))

    def close(self, ref: ArtifactRef, end: object) -> None:
        self.progress.remove_task(self.bars.pop(ref.key))

    def doing(self, what: str) -> None:
        self.progress.update(self.all, description=what)

    def say(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, soft_wrap=True)

    def found(self, trial: TrialResult) -> None:
        """A trial that had ended before."""
        self.progress.advance(self.all)
        self._compare(trial.number, trial.value if trial.state == "complete" else None)

    def begins(self, trial: Trial) -> None:
        return None

    def reports(self, trial: Trial, rung: int, rungs: int, score: Score) -> None:
        return None

    def ends(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None:
        self.progress.advance(self.all)
        self._compare(trial.number, score.value if score and state == "complete" else None)
        value = "" if score is None else f" {percent(score.value, score.standard_error)}"
        best = f" (best {percent(self.best[0])}, trial {self.best[1]})" if self.best else ""
        reason = f": {notes['reason']}" if notes["reason"] else ""
        drawn = " ".join(f"{field}={value}" for field, value in trial.values.items())
        self.say(f"trial {trial.number} {state}{value}{best}, {notes['seconds']:.0f} s: {drawn}{reason}")

    def _compare(self, number: int, value: float | None) -> None:
        if value is not None and (self.best is None or (value, -number) > (self.best[0], -self.best[1])):
            self.best = value, number


def tune_in_terminal(
    tuning: Tuning, console: Console, *, seconds: float = math.inf, out: Path | None = None, debug: bool = False
) -> None:
    """Run a search and print what came of it; `out` gets a copy of the result.

    Raises:
        UserError: for bad input, before any work.
    """
    config = tuning.config
    if out is not None:
        check_out(out)
    with console.status("checking the study, its sources and the space"):
        check_tuning(tuning)
        start = tuning.start
    with tuning.search() as (search, key):
        before = result(search, key, tuning.base, start)
        done = sum(trial.state != "running" for trial in before.trials)
        console.print(
            Text.assemble(
                (config.name, "bold"), f": {config.trials} trials over {len(config.over)} fields, {done} done"
            ),
            highlight=False,
        )
        if start is None:
            console.print("The study as it is lies outside this space: it is none of the trials.")
        complete = _run(tuning, search, key, before, console, seconds, debug)
        found = result(search, key, tuning.base, start)
        for name in (RESULT, TRIALS):
            found.write(search.folder / name)
        if out is not None:
            found.write(out)
    show(found, console)
    console.print(f"Result: {out or search.folder / RESULT}", highlight=False, soft_wrap=True)
    if not complete:
        console.print("The budget is spent: run the same command again to go on.")


def _run(
    tuning: Tuning, search: Search, key: str, before: TuningResult, console: Console, seconds: float, debug: bool
) -> bool:
    runtime, trials = tuning.runtime, tuning.config.trials
    if all(trial.state != "running" for trial in before.trials) and len(before.trials) >= trials:
        return True
    check_servers(runtime)
    server = set_up(runtime, debug=debug)
    with closing(server.stop), saying(f"interrupted. {GO_ON}"):
        server.start()  # it takes as long as the imports

        from tasks import board
        from tasks.engines import task_runner
        from tasks.flow_runs import run_here
        from tasks.tuning import StepMaker
        from tasks.tuning_runs import tuning_runs

        task_runner(runtime)  # refused, if it is, before any work
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        deadline = time.monotonic() + seconds

        def work() -> bool:
            with tuning_runs(runtime, search, key, lambda: result(search, key, tuning.base, tuning.start)) as runs:
                return tune(
                    search,
                    ArtifactStore(runtime.artifacts),
                    tuning.study_of,
                    tuning.measure,
                    StepMaker(runtime, runs.trackings),
                    Watchers(runs, shown),
                    trials=trials,
                    seconds=deadline - time.monotonic(),
                    data=tuning.data,
                )

        with Progress(*columns, console=console, transient=True) as progress:
            shown = TuningBoard(progress, console, trials)
            for trial in before.trials:
                if trial.state != "running":
                    shown.found(trial)
            board.use(shown)
            try:
                server.wait()
                return run_here(work, runtime, flow_name="tune", run_name=tuning.config.name)
            except UserError:
                raise
            except Exception as error:
                if debug:
                    raise
                console.print(Text.assemble(("failed:", "red"), f" {error}"), highlight=False, soft_wrap=True)
                console.print(f"{GO_ON} --debug shows the traceback.")
                sys.exit(1)


class Watchers:
    """Several watchers as one."""

    def __init__(self, *watchers: Any) -> None:
        self.watchers = watchers

    def begins(self, trial: Trial) -> None:
        for each in self.watchers:
            each.begins(trial)

    def reports(self, trial: Trial, rung: int, rungs: int, score: Score) -> None:
        for each in self.watchers:
            each.reports(trial, rung, rungs, score)

    def ends(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None:
        for each in self.watchers:
            each.ends(trial, state, score, notes)


def show(found: TuningResult, console: Console) -> None:
    """Print the best trials, the importances, and the overrides of the best to paste."""
    states = {
        state: sum(t.state == state for t in found.trials) for state in ("complete", "pruned", "failed", "running")
    }
    fields = list(found.tuning.over)
    table = Table("trial", "dev accuracy", "seconds", *fields)
    first = found.trials[0] if found.start and found.trials and found.trials[0].state == "complete" else None
    shown = found.ranked[:SHOWN]
    for trial in [*shown, *([first] if first and first not in shown else [])]:
        name = f"{trial.number} (as it is)" if trial is first else str(trial.number)
        values = [override.partition("=")[2] for override in trial.overrides]
        table.add_row(name, percent(trial.value or 0, trial.standard_error), f"{trial.seconds:.0f}", *values)
    if is_dry_run(found.base):
        console.print(Text(DRY_RUN, style="yellow"), soft_wrap=True)
    console.print(table)
    counted = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    console.print(f"{len(found.trials)} trials: {counted}.", highlight=False)
    if found.importances:
        shares = ", ".join(f"{field} {share:.0%}" for field, share in found.importances.items())
        console.print(f"What made the difference: {shares}.", highlight=False, soft_wrap=True)
    if found.best is not None:
        console.print("The best trial, to paste:")
        pasted = " ".join(f"--set {shlex.quote(each)}" for each in found.best.overrides)
        console.print(f"  {pasted}", highlight=False, soft_wrap=True)


def percent(value: float, standard_error: float | None = None) -> str:
    """`83.1 ± 0.4`, in percent with its standard error."""
    return f"{100 * value:.1f}" + (f" ± {100 * standard_error:.1f}" if standard_error is not None else "")
