"""The trials of a search, kept by Optuna in a database of its own, so that any end can be followed by another beginning.

One process at a time runs a search: what Optuna calls running when a process begins was left by one that died, and goes on
where it was. Every trial has its own seed, so that a search that was interrupted draws what it would have drawn.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlm.artifacts.fingerprint import SHORT, canonical_json
from tlm.errors import UserError
from tlm.study.base import slugify
from tlm.tuning.config import TuningConfig
from tlm.tuning.objective import Score

if TYPE_CHECKING:
    import optuna

DATABASE = "trials.db"
STUDY = "tuning"
"""What the one study in a database is called."""
NOTES = "notes"
"""The attribute of Optuna's trials with all that is kept of one that has ended."""
LEARN_FROM = 4
"""Finished trials that a trial is compared with, at least, before it may be pruned."""
SECONDS = 60
"""To wait for the database, which others may read."""


@dataclass
class Trial:
    """A trial that is under way: its number, and the values it has drawn."""

    number: int
    values: Mapping[str, Any]
    handle: optuna.Trial
    reported: dict[int, float]
    """Rung → value, of those that were reported before this process began."""


class Search:
    """The trials of one search, in a folder of its own."""

    def __init__(self, config: TuningConfig, folder: Path) -> None:
        import optuna

        self.config = config
        self.folder = folder
        storage = optuna.storages.RDBStorage(_url(folder / DATABASE), engine_kwargs=_ENGINE)
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if config.prune:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=LEARN_FROM)
        sampler = optuna.samplers.RandomSampler()  # never used: values are given to every trial
        self.optuna = optuna.load_study(study_name=STUDY, storage=storage, pruner=pruner, sampler=sampler)

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All that were begun, by number."""
        from optuna.trial import TrialState

        return [t for t in self.optuna.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def batch(self, trials: int) -> list[Trial]:
        """The trials to run next, side by side: those left by a process that died, and others to fill their batch.

        Args:
            trials: how many there may be in all.
        """
        from optuna.trial import TrialState

        begun = self.trials()
        left = [trial for trial in begun if trial.state == TrialState.RUNNING]
        first = left[0].number if left else len(begun)
        end = min((first // self.config.at_once + 1) * self.config.at_once, trials)
        return [*(self._go_on(trial) for trial in left), *(self._ask(number) for number in range(len(begun), end))]

    def report(self, trial: Trial, rung: int, value: float) -> bool:
        """Note a trial's value after a rung; return whether it should end there."""
        if rung not in trial.reported:
            trial.handle.report(value, rung)
        if rung + 1 in trial.reported:  # it went on once, and would again
            return False
        return bool(trial.handle.should_prune())

    def end(self, trial: Trial, state: str, score: Score | None, notes: Mapping[str, Any]) -> None:
        """End a trial: "complete", "pruned", or "failed", from which the sampler learns that it is a bad place.

        Args:
            score: of a complete trial.
            notes: what else is kept of it (plain data).
        """
        from optuna.trial import TrialState

        trial.handle.set_user_attr(NOTES, {**notes, "state": state})
        if state == "complete":
            assert score is not None
            self.optuna.tell(trial.number, score.value)
        else:
            self.optuna.tell(trial.number, state=TrialState.PRUNED)

    def importances(self) -> dict[str, float]:
        """Field → its share of the variance of the values of complete trials; empty for too few, or if all are alike."""
        import optuna
        from optuna.trial import TrialState

        if len({t.value for t in self.trials() if t.state == TrialState.COMPLETE}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(self.optuna, evaluator=evaluator))

    # --- inside ---

    def _ask(self, number: int) -> Trial:
        """A new trial. Its values are put down in one transaction: of half of them the other half could not be told."""
        from optuna.trial import TrialState

        if not self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.optuna.enqueue_trial(self._drawn(number))
        return self._begin(self.optuna.ask(), {})

    def _drawn(self, number: int) -> dict[str, Any]:
        """What the sampler chooses after all trials so far, in a copy of them."""
        import optuna

        copy = optuna.create_study(direction="maximize", sampler=self._sampler(number))
        copy.add_trials(self.optuna.get_trials(deepcopy=False))
        trial = copy.ask()
        return {field: space.raw(space.draw(trial, field)) for field, space in self.config.space.items()}

    def _go_on(self, left: optuna.trial.FrozenTrial) -> Trial:
        import optuna

        return self._begin(optuna.Trial(self.optuna, left._trial_id), dict(left.intermediate_values))

    def _begin(self, handle: optuna.Trial, reported: dict[int, float]) -> Trial:
        values = {field: dimension.draw(handle, field) for field, dimension in self.config.space.items()}
        return Trial(handle.number, values, handle, reported)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = int.from_bytes(hashlib.sha256(f"{self.config.seed}/{number}".encode()).digest()[:4], "big")
        if self.config.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.config.random_trials, multivariate=True, constant_liar=True
        )


def search_key(config: TuningConfig, measured: list[str]) -> str:
    """SHA-256 of a search: what decides its trials, and the keys of the fine-tunings of the study as it is."""
    return hashlib.sha256(canonical_json({"search": config.search_identity, "measured": measured}).encode()).hexdigest()


@contextmanager
def opened(config: TuningConfig, key: str, home: Path, start: Mapping[str, Any] | None) -> Iterator[Search]:
    """The search of this key under the folder `home`, made if there is none, for this process alone.

    Args:
        start: the values of the first trial, if they are given.

    Raises:
        UserError: if another process is at it.
    """
    from filelock import FileLock, Timeout

    quiet()
    home.mkdir(parents=True, exist_ok=True)
    named = home / f"{slugify(config.name)}-{key[:SHORT]}"
    lock = FileLock(home / f".{key[:SHORT]}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{config.name} is being tuned by another process.", "Wait for it, or end it: this one goes on from there."
        ) from None
    try:
        folder = next(home.glob(f"[!.]*-{key[:SHORT]}"), named)  # it may have had another name
        if not folder.exists():
            _make(config, folder, start)
        yield _search(config, folder)
    finally:
        lock.release()


def _search(config: TuningConfig, folder: Path) -> Search:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if not (folder / DATABASE).is_file():  # Optuna would make an empty one
            raise KeyError("it is not there")
        return Search(config, folder)
    except (SQLAlchemyError, KeyError, RuntimeError) as error:  # damaged, without the study, another Optuna's
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise UserError(
            f"The trials in {folder / DATABASE} cannot be read ({reason}).",
            f"Move {folder} away: the search begins again, and what its trials have made is cached.",
        ) from error


def quiet() -> None:
    """Optuna says nothing that is not ours to say."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


_ENGINE = {"connect_args": {"timeout": SECONDS}}


def _url(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"


def _make(config: TuningConfig, folder: Path, start: Mapping[str, Any] | None) -> None:
    """Make a search's folder aside and move it into place whole: Optuna cannot use a database that is half made."""
    import optuna

    prefix = f".making-{folder.name}-"
    for abandoned in folder.parent.glob(f"{prefix}*"):  # by one who was killed: nobody else is at this search
        shutil.rmtree(abandoned, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        storage = optuna.storages.RDBStorage(_url(draft / DATABASE), engine_kwargs=_ENGINE)
        study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
        if start is not None:
            study.enqueue_trial({field: config.space[field].raw(value) for field, value in start.items()})
        storage.engine.dispose()
        os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
