"""The studies that answer a question, as their reports in this home say: what docs/results.md is written from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tlm.artifacts.store import Artifact, ArtifactStore, Record
from tlm.errors import UserError
from tlm.report.saved import FINDINGS_FILE, SavedFindings, SavedPlot, load_findings
from tlm.results import ANALYSES
from tlm.study.config import StudyConfig

SCALES = ("tiny", "small", "paper")
OTHER_FIELDS = "has other fields than the named study now has"

CommandOf = Callable[[StudyConfig], str | None]
"""The command that makes a study; None if its name now stands for another study."""


@dataclass(frozen=True)
class Answered:
    """A study that has run, and what it found."""

    study: StudyConfig
    findings: SavedFindings
    command: str
    run_id: str | None
    """The MLflow run of its report."""
    image: Callable[[SavedPlot], bytes]
    """A plot of the findings as PNG."""
    report: Artifact | None = None
    """Where it is from, in a home."""

    @property
    def name(self) -> str:
        return name_of(self.study)

    @property
    def anchor(self) -> str:
        """The anchor of its section: GitHub drops the dots of a heading and keeps its dashes and underscores."""
        return self.name.replace(".", "")


@dataclass(frozen=True)
class Answers:
    """Studies in the order of the document, and those that are left out of it with the reason."""

    answered: list[Answered]
    left_out: dict[str, str]
    verb: str = "has run"
    remedy: str = "Try: tlm run ws-sweep --scale tiny"


def name_of(study: StudyConfig) -> str:
    """The study's name with its scale."""
    return f"{study.name}-{study.scale}" if study.scale else study.name


def of_home(store: ArtifactStore, command_of: CommandOf) -> Answers:
    """The latest report of each study and scale.

    Studies that `command_of` knows no command for (a named study with changed fields) are left out, and said to be.

    Raises:
        UserError: if a report is damaged.
    """
    left_out: dict[str, str] = {}
    answered = [_answer(store, report, command_of) for report in _latest_reports(store, command_of, left_out)]
    return Answers(answered, left_out)


def _latest_reports(store: ArtifactStore, command_of: CommandOf, left_out: dict[str, str]) -> list[Record]:
    latest: dict[tuple[int, int, str], Record] = {}
    for record in sorted(store.records(), key=lambda record: record.created):
        study = record.config.get("study", {}) if record.stage == "report" else {}
        if study.get("analysis") in ANALYSES and not _is_dry_run(study):
            if not is_current(study, command_of):
                left_out[str(record.ref)] = OTHER_FIELDS
                continue
            latest[in_order(study.get("scale"), study["analysis"], study["name"])] = record
    reports = [latest[place] for place in sorted(latest)]
    for report in reports:
        if FINDINGS_FILE not in report.outputs:
            left_out[str(report.ref)] = f"was written by an older version; run it again: {_command(report, command_of)}"
    return [report for report in reports if FINDINGS_FILE in report.outputs]


def in_order(scale: str | None, analysis: str, name: str) -> tuple[int, int, str]:
    """What studies are sorted by: the smallest scale first, then as the analyses are listed."""
    place = SCALES.index(scale) if scale in SCALES else len(SCALES)
    return place, list(ANALYSES).index(analysis), name


def is_current(study: Mapping[str, Any], command_of: CommandOf) -> bool:
    """Whether a command makes just this study; none does if its fields are those of an older version of tlm."""
    try:
        return command_of(StudyConfig.model_validate(study)) is not None
    except ValidationError:
        return False


def _is_dry_run(study: Mapping[str, Mapping[str, object]]) -> bool:
    return any(study[training].get("max_steps") for training in ("pretrain", "finetune"))


def _answer(store: ArtifactStore, record: Record, command_of: CommandOf) -> Answered:
    study, command = StudyConfig.model_validate(record.config["study"]), _command(record, command_of)
    try:
        report = store.get(record.ref)
    except LookupError as error:
        raise UserError(f"{name_of(study)}: {error}.", f"Run it again: {command}") from error
    run_id = (record.mlflow or {}).get("run_id")

    def image(plot: SavedPlot) -> bytes:
        return report.path(plot.file).read_bytes()

    return Answered(study, load_findings(report.path(FINDINGS_FILE)), command, run_id, image, report)


def _command(record: Record, command_of: CommandOf) -> str:
    return str(command_of(StudyConfig.model_validate(record.config["study"])))
