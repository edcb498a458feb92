"""Stage `report`: what a study found, as pages and tables over every step of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tlm.artifacts.step import Label
from tlm.stages.base import STAGES, Aside, Stage
from tlm.study.config import StudyConfig

if TYPE_CHECKING:
    from tlm.artifacts.store import Artifact
    from tlm.stages.job import Facts, Job


class Report(Stage, name="report", version="12"):
    """The study's report (`tlm.results.study_report`), its packed marts (`marts/`, which `tlm publish` copies), and
    labels.json: what the study calls each of its steps."""

    steps: tuple[Stage, ...] = ()
    """Every other one of the study."""
    study: StudyConfig
    step_labels: Aside[dict[str, dict[str, Any]]]
    """Key → labels: an artifact may have been made under other names (of architectures, tasks)."""

    pages = True
    requires = ("duckdb", "jinja2", "matplotlib")
    outputs = {
        "report.html": None,
        "report.md": None,
        "findings.json": None,
        "summary.parquet": None,
        "labels.json": None,
    }

    def inputs(self) -> dict[str, Stage]:
        return {f"{each.name}/{each.step.slug}-{each.step.key[:8]}": each for each in self.steps}

    @property
    def slug(self) -> str:
        return self.study.name

    @property
    def labels(self) -> dict[str, Label]:
        return {"study": self.study.name}

    @classmethod
    def read_back(cls, artifact: Artifact) -> dict[str, Any]:
        """Raises ValueError if its labels.json does not hold labels by key."""
        from tlm.artifacts.marts import LABELS_FILE

        labels: TypeAdapter[dict[str, dict[str, Label]]] = TypeAdapter(dict[str, dict[str, Label]])
        return {"step_labels": labels.validate_json(artifact.path(LABELS_FILE).read_bytes())}

    def run(self, job: Job) -> Facts:
        import json

        from tlm.artifacts.marts import LABELS_FILE, build_memory
        from tlm.artifacts.provenance import provenance
        from tlm.artifacts.store import ArtifactStore
        from tlm.results.study_report import write_study_report

        records = [artifact.record for artifact in job.inputs.values()]
        store = ArtifactStore(job.runtime.artifacts)
        labels = self.step_labels
        (job.out / LABELS_FILE).write_text(json.dumps(labels, sort_keys=True), encoding="utf-8")
        with build_memory(store, records, STAGES, labels=labels) as connection:
            return write_study_report(
                connection, self.study, job.out, provenance=provenance(), mlflow_url=job.runtime.mlflow_url
            )
