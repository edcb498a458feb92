"""The studies that answer a question, as their reports in this home say: what docs/results.md is written from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from tlm.artifacts.record import Record, in_time
from tlm.artifacts.store import Artifact, ArtifactStore
from tlm.report.saved import FINDINGS_FILE, SavedFindings, SavedPlot, load_findings
from tlm.results import ANALYSES
from tlm.study.config import StudyConfig
from tlm.study.dry_run import is_dry_run

SCALES = ("tiny", "small", "paper")
OTHER_FIELDS = "has other fields than the named study now has"

TRY = "Try: tlm run ws-sweep --scale tiny"

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
    remedy: str = TRY


def name_of(study: StudyConfig) -> str:
    """The study's name with its scale."""
    return f"{study.name}-{study.scale}" if study.scale else study.name


def of_home(store: ArtifactStore, command_of: CommandOf, published: int = 0) -> Answers:
    """The latest report of each study and scale.

    Studies that `command_of` knows no command for (a named study with changed fields), and those whose report is damaged,
    are left out, and said to be.

    Args:
        published: how many studies are published beside the document, for those who have run none.
    """
    left_out: dict[str, str] = {}
    answered = []
    for record, study in _latest_reports(store, command_of, left_out):
        command = str(command_of(study))
        try:
            report = store.get(record.ref, verify=True)
        except LookupError as error:
            left_out[str(record.ref)] = f"{str(error).removeprefix(f'{record.ref} ')}; run it again: {command}"
            continue
        answered.append(_answer(report, study, command))
    studies = f"{published} published {'study' if published == 1 else 'studies'}"
    there = f", or, of {studies}: tlm report --published" if published else ""
    return Answers(answered, left_out, remedy=TRY + there)


def _latest_reports(
    store: ArtifactStore, command_of: CommandOf, left_out: dict[str, str]
) -> list[tuple[Record, StudyConfig]]:
    latest: dict[tuple[int, int, str], tuple[Record, StudyConfig]] = {}
    for record in _reports(store, left_out):
        tree = record.config.get("study")
        analysis = tree.get("analysis") if isinstance(tree, dict) else None
        if analysis not in ANALYSES:
            continue
        study = _read(tree)
        if study is not None and is_dry_run(study):
            continue
        if study is None or command_of(study) is None:
            left_out[str(record.ref)] = OTHER_FIELDS
            continue
        latest[in_order(study.scale, str(analysis), study.name)] = record, study
    reports = [latest[place] for place in sorted(latest)]
    for report, study in reports:
        if FINDINGS_FILE not in report.outputs:
            left_out[str(report.ref)] = f"was written by an older version; run it again: {command_of(study)}"
    return [(report, study) for report, study in reports if FINDINGS_FILE in report.outputs]


def _reports(store: ArtifactStore, left_out: dict[str, str]) -> list[Record]:
    """The records of all reports in the order in which they were made; those not to be believed are left out."""
    found = {name: seen for name, seen in store.inspect_all() if name.startswith("report/")}
    left_out |= {name: f"is {seen.status} ({seen.reason})" for name, seen in found.items() if seen.record is None}
    return in_time(seen.record for seen in found.values() if seen.record is not None)


def _answer(report: Artifact, study: StudyConfig, command: str) -> Answered:
    run_id = (report.record.mlflow or {}).get("run_id")

    def image(plot: SavedPlot) -> bytes:
        return report.path(plot.file).read_bytes()

    return Answered(study, load_findings(report.path(FINDINGS_FILE)), command, run_id, image, report)


def in_order(scale: str | None, analysis: str, name: str) -> tuple[int, int, str]:
    """What studies are sorted by: the smallest scale first, then as the analyses are listed."""
    place = SCALES.index(scale) if scale in SCALES else len(SCALES)
    return place, list(ANALYSES).index(analysis), name


def is_current(study: object, command_of: CommandOf) -> bool:
    """Whether a command makes just this study; none does if its fields are those of an older version of tlm."""
    read = _read(study)
    return read is not None and command_of(read) is not None


def _read(study: object) -> StudyConfig | None:
    """None if its fields are those of an older version of tlm."""
    try:
        return StudyConfig.model_validate(study)
    except ValidationError:
        return None
