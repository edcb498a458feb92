"""What analyses and reports look up: which test items each system got right, by seed, and what was recorded with it.

Shapes: P pre-training seeds, F fine-tuning seeds of each, S seeds, N test items of a task (always in the order of item_id),
U units of a benchmark's score: paradigms, or items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlm.report.formatting import Link, links
from tlm.report.marts import SCORES_BY_UNIT, Gaps, Rows, rows
from tlm.statistics import Estimate, mean_accuracy
from tlm.statistics.runs import Run, stack_runs
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.marts import Connection

Correct = NDArray[np.bool_]
Scores = NDArray[np.float64]
NULLS = ("untrained", "fewest_tokens", "fewest_bytes", "ngram")
"""What a score by likelihood stands beside."""


@dataclass(frozen=True)
class OptionScores:
    """How often a language model finds the right option the likeliest: of each unit of the score, by pre-training seed."""

    seeds: tuple[int, ...]
    model_SU: Scores
    nulls: dict[str, Scores]
    """By `NULLS`, each (S, U)."""
    chance: float
    links: tuple[Link, ...]
    layers: float | None = None
    """Share of the layers that tokens used, the mean over seeds; None: all, always."""
    flops_share: float | None = None
    """Of operations likewise, over those of the whole model."""
    bits_S: Scores | None = None
    """Of each model's loss on held-out text, bits for each byte; None unless it predicts everything."""


class Evidence:
    """The records of one study. Lookups return None where nothing was measured: a study may be cut by its user."""

    def __init__(self, connection: Connection, study: StudyConfig) -> None:
        """Look `study` up in the marts over its records alone (`tlm.artifacts.marts.build_memory`)."""
        self.study = study
        self.connection = connection
        self.results: Rows = rows(connection, "select * from results")
        self._correct = _correct_by_key(connection)
        self._instances = rows(connection, "select * from committee_instances order by size, instance")
        self._duplicates = rows(connection, "select * from near_duplicates where part = 'test' order by item_id")

    # --- who was right ---

    def correct(
        self, task: str, system: str, ws: int, treatment: str | None = None, *, kind: str = "finetune"
    ) -> Correct | None:
        """An architecture's correctness: (P, F, N) if each pre-training was fine-tuned several times, else (S, N).

        ws = 0 is from scratch: (F, N). `kind` is the stage that predicts; soups are (P, N).
        """
        runs = self.runs(kind=kind, task=task, system=system, ws=ws, treatment=treatment)
        if not runs:
            return None
        return stack_runs(Run(r["pretrain_seed"], r["finetune_seed"], self._correct[r["key"], None]) for r in runs)

    def accuracy(self, task: str, system: str, ws: int, treatment: str | None = None) -> Estimate | None:
        """Mean accuracy over seeds and items."""
        correct = self.correct(task, system, ws, treatment)
        return None if correct is None else mean_accuracy(correct)

    def baseline(self, task: str, name: str = "tfidf") -> Correct | None:
        """A baseline's correctness, (N,): it has no seed."""
        found = self.runs(kind="baseline", task=task, system=name)
        return self._correct[found[0]["key"], None] if found else None

    def committee(self, task: str, name: str, ws: int, size: int) -> Correct | None:
        """Soft committees of `size` members that share no member: (committees, N).

        Committees of one pre-training seed count as one repetition. Where no committee has members from two of them, the
        shape is therefore (pre-training seeds, committees of each, N).
        """
        found_CN = self._committees(task, name, ws, size)
        if found_CN is None:
            return None
        members = next(len(committee.members) for committee in self.study.committees if committee.name == name)
        of_one_seed = members * (len(self.study.finetune_seeds) if self.study.seeds == "crossed" else 1)
        if not ws or of_one_seed % size or len(found_CN) % (of_one_seed // size):
            return found_CN
        return found_CN.reshape(-1, of_one_seed // size, found_CN.shape[-1])

    def _committees(self, task: str, name: str, ws: int, size: int) -> Correct | None:
        found = [
            row["correct"]
            for row in self._instances
            if (row["task"], row["committee"], row["ws"], row["size"]) == (task, name, ws, size)
        ]
        return np.array(found, dtype=bool) if found else None

    def committee_sizes(self, task: str, name: str, ws: int) -> list[int]:
        """The sizes that the committee's members make up."""
        wanted = (task, name, ws)
        return sorted({r["size"] for r in self._instances if (r["task"], r["committee"], r["ws"]) == wanted})

    def clean(self, task: str, ws: int, treatment: str | None = None) -> Correct | None:
        """Which test items share no run of 13 tokens with that pre-training set, (N,); None if it was not checked."""
        found = [
            row["hits"] == 0
            for row in self._duplicates
            if (row["task"], row["ws"], row["treatment"]) == (task, ws, treatment)
        ]
        return np.array(found, dtype=bool) if found else None

    def options(self, task: str, normalization: str, system: str, ws: int) -> OptionScores | None:
        """A language model's scores on a benchmark, by likelihood. Units are the same for all models of a study: those that
        fit its `max_length`."""
        wanted = (task, normalization, system, ws, None)
        columns = ("task", "normalization", "system", "ws", "treatment")
        found = [row for row in self._options if tuple(row[name] for name in columns) == wanted]
        if not found:
            return None
        scores = {name: np.array([row[name] for row in found], dtype=np.float64) for name in ("model", *NULLS)}
        runs = [{"experiment_id": row["mlflow_experiment_id"], "run_id": row["mlflow_run_id"]} for row in found]
        seeds = tuple(row["pretrain_seed"] for row in found)
        more = {name: _column(found, name) for name in ("layers", "flops_share")}
        means = {name: None if values is None else float(values.mean()) for name, values in more.items()}
        bits_S, chance = _column(found, "heldout_bits_per_byte"), float(found[0]["chance"])
        return OptionScores(seeds, scores.pop("model"), scores, chance, links(runs), **means, bits_S=bits_S)

    @cached_property
    def _options(self) -> Rows:
        return rows(
            self.connection,
            f"{SCORES_BY_UNIT} order by pretrain_seed, key",
        )

    # --- what is recorded with it ---

    @cached_property
    def gaps(self) -> Gaps:
        """The mart `gaps` of this study."""
        return Gaps(self.connection)

    @property
    def treated(self) -> tuple[str, ...]:
        """The architectures that the study pre-trains on treated sets."""
        return self.study.treatment_architectures or tuple(arch.name for arch in self.study.architectures)

    def runs(self, **wanted: Any) -> Rows:
        """The rows of the mart `results` with these values."""
        return [row for row in self.results if all(row[name] == value for name, value in wanted.items())]

    def recorded(self, column: str, task: str, system: str, ws: int, treatment: str | None = None) -> float | None:
        """The mean over seeds of a column of `results`: an overlap measure, heldout_loss, injected_tokens, …"""
        runs = self.runs(kind="finetune", task=task, system=system, ws=ws, treatment=treatment)
        values = [run[column] for run in runs if run[column] is not None]
        return float(np.mean(values)) if values else None

    def links(
        self, task: str, system: str, ws: Iterable[int], treatment: str | None = None, *, kind: str | None = None
    ) -> tuple[Link, ...]:
        """The MLflow runs of an architecture or committee at each of these Ws.

        Args:
            kind: finetune or committee, where an architecture and a committee have the same name.
        """
        only = {} if kind is None else {"kind": kind}
        found = [r for each in ws for r in self.runs(task=task, system=system, ws=each, treatment=treatment, **only)]
        chosen = [r for r in found if r["rule"] in (None, "soft")]
        return links([{"experiment_id": r["mlflow_experiment_id"], "run_id": r["mlflow_run_id"]} for r in chosen])


def _column(found: Rows, name: str) -> Scores | None:
    """Of each row, (S,); None if one has none."""
    values = [row[name] for row in found]
    return None if None in values else np.array(values, dtype=np.float64)


def _correct_by_key(connection: Connection) -> dict[tuple[str, str | None], Correct]:
    found = connection.sql(
        """select key, rule, list(correct order by item_id) as correct
        from predictions where part = 'test' group by key, rule"""
    ).to_arrow_table()
    return {(row["key"], row["rule"]): np.array(row["correct"], dtype=bool) for row in found.to_pylist()}
