"""The report: whole, self-contained, the same numbers in both forms, the same bytes for the same records."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape
from pathlib import Path

import duckdb
import pytest
from synthetic import MLFLOW, PROVENANCE, MadeUp, publish, study

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.modeling.cost import parameter_counts
from tlm.report.evidence import Evidence
from tlm.report.findings import Findings, Verdict
from tlm.report.render import render
from tlm.report.sections import not_measured
from tlm.results.study_report import write_study_report
from tlm.stages import STAGES

SECTIONS = (
    "Results",
    "Gap over scratch",
    "Token overlap",
    "Missing tokens",
    "Pre-training",
    "Committees",
    "Beside the",
)


def test_both_forms_have_every_section(rendered: Path) -> None:
    html, markdown = (rendered / "report.html").read_text(), (rendered / "report.md").read_text()
    for section in SECTIONS:
        assert f"{section}" in re.findall(r"<h2[^>]*>(.*?)</h2>", html) or section == "Beside the"
        assert f"\n## {section}" in markdown
    for text in ("A made-up study", "c0ffeec0ffee", "feedfeedfeed", "torch 2.13.0", "28 finetune"):
        assert text in html and text in markdown


def test_what_was_found_stands_before_how_it_was_made(rendered: Path) -> None:
    html, markdown = (rendered / "report.html").read_text(), (rendered / "report.md").read_text()
    for text in (html, markdown):
        assert text.index("a gap in points of") < text.index("Test accuracy on") < text.index("torch 2.13.0")


def test_a_dry_run_says_so_first_and_says_no_length_that_it_had_not(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "artifacts"))
    for steps in (None, 3):
        lengths = {"pretrain": {"steps": 800, "max_steps": steps}, "finetune": {"epochs": 10, "max_steps": steps}}
        config = study(tmp_path / "raw", **lengths)
        with build_memory(store, [], STAGES) as connection:
            write_study_report(connection, config, tmp_path / "out", provenance={}, mlflow_url=MLFLOW)
        for name in ("report.html", "report.md"):
            text = (tmp_path / "out" / name).read_text()
            assert ("A dry run" in text) == bool(steps)
            assert ("800 steps, of which 3 steps at most were made" in text) == bool(steps)
            assert ("10 epochs, of which 3 steps at most were made" in text) == bool(steps)
            assert not steps or text.index("A dry run") < text.index("How it was made")


def test_tfidf_stands_beside_ws_where_it_is_never_off_the_screen(rendered: Path) -> None:
    for text in re.findall(r"<caption>Test accuracy on .*?</thead>", (rendered / "report.html").read_text(), re.DOTALL):
        assert re.findall(r"<th[^>]*>(.*?)</th>", text)[:2] == ["Ws", "TF-IDF"]


def test_points_say_what_they_are_when_one_points_at_them(rendered: Path) -> None:
    html = (rendered / "report.html").read_text()
    assert re.search(r"<title>deep at 400: [\d.]+ \[[\d.]+, [\d.]+\]</title>", html)


def test_html_needs_nothing_from_elsewhere(rendered: Path) -> None:
    html = (rendered / "report.html").read_text()
    assert html.count("<script") == 1 and "@import" not in html
    addresses = re.findall(r"https?://[^\s\"'<>)]+", html)
    assert addresses and all(address.startswith(f"{MLFLOW}/#/experiments/7/runs/run") for address in addresses)
    assert all(
        target.startswith(("#", "data:"))
        for target in re.findall(r'(?:src|href)="([^"]*)"', html)
        if MLFLOW not in target
    )
    assert html.count("<svg") == len(list((rendered / "plots").glob("*.png"))) == 6
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_the_page_allows_itself_nothing_but_its_own_styles(rendered: Path) -> None:
    """Whatever a name in it may be made to say: no script but its own runs, nothing is loaded, sent or framed."""
    html = (rendered / "report.html").read_text()
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    assert html.index(policy) < html.index("<style>") < html.index("<body>")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules.keys() == {"default-src", "style-src", "script-src", "img-src", "base-uri", "form-action"}
    [script] = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"


def test_markdown_has_the_numbers_of_the_html(rendered: Path) -> None:
    html, markdown = (rendered / "report.html").read_text(), (rendered / "report.md").read_text()
    cells = [
        unescape(re.sub(r"<sup>.*?</sup>|<[^>]+>", "", cell)) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html)
    ]
    told = markdown.partition("## Results")[2].partition("## How it was made")[0]
    rows = [line for line in told.splitlines() if line.startswith("|") and "---" not in line]
    shown = [
        re.sub(r"<sup>.*?</sup>|\]\(http[^)]*\)|(?<!\\)\[", "", cell).replace("\\", "").strip()
        for line in rows
        for cell in line.strip("| ").split(" | ")
    ]
    assert shown == cells
    links = sorted(re.findall(rf"{MLFLOW}/[^\s\")]+", html))
    assert links == sorted(re.findall(rf"{MLFLOW}/[^\s\")]+", markdown))


def test_markdown_refers_to_plots_that_are_there(rendered: Path) -> None:
    names = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (rendered / "report.md").read_text())
    assert len(names) == 6 and all((rendered / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_every_plot_of_the_markdown_is_a_paragraph_of_its_own(rendered: Path) -> None:
    plots = [part for part in (rendered / "report.md").read_text().split("\n\n") if "![" in part]
    assert len(plots) == 6 and all(re.fullmatch(r"!\[[^\n]*\)", plot.strip()) for plot in plots)


def test_a_study_that_is_named_as_a_plot_overwrites_none(tmp_path: Path) -> None:
    """The paper's `committee` is: its report has plots of each task by the size of a committee, and its findings too."""
    store, config = ArtifactStore(str(tmp_path / "a")), study(tmp_path / "raw", name="committee", analysis="committee")
    with build_memory(store, publish(config, store, tmp_path / "raw"), STAGES) as connection:
        facts = write_study_report(connection, config, tmp_path / "out", provenance={}, mlflow_url=MLFLOW)
    names = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (tmp_path / "out/report.md").read_text())
    assert len({*names}) == len(names) == len([*(tmp_path / "out/plots").iterdir()]) == facts["plots"]


def test_results_say_how_many_seeds(rendered: Path) -> None:
    markdown = (rendered / "report.md").read_text()
    assert "41.0 ± 9.0 (2 seeds)" in markdown
    assert "60.0 (1 committee)" in markdown and "55.0 ± 7.0 (no seed)" in markdown
    assert "+3.0 ± 5.7 (2 seeds), not resolved" in markdown
    assert "+30.0 ± 7.7 (2 seeds) <sup>" in markdown
    assert "−10.0 ± 6.1 (2 seeds)" in markdown


def test_the_text_that_is_not_known_is_said_for_each_source(rendered: Path) -> None:
    markdown = (rendered / "report.md").read_text()
    [row] = [line for line in markdown.splitlines() if line.startswith("| files-items |")]
    cells = re.sub(r"\[([\d.,]+)\]\([^)]*\)", r"\1", row)
    assert cells == r"| files-items | 40 | 2 | 1 | 1,000 | 2.5 | 0.6 | \| (20)  \<b\> (5) |"
    assert "&lt;b&gt; (5)" in (rendered / "report.html").read_text()


def test_the_parameters_of_each_architecture_are_said(rendered: Path, tmp_path: Path) -> None:
    planned = study(tmp_path)
    for name, arch in planned.architecture_of.items():
        counts = parameter_counts(arch, vocab_size=256, max_position_embeddings=planned.max_length)
        row = f"| {name} | {counts.stored:,} | {counts.embeddings_and_head:,} | "
        [shown] = [line for line in (rendered / "report.md").read_text().splitlines() if line.startswith(row)]
        assert f" | {counts.core:,} | {counts.used:,} | " in shown


def test_a_baseline_that_could_not_be_fitted_is_not_measured_with_the_reason() -> None:
    with duckdb.connect() as connection:
        connection.execute("create table runs (baseline varchar, task varchar, facts json)")
        assert not_measured(connection) == ""
        connection.execute(
            """insert into runs values ('tfidf', 'notes', '{"not_measured": "no word"}'), (null, null, '{}')"""
        )
        assert not_measured(connection) == " Not measured: tfidf on notes (no word)."


def test_same_records_same_bytes(made_up: MadeUp, rendered: Path, tmp_path: Path) -> None:
    with build_memory(made_up.store, list(reversed(made_up.records)), STAGES) as connection:
        write_study_report(connection, made_up.study, tmp_path, provenance=PROVENANCE, mlflow_url=MLFLOW)
    files = [path.relative_to(rendered) for path in rendered.rglob("*") if path.is_file()]
    assert all((tmp_path / name).read_bytes() == (rendered / name).read_bytes() for name in files)


def test_untracked_runs_have_plain_numbers(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "artifacts"))
    config = study(tmp_path / "raw", treatments=[], committees=[], title="<Ws> & *friends*")
    records = publish(config, store, tmp_path / "raw", tracked=False)
    with build_memory(store, records, STAGES) as connection:
        facts = write_study_report(connection, config, tmp_path / "out", provenance={}, mlflow_url=MLFLOW)
    html, markdown = (tmp_path / "out/report.html").read_text(), (tmp_path / "out/report.md").read_text()
    assert not facts["tracked"] and "://" not in html and "://" not in markdown
    assert "not tracked" in html and "not tracked" in markdown
    for absent in ("Missing tokens at fixed Ws", "Committees"):
        assert absent not in html and absent not in markdown, "there is nothing of it to show"
    assert "&lt;Ws&gt; &amp; *friends*" in html and r"\<Ws\> & \*friends\*" in markdown


def test_a_study_without_results_renders(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "artifacts"))
    with build_memory(store, [], STAGES) as connection:
        facts = write_study_report(
            connection, study(tmp_path / "raw"), tmp_path / "out", provenance={}, mlflow_url=MLFLOW
        )
    assert facts == {"results": 0, "verdicts": 0, "decided": 0, "plots": 0, "tracked": False, "compute_seconds": 0}
    assert "n/a" in (tmp_path / "out/report.md").read_text()


def found(made_up: MadeUp, out: Path, *verdicts: Verdict) -> tuple[str, str]:
    """The report of these verdicts, in both forms."""
    evidence = Evidence(made_up.connection, made_up.study)
    render(evidence, Findings([*verdicts]), out, provenance={}, mlflow_url=MLFLOW)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def test_a_cell_whose_verdicts_do_not_agree_is_open(made_up: MadeUp, tmp_path: Path) -> None:
    html, _ = found(made_up, tmp_path, Verdict("A on topics", "yes", "1"), Verdict("A on topics", "no", "2"))
    assert '<td class="open" title="yes; no">✔ 1; ✘ 2</td>' in html


def test_what_a_verdict_says_is_text_in_both_forms(made_up: MadeUp, tmp_path: Path) -> None:
    html, markdown = found(made_up, tmp_path, Verdict('<script>"a|b', "yes", "<i>1</i>", "<u>|"))
    assert html.count("<script") == 1 and not re.search(r"<[iu]>", html) and "✔ &lt;i&gt;1&lt;/i&gt;" in html
    assert r'| \<script\>"a\|b | ✔ \<i\>1\</i\> |' in markdown
    assert r"The paper: \<u\>\|." in markdown


def test_paper_figures_only_where_they_are_known(rendered: Path) -> None:
    paper = (rendered / "report.md").read_text().partition("## Beside the paper")[2]
    assert "86.6" not in paper and paper.count("| n/a |") == 4


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_no_machine_path_in_the_report(rendered: Path, name: str) -> None:
    assert str(rendered.parent) not in (rendered / name).read_text()
