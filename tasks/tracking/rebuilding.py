"""`tlm track`: MLflow put in order from the records, be it empty, unfinished, or whole already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from pydantic import ValidationError

from tasks.answering import shown
from tasks.tracking import database, processes, runs
from tasks.tracking.connecting import FAULTS, experiment_id, prepare
from tasks.tracking.described import named
from tasks.tracking.ending import Ending, end_study
from tasks.tracking.grouping import Group, group
from tasks.tracking.recorded import finished, recorded_parent, started
from tasks.tracking.registry import register_models
from tasks.tracking.settling import Settled, settle, settle_step
from tasks.tracking.view import FROM_RECORD, PARENT, View, renamed
from tasks.tuning_runs import rebuild_searches
from tlm.artifacts.lineage import in_order
from tlm.artifacts.record import Record
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.machine.runtime import Runtime
from tlm.study.config import StudyConfig

NO_REPORT = "Made from records, none of which is a report's: it ended before its report."
Progress = Callable[[int, int], None]


@dataclass
class Tracked:
    """How many artifacts MLflow showed already, and how many now, and what else was put in order."""

    experiment_id: str
    present: int = 0
    made: int = 0
    searches: int = 0
    """Searches whose runs were made again."""
    settled: Settled = field(default_factory=Settled)
    """Runs that were there and unfinished."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Artifact → why nothing was logged of it."""


def track(runtime: Runtime, progress: Progress = lambda done, total: None) -> Tracked:
    """Have MLflow show every artifact of the store: complete what is unfinished, make again what is not there.

    What is there is left as it is: to call it again, after an interruption too, does what is left to do.

    Args:
        progress: called with what is done, and all there is to do.

    Raises:
        UserError: if MLflow does not answer; what was logged stays.
    """
    uri = prepare(runtime, patient=True)
    folder = processes.folder_of(runtime)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".track.lock"):  # of two at once the second finds everything there
            client = MlflowClient(tracking_uri=uri)
            view = View(client, uri, ArtifactStore(runtime.artifacts), folder)
            settled = settle(view)
            tracked = Tracked(experiment_id(client), settled=settled, searches=rebuild_searches(view, runtime))
            view = replace(view)  # the experiment of searches may be new
            return _Rebuilding(view, tracked, progress).run(runtime.artifacts)
    except FAULTS as error:
        raise UserError(
            f"MLflow at {shown(uri)} did not take everything: {database.first_line(error)}.",
            "What it took stays: run `tlm track` again.",
        ) from error


class _Rebuilding:
    """One pass over all records."""

    def __init__(self, view: View, tracked: Tracked, progress: Progress) -> None:
        self.view, self.client, self.tracked = view, view.client, tracked
        self.records = {record.key: record for record in self._whole()}
        order = in_order({key: record.input_keys.values() for key, record in self.records.items()})
        self.groups = group([self.records[key] for key in order])
        self.group_of = {key: each for each in self.groups for key in each.keys}
        self.order = order
        self.parents: dict[str, Run] = {}
        """The runs of groups that have one, by the group's identity."""
        self.made: set[str] = set()
        """Those of them that this pass made."""
        self._progress, self._done = progress, 0
        self._all = len(order)

    def run(self, artifacts: str) -> Tracked:
        for key in self.order:  # inputs first: their runs are named by those of what is made from them
            self._artifact(self.records[key], self.group_of[key])
        for each in self.groups:
            self._study(each)
            if each.report and each.identity in self.parents:
                register_models(self.view, self.parents[each.identity].info.run_id, each.report, artifacts)
        self._sweep()
        return self.tracked

    def _whole(self) -> list[Record]:
        found = []
        for name, inspected in self.view.store.inspect_all():
            if inspected.status == "complete" and inspected.record:
                found.append(inspected.record)
            else:
                self.tracked.left_out[name] = inspected.reason
        return found

    def _artifact(self, record: Record, own: Group) -> None:
        run = self.view.maker(record)
        if run is None:
            run = self.view.add(record, self._parent(own))
            self.tracked.made += self._complete(run, record)
        elif self.view.is_left(run, others=True):
            self.tracked.settled.completed += self._complete(run, record)
        else:
            self.tracked.present += 1
        self.view.found[record.key] = run.info.run_id
        # Older records do not say whether one run made them all: the report's is the study's.
        first = own.identity not in self.parents or record is own.report
        if first and (parent := self.view.run(run.data.tags.get(PARENT, ""))):
            self.parents[own.identity] = parent
        self._tick()

    def _complete(self, run: Run, record: Record) -> bool:
        """Complete a run; return whether it could be done. One bad artifact is named, and the others go on."""
        try:
            self.view.complete(run, record)
        except FAULTS:
            raise
        except Exception as error:
            reason = database.first_line(error)
            self.tracked.left_out[str(record.ref)] = reason
            self.client.set_tag(run.info.run_id, "tlm.error", reason)
            self.client.set_terminated(run.info.run_id, "FAILED")
            return False
        return True

    def _parent(self, own: Group) -> Run:
        """A group's run, which is made if MLflow does not know it."""
        if own.identity not in self.parents:
            recorded = recorded_parent(own.records[0])
            known = self.view.run(recorded) or self.view.marked(own.identity)
            self.parents[own.identity] = known or self._make_parent(own, recorded)
        return self.parents[own.identity]

    def _make_parent(self, own: Group, recorded: str) -> Run:
        first = own.report or own.records[0]
        tags = {
            "study": own.study,
            FROM_RECORD: own.identity,
            **runs.dry_run_tag(own.is_dry_run),
            **runs.commit_tags(first.provenance),
        }
        name = named(own.study, is_dry_run=own.is_dry_run)
        start = min(started(record) for record in own.records)
        run = self.client.create_run(self.tracked.experiment_id, start_time=start, tags=tags, run_name=name)
        run_id = renamed(self.view.uri, run.info.run_id, recorded)
        self.made.add(run_id)
        return self.client.get_run(run_id)

    def _study(self, own: Group) -> None:
        """The run of a study: what it found already made, and how it ended."""
        run = self.parents.get(own.identity)
        if run is None or (run.info.run_id not in self.made and not self.view.is_left(run)):
            return
        parent = run.info.run_id
        if content := _content(own):
            self.client.log_dict(parent, content, "study.json")
        ending = _ending(own)
        end_study(self.view, parent, ending)
        if ending.status == "KILLED":
            self.client.set_tag(parent, "mlflow.note.content", NO_REPORT)
        if parent not in self.made:
            self.tracked.settled.count(ending.status)

    def _sweep(self) -> None:
        """End what processes of older versions left running: they left no notes."""
        for run in self.view.search("attributes.status = 'RUNNING'"):
            if self.view.is_left(run) and "step_key" in run.data.tags:
                settle_step(self.view, run, self.tracked.settled)
            elif self.view.is_left(run) and "study" in run.data.tags:
                end_study(self.view, run.info.run_id, Ending(status="KILLED"))
                self.tracked.settled.count("KILLED")

    def _tick(self) -> None:
        self._done += 1
        self._progress(self._done, self._all)


def _content(own: Group) -> dict[str, object]:
    """What study.json says of a run; nothing if no record knows it."""
    if own.command == "import":
        return {"imported_from": (own.records[0].mlflow or {}).get("imported_from")}
    if own.report is None:
        return {}
    study = own.report.config.get("study", {})
    try:
        return StudyConfig.model_validate(study).model_dump(mode="json")
    except ValidationError:  # another version's
        return dict(study)


def _ending(own: Group) -> Ending:
    last = max(finished(record) for record in own.records)
    if own.command == "import":
        return Ending(status="FINISHED", at=last, numbers={"imported": len(own.records)})
    if own.command in ("export", "tune"):
        return Ending(status="FINISHED", at=last, numbers={"steps": len(own.records)})
    if own.report is None:
        return Ending(status="KILLED", at=last)
    hits = own.hits
    numbers = {"steps": len(own.report.inputs) + 1, "cache_hits": len(hits)}
    return Ending(status="FINISHED", at=last, numbers=numbers, report=own.report.ref, hits=hits)
