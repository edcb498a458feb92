"""What came of a search, as data to keep beside a study: every trial, and what the choice was made by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tlm.artifacts.provenance import code_version
from tlm.errors import UserError
from tlm.study.base import Frozen
from tlm.study.config import StudyConfig
from tlm.tuning.config import TuningConfig
from tlm.tuning.search import NOTES, Search
from tlm.tuning.space import as_overrides

if TYPE_CHECKING:
    import pandas as pd

RESULT, TRIALS = "result.json", "trials.parquet"
"""Beside a search's database."""

State = Literal["complete", "pruned", "failed", "running"]


class TrialResult(Frozen):
    """One trial. Accuracies are shares of the dev items, 0 to 1."""

    number: int
    state: State
    values: dict[str, Any]
    """Field → value."""
    value: float | None
    """The objective; of a trial that was pruned, over the seeds it had."""
    standard_error: float | None
    """Of the value, by seeds."""
    cells: dict[str, float]
    """Mean dev accuracy by arm, architecture, Ws and task."""
    seconds: float
    """That its trainings took, whoever made them."""
    finetuned: tuple[str, ...]
    """The keys of its fine-tunings."""
    reason: str = ""
    """Why it failed."""

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        return as_overrides(self.values)


class TuningResult(Frozen):
    """A search so far."""

    key: str
    tuning: TuningConfig
    base: dict[str, Any]
    """The study that trials change, every field."""
    start: bool
    """Whether the first trial is that study as it is."""
    trials: tuple[TrialResult, ...]
    importances: dict[str, float]
    """Field → share of the variance of the objective over complete trials (functional ANOVA)."""
    code: dict[str, Any]
    """The version of the code, and Optuna's."""

    @property
    def best(self) -> TrialResult | None:
        """Of the complete trials the first of those with the highest value."""
        return next(iter(self.ranked), None)

    @property
    def ranked(self) -> list[TrialResult]:
        """The complete trials, best first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))

    def frame(self) -> pd.DataFrame:
        """A row for each trial; a column for each field (`set.…`) and each cell (`dev.…`)."""
        import pandas as pd

        rows = [
            {
                "number": trial.number,
                "state": trial.state,
                "value": trial.value,
                "standard_error": trial.standard_error,
                "seconds": trial.seconds,
                "reason": trial.reason,
                **{f"set.{override.partition('=')[0]}": override.partition("=")[2] for override in trial.overrides},
                **{f"dev.{cell}": accuracy for cell, accuracy in trial.cells.items()},
            }
            for trial in self.trials
        ]
        return pd.DataFrame(rows)

    def write(self, path: Path) -> None:
        """Write it: all of it to a .json file, the trials to a .parquet file.

        Raises:
            UserError: for another ending, or if it cannot be written.
        """
        check_out(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".parquet":
                self.frame().to_parquet(path, index=False)
            else:
                path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.", "Choose another --out.") from error


def check_out(path: Path) -> None:
    """Raise UserError unless a result can be written to a file of this name."""
    if path.suffix not in (".json", ".parquet"):
        raise UserError(f"--out {path}: not a .json or .parquet file.", "A .json file holds all of it.")


def result(search: Search, key: str, base: StudyConfig, start: Mapping[str, Any] | None) -> TuningResult:
    """What came of a search so far."""
    import optuna

    return TuningResult(
        key=key,
        tuning=search.config,
        base=base.model_dump(mode="json"),
        start=start is not None,
        trials=tuple(_trial(trial) for trial in search.trials()),
        importances=search.importances(),
        code={**code_version(), "optuna": optuna.__version__},
    )


def _trial(trial: Any) -> TrialResult:
    from optuna.trial import TrialState

    notes = trial.user_attrs.get(NOTES, {})
    last = trial.intermediate_values.get(max(trial.intermediate_values, default=-1))
    return TrialResult(
        number=trial.number,
        state="running" if trial.state == TrialState.RUNNING else notes["state"],
        values=notes.get("values", {}),
        value=last,
        standard_error=notes.get("standard_error"),
        cells=notes.get("cells", {}),
        seconds=notes.get("seconds", 0.0),
        finetuned=tuple(notes.get("finetuned", ())),
        reason=notes.get("reason", ""),
    )
