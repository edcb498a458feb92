"""What tables, plots and the summary look up in the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.catalogue import Connection

Rows = list[dict[str, Any]]
BASELINE_NAMES = {"tfidf": "TF-IDF", "majority": "majority class"}
"""As a reader knows them; a baseline that is not here goes by its own name."""


def rows(connection: Connection, sql: str) -> Rows:
    return list(connection.sql(sql).to_arrow_table().to_pylist())


class Gaps:
    """The mart `gaps`, to look results up in."""

    def __init__(self, connection: Connection) -> None:
        self.rows = rows(connection, "select * from gaps")

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """The first row with these values; a column that is not named may hold anything."""
        return next((row for row in self.rows if all(row[name] == value for name, value in wanted.items())), None)


def corpora(study: StudyConfig, task: str) -> list[tuple[int, str | None]]:
    """(Ws, treatment) of every pre-training set that models of this task start from, each with its treatments."""
    found: list[tuple[int, str | None]] = []
    for ws in sorted({*study.corpus.sizes, *(treatment.ws for treatment in study.treatments)}):
        found += [(ws, None)] if ws in study.corpus.sizes else []
        labels = [i.label for i in study.treatments if i.ws == ws and i.task in (task, None)]
        found += [(ws, label) for label in dict.fromkeys(labels)]
    return found


def systems(study: StudyConfig) -> list[tuple[str, dict[str, Any]]]:
    """(heading, what to look for in `gaps`) of everything that was measured, in the study's order."""
    found: list[tuple[str, dict[str, Any]]] = [
        (arch.name, {"kind": "finetune", "system": arch.name}) for arch in study.architectures
    ]
    for committee in study.committees:
        for rule in ("soft", "logit", "vote"):
            found.append((f"{committee.name} ({rule})", {"kind": "committee", "system": committee.name, "rule": rule}))
    found += [(BASELINE_NAMES.get(name, name), {"kind": "baseline", "system": name}) for name in study.baselines]
    return found


def deepest(study: StudyConfig) -> str:
    """The architecture that committees are set beside: the one with the most layers, the first of equals."""
    return max(study.architectures, key=lambda arch: arch.num_hidden_layers).name
