"""docs/results.md: the latest answer of each study and scale, from their reports alone; whole or not at all."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import Tlm, command_line, edit_record
from report.synthetic import publish, study
from results.undrawn import plots_are_drawn

from tlm.artifacts.marts import build_memory
from tlm.artifacts.record import RECORD
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.planning.plan import plan
from tlm.report.saved import FINDINGS_FILE
from tlm.results import ANALYSES, document
from tlm.results.answers import of_home
from tlm.results.document import write_document
from tlm.results.study_report import write_study_report
from tlm.stages import STAGES
from tlm.study.config import StudyConfig


def command_of(config: StudyConfig) -> str | None:
    """Of a study named "changed" none is known."""
    if config.name == "changed":
        return None
    return f"tlm run {config.name}" + (f" --scale {config.scale}" if config.scale else "")


@cache
def has_run(name: str, created: str, tracked: bool, changes: str, drawn: bool) -> tuple[Step, Path]:
    """The report of a made-up study, and the folder of its artifacts: made once for all tests that ask for it."""
    folder = Path(tempfile.mkdtemp(prefix="tlm-document-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = ArtifactStore(str(folder / "artifacts"))
    config = study(folder / "raw", name=name, **{"analysis": "ws-sweep", **json.loads(changes)})
    planned = plan(config, str(folder / "raw"))
    records = publish(config, store, folder / "raw", tracked=tracked)
    labels = {step.key: step.labels for step in planned.steps}
    report = planned.report
    with store.draft(report.ref) as draft, build_memory(store, records, STAGES, labels) as connection:
        write_study_report(connection, config, draft, provenance={}, mlflow_url="http://127.0.0.1:5000")
        mlflow = {"run_id": f"report{created}"} if tracked else None
        store.publish(report, draft, facts={}, provenance={}, seconds=0, mlflow=mlflow)
    edit_record(folder / "artifacts" / str(report.ref), created=f"{created}T00:00:00+00:00")
    return report, folder / "artifacts"


class Home:
    """A store of made-up studies, and where the document is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ArtifactStore(str(folder / "data/artifacts"))
        self.out = folder / "docs/results.md"

    def add(self, name: str = "sweep", *, created: str = "2026-01-01", tracked: bool = True, **changes: Any) -> Step:
        """A study that has run, its report as the report stage leaves it for the document."""
        report, made = has_run(name, created, tracked, json.dumps(changes, sort_keys=True), plots_are_drawn())
        shutil.copytree(made, self.folder / "data/artifacts", dirs_exist_ok=True)
        return report

    def write(self) -> list[str]:
        return write_document(of_home(self.store, command_of), self.out).studies

    @property
    def text(self) -> str:
        return self.out.read_text(encoding="utf-8")

    def files(self) -> set[str]:
        place = self.out.parent
        return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- what is in it ---


def test_a_study_has_its_verdicts_a_section_plots_and_the_command_that_makes_it(home: Home) -> None:
    home.add("sweep", scale="tiny", title="A sweep")
    [line] = home.write()
    assert line == f"sweep-tiny: {', '.join(['reproduced'] * 8)}, not measured"
    assert "### Scale: tiny" in home.text and "\n## sweep-tiny\n" in home.text
    assert ANALYSES["ws-sweep"].question in home.text and "`tlm run sweep --scale tiny`" in home.text
    assert "1 pre-training and 2 fine-tuning seeds, crossed" in home.text and "c0ffee" in home.text
    assert f"| [sweep](#sweep-tiny) | {ANALYSES['ws-sweep'].question} | 8 | 0 | 1 |" in home.text
    matrix = home.text.partition("\n## sweep-tiny\n")[2].partition("| Claim or question |")[2].partition("\n\n")[0]
    assert matrix.count("✔") == 2 * 4, "helps and grows of each task and architecture"
    assert matrix.count("| – ") == 1, "Table 3"


def test_its_first_page_says_of_each_claim_whether_it_is_established_refuted_or_open(home: Home) -> None:
    home.add("sweep", scale="tiny", title="A sweep")
    home.write()
    short, _, rest = home.text.partition("## How to read the figures")
    matrix = rest.partition("| Claim or question |")[2].partition("\n\n")[0].splitlines()[2:]
    under = {"✔": "Established", "✘": "Refuted", "○": "Open", "–": "Open"}
    assert matrix
    for claim, *cells in (row.strip("| ").split(" | ") for row in matrix):
        for mark, _, figure in (cell.partition(" ") for cell in cells if cell[:1] in under):
            told = short.partition(f"**{under[mark]}**\n\n")[2].partition("\n\n")[0].splitlines()
            assert [line for line in told if f" — {claim} — " in line and figure in line]


def test_the_plots_it_refers_to_are_beside_it_and_no_others(home: Home, really_drawn: None) -> None:
    home.add(scale="tiny")
    home.write()
    names = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", home.text)
    assert set(names) == {f"img/tiny-sweep-{plot}.png" for plot in ("topics", "relations", "gap")}
    assert home.files() == {"results.md", *names}
    assert all((home.out.parent / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_a_study_that_measured_nothing_of_its_question_has_no_table_without_rows(home: Home) -> None:
    home.add(analysis="missing-tokens", treatments=[])
    home.write()
    assert "Nothing was measured." in home.text and not re.search(r"^\|[ :|-]+\|\n(?!\|)", home.text, re.MULTILINE)


def test_studies_whose_names_are_much_alike_have_plots_of_their_own(home: Home) -> None:
    for name in ("my-sweep", "my_sweep"):
        home.add(name, scale="tiny")
    home.write()
    names = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", home.text)
    assert len(names) == 2 * 3 and home.files() == {"results.md", *names} and len({*names}) == len(names)


def test_it_is_read_where_no_server_runs_and_says_nothing_of_the_machine(home: Home) -> None:
    home.add(scale="tiny")
    home.write()
    assert "http" not in home.text and "127.0.0.1" not in home.text and "localhost" not in home.text
    assert str(home.folder) not in home.text and not re.search(
        r"(?<![\w.])/(?:tmp|home|root|work|data|usr)\b", home.text
    )


def test_the_run_of_its_report_is_named_as_mlflow_names_it(home: Home) -> None:
    home.add(scale="tiny")
    home.write()
    assert "MLflow run `report2026-01-01`" in home.text


def test_untracked_studies_are_told_as_such(home: Home) -> None:
    home.add(tracked=False)
    home.write()
    assert "MLflow run n/a" in home.text


def test_analyses_that_have_not_run_are_named(home: Home) -> None:
    home.add(scale="tiny")
    home.write()
    [line] = [line for line in home.text.splitlines() if line.startswith("Not run yet: ")]
    assert re.findall(r"`tlm run ([a-z-]+)`", line) == [name for name in ANALYSES if name != "ws-sweep"]


def test_the_same_records_make_the_same_bytes(home: Home) -> None:
    home.add(scale="tiny")
    home.write()
    before = home.out.read_bytes()
    home.write()
    assert home.out.read_bytes() == before


@pytest.mark.parametrize("name", ["my-sweep", "my_sweep", "sweep.2"])
def test_a_verdict_leads_to_its_section(name: str, home: Home) -> None:
    """GitHub makes a heading's anchor of its letters, digits, dashes and underscores."""
    home.add(name)
    home.write()
    anchors = {re.sub(r"[^\w-]", "", heading) for heading in re.findall(r"^## (.+)$", home.text, flags=re.MULTILINE)}
    targets = set(re.findall(r"\]\(#([^)]+)\)", home.text))
    assert targets and targets <= anchors


# --- which reports it is made from ---


def test_the_latest_report_of_a_study_at_a_scale_wins(home: Home) -> None:
    home.add(scale="tiny", created="2026-01-02", finetune_seeds=(0, 1, 2))
    home.add(scale="tiny", created="2026-01-01", finetune_seeds=(0, 1))
    assert len(home.write()) == 1
    assert "3 fine-tuning seeds" in home.text and "2 fine-tuning seeds" not in home.text
    home.add(scale="tiny", created="2026-01-03", finetune_seeds=(0, 1))
    assert len(home.write()) == 1
    assert "2 fine-tuning seeds" in home.text and "3 fine-tuning seeds" not in home.text


def test_each_scale_has_its_own_verdicts_the_smallest_first_and_studies_without_one_last(home: Home) -> None:
    home.add("mine")
    for scale in ("paper", "tiny", "small"):
        home.add("sweep", scale=scale)
    said = home.write()
    assert [line.partition(":")[0] for line in said] == ["sweep-tiny", "sweep-small", "sweep-paper", "mine"]
    headings = re.findall(r"^### Scale: (\w+)$", home.text, flags=re.MULTILINE)
    assert headings == ["tiny", "small", "paper", "none"]
    assert "`tlm run mine`" in home.text


def test_dry_runs_are_left_out(home: Home) -> None:
    home.add(scale="tiny", created="2026-01-01")
    home.add(scale="tiny", created="2026-01-02", pretrain={"steps": 10, "max_steps": 2}, finetune_seeds=(0, 1, 2))
    home.add(scale="tiny", created="2026-01-03", finetune={"epochs": 1, "max_steps": 2}, finetune_seeds=(0, 1, 2))
    home.write()
    assert "2 fine-tuning seeds" in home.text and "3 fine-tuning seeds" not in home.text


def test_a_study_that_asks_nothing_is_no_part_of_it(home: Home) -> None:
    home.add("sweep", scale="tiny")
    home.add("other", analysis=None)
    assert [line.partition(":")[0] for line in home.write()] == ["sweep-tiny"]
    assert "other" not in re.findall(r"^## (.+)$", home.text, flags=re.MULTILINE)


# --- whole or not at all ---


def test_without_a_study_nothing_is_written(home: Home) -> None:
    for change in ({"analysis": None}, {"pretrain": {"steps": 10, "max_steps": 2}}):
        home.add(**change)
        with pytest.raises(UserError, match=r"No study that answers a question has run yet\. Try: tlm run ws-sweep"):
            home.write()
    assert not home.out.parent.exists()


def test_the_report_is_enough(home: Home) -> None:
    home.add("sweep", scale="tiny")
    home.write()
    before = home.out.read_bytes()
    for record in home.store.records():
        if record.stage != "report":
            home.store.delete(record.ref)
    home.write()
    assert home.out.read_bytes() == before


def edit_findings(folder: Path) -> None:
    """By a letter, so that it is as long as before."""
    findings = folder / FINDINGS_FILE
    findings.write_text(findings.read_text().replace("reproduced", "reproduceb", 1))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / FINDINGS_FILE).unlink(), r"findings\.json is missing\); run it again: tlm run sweep"),
        (edit_findings, r"findings\.json differs from the digest in its record\); run it again: tlm run sweep"),
        (lambda folder: edit_record(folder, sealed=False, seconds=1), "record.json was edited"),
        (lambda folder: (folder / RECORD).write_text("{}"), "record.json is not a record"),
    ],
)
def test_a_damaged_report_is_named_and_left_out_and_other_studies_are_written(
    home: Home, damage: Callable[[Path], object], says: str
) -> None:
    report = home.add("sweep", scale="tiny")
    damage(home.folder / "data/artifacts" / str(report.ref))
    with pytest.raises(UserError, match=rf"{report.ref} is damaged \(.*{says}"):
        home.write()
    assert not home.out.parent.exists()
    home.add("other", scale="small")
    told = home.write()
    assert told[0].startswith("other-small: ") and "\n## sweep-tiny" not in home.text
    assert re.search(rf"{report.ref}: left out, it is damaged .*{says}", told[1])


def make_older(home: Home, report: Step) -> None:
    """As version 3 of the report stage left it."""
    place = home.folder / "data/artifacts" / str(report.ref)
    outputs = json.loads((place / RECORD).read_text())["outputs"]
    del outputs[FINDINGS_FILE]
    edit_record(place, outputs=outputs)


def test_a_report_of_an_older_version_is_left_out_and_said_to_be(home: Home) -> None:
    make_older(home, home.add("old", scale="tiny"))
    with pytest.raises(UserError, match=r"older version; run it again: tlm run old --scale tiny"):
        home.write()
    home.add("sweep", scale="tiny")
    told = home.write()
    assert len(told) == 2 and "left out, it was written by an older version" in told[1]


def test_a_report_of_an_older_version_is_not_spoken_of_once_its_study_has_run_again(home: Home) -> None:
    make_older(home, home.add("sweep", scale="tiny"))
    home.add("sweep", scale="tiny", title="Again", created="2026-01-02")
    assert [line.partition(":")[0] for line in home.write()] == ["sweep-tiny"]


def test_what_was_there_stays_when_a_new_one_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.add(scale="tiny")
    home.write()
    before, files = home.out.read_bytes(), home.files()

    def fail(*given: object) -> None:
        raise OSError("no space left")

    home.add(scale="small")
    monkeypatch.setattr(document.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        home.write()
    assert home.out.read_bytes() == before
    assert home.files() == files


# --- the command ---


@pytest.fixture
def tlm(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    monkeypatch.setenv("TLM_HOME", str(home.folder))
    monkeypatch.chdir(home.folder)
    return command_line(monkeypatch, capsys)


def test_the_command_writes_it_and_says_how_each_study_fell(home: Home, tlm: Tlm) -> None:
    home.add(scale="tiny")
    said = tlm("report")
    assert said.code == 0, said.err
    first, tally, last = said.out.splitlines()
    assert first.startswith("sweep-tiny: ") and last == "docs/results.md"
    assert tally == "tiny: 8 of 9 verdicts are decided; of the others 1 not measured."
    assert tally.removeprefix("tiny: ") in home.text
    assert "### Scale: tiny" in home.text
    assert tlm("report", "--out", "elsewhere/mine.md").code == 0
    assert (home.folder / "elsewhere/mine.md").read_text(encoding="utf-8") == home.text


def test_the_command_without_a_study_is_one_line_and_exit_code_2(home: Home, tlm: Tlm) -> None:
    said = tlm("report")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("error: No study that answers a question has run yet.")
    assert not home.out.exists()


def test_a_home_without_a_study_is_told_of_those_that_are_published(home: Home, tlm: Tlm) -> None:
    """As whoever has run the demo alone, in a checkout: the demo asks no question."""
    assert "--published" not in tlm("report").err, "there are none here"
    home.add(scale="tiny")
    assert tlm("publish").code == 0
    [place] = (home.folder / "docs/published").glob("*/")
    elsewhere = tlm("report", "--home", str(home.folder / "empty"))
    assert (elsewhere.code, elsewhere.err.count("\n")) == (2, 1)
    assert "Try: tlm run ws-sweep --scale tiny, or, of 1 published study: tlm report --published" in elsewhere.err
    assert tlm("report", "--published").code == 0 and home.out.exists() and place.is_dir()


def test_a_named_study_with_changed_fields_is_left_out_and_said_to_be(home: Home) -> None:
    home.add("sweep", scale="tiny")
    home.add("changed", scale="tiny")
    told = home.write()
    assert len(told) == 2 and "changed" in told[1] and "left out" in told[1]
    assert "changed" not in home.text
