"""Which artifacts were made by one run of a study, so far as their records tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.tracking.recorded import finished, recorded_parent
from tlm.artifacts.dry_runs import is_of_dry_run
from tlm.artifacts.lineage import ancestors
from tlm.artifacts.record import Record, in_time
from tlm.artifacts.step import ArtifactRef

EARLIER = "earlier"
"""The run of artifacts whose records name none, and which no report was made from."""


@dataclass
class Group:
    """The artifacts of one run, each after its inputs."""

    identity: str
    """The id of the run, as their records have it; of older records, the key of their report."""
    study: str
    command: str
    """What made them: run, import or export."""
    records: list[Record] = field(default_factory=list)
    report: Record | None = None
    """The report that the run made, or found."""

    @property
    def keys(self) -> set[str]:
        return {record.key for record in self.records}

    @property
    def is_dry_run(self) -> bool:
        """Whether it was a dry run; an import, and what is not known to be of one run, is none."""
        made = [*self.records, *([self.report] if self.report else [])]
        return self.command == "run" and self.identity != EARLIER and any(map(is_of_dry_run, made))

    @property
    def hits(self) -> tuple[ArtifactRef, ...]:
        """What the run found already made, under the names that its study has for it."""
        own = self.keys
        steps = (*self.report.inputs.values(), self.report.ref) if self.report else ()
        return tuple(ref for ref in steps if ref.key not in own)


def group(records: Sequence[Record]) -> list[Group]:
    """The runs that made these artifacts. The records are given, and each group keeps them, in topological order."""
    graph = {record.key: record.input_keys.values() for record in records}
    reports = in_time(record for record in records if record.stage == "report")
    reach = {report.key: ancestors(graph, {report.key}) for report in reports}
    older = [report for report in reports if not recorded_parent(report)]
    groups: dict[str, Group] = {}
    for record in records:
        each = _group_of(record, older, reach)
        own = groups.setdefault(each.identity, each)
        own.records.append(record)
        if record.stage == "report":
            own.report = record
    for each in groups.values():
        each.report = each.report or _found(each, reports, reach)
    return list(groups.values())


def _group_of(record: Record, older: Iterable[Record], reach: Mapping[str, set[str]]) -> Group:
    """The group of a record, empty: that of the parent run it names, or else of the first older report made from it."""
    known = record.mlflow or {}
    if parent := recorded_parent(record):
        return Group(parent, known.get("study", EARLIER), known.get("command", "run"))
    for report in older:
        if record.key in reach[report.key]:
            return Group(report.key, str(report.labels.get("study")), "run")
    return Group(EARLIER, EARLIER, "run")


def _found(made: Group, reports: Sequence[Record], reach: Mapping[str, set[str]]) -> Record | None:
    """The report that a run found already made, as it does if it only mends what was damaged."""
    if made.command != "run":
        return None
    before = min(finished(record) for record in made.records)
    found = [r for r in reports if r.labels.get("study") == made.study and finished(r) < before]
    return next((report for report in reversed(found) if made.keys <= reach[report.key]), None)
