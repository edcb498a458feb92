"""A gap has one interval and is resolved by one rule, wherever it is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from synthetic import MLFLOW, PROVENANCE, publish, study

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.report.comparison import HOW_TO_READ, difference_text
from tlm.report.evidence import Evidence
from tlm.report.marts import estimate
from tlm.report.saved import FINDINGS_FILE, SUMMARY_FILE, load_findings, load_summary
from tlm.results.study_report import write_study_report
from tlm.stages import STAGES
from tlm.statistics import difference, mean_accuracy


class Written:
    """A made-up study that asks how the gap depends on Ws, and everything that is written of it."""

    def __init__(self, folder: Path, finetune_seeds: tuple[int, ...]) -> None:
        store = ArtifactStore(str(folder / "artifacts"))
        config = study(folder / "raw", analysis="ws-sweep", finetune_seeds=finetune_seeds)
        self.out = folder / "report"
        with build_memory(store, publish(config, store, folder / "raw"), STAGES) as connection:
            write_study_report(connection, config, self.out, provenance=PROVENANCE, mlflow_url=MLFLOW)
            evidence = Evidence(connection, config)
            self.gaps = {
                (task.name, arch.name, ws): evidence.gaps.find(
                    task=task.name, system=arch.name, ws=ws, treatment=None, kind="finetune"
                )
                for task in config.tasks
                for arch in config.architectures
                for ws in (100, 400)
            }
            self.measured = {place: (evidence.correct(*place), evidence.correct(*place[:2], 0)) for place in self.gaps}


@pytest.fixture(scope="module", params=[(0, 1), (0, 1, 2), (0,)], ids=lambda seeds: f"{len(seeds)} seeds")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("written"), request.param)


def test_the_mart_holds_what_the_statistics_say_of_the_predictions(written: Written) -> None:
    for place, row in written.gaps.items():
        pretrained, scratch = written.measured[place]
        assert row is not None and pretrained is not None and scratch is not None
        assert estimate(row, "accuracy") == mean_accuracy(pretrained)
        expected = difference(pretrained, scratch)
        assert estimate(row, "gap") == expected
        assert row["resolved"] is expected.resolved
        assert row["gap_half_width"] == (None if expected.seeds == 1 else expected.half_width)


def test_summary_findings_and_both_forms_of_the_report_show_the_mart_s_interval(written: Written) -> None:
    frame = load_summary(written.out / SUMMARY_FILE)
    table = next(t for t in load_findings(written.out / FINDINGS_FILE).tables if t.title == "Accuracy and gap by Ws")
    html, markdown = ((written.out / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    resolved = set()
    for (task, arch, ws), row in written.gaps.items():
        gap = estimate(row, "gap")
        assert row is not None and gap is not None
        line = frame[(frame.task == task) & (frame.architecture == arch) & (frame.ws == ws) & frame.treatment.isna()]
        (shown,) = line.to_dict("records")
        assert shown["gap"] == pytest.approx(100 * gap.value) and shown["resolved"] is gap.resolved
        assert shown["gap_half_width"] == pytest.approx(100 * gap.half_width) or gap.seeds == 1

        (cells,) = [r for r in table.rows if [c.text for c in r[:3]] == [task, arch, f"{ws:,}"]]
        found = re.sub(r", p [<=] [\d.]+", "", cells[4].text)
        assert found == difference_text(gap), "with a p-value, and else the same"
        assert found in html and found in markdown
        resolved.add(gap.resolved)
    assert resolved == ({False} if len(written.measured["topics", "deep", 400][0]) == 1 else {True, False})


def test_the_rule_is_said_once_a_page(written: Written) -> None:
    page = (written.out / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    assert page.count(HOW_TO_READ) == 1 and page.count("half-width") == 1
    for form in ("report.html", "report.md"):
        text = (written.out / form).read_text(encoding="utf-8")
        assert "standard error" not in text and "(SE" not in text
