"""The command line: what it says and does without running anything, and that planning starts no server."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from helpers import Study, Tlm, python
from typer.testing import CliRunner

from flows.commands import app, base
from flows.loading import load_study
from flows.studies import STUDIES
from tlm.planning.plan import plan

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


def test_plan_counts_what_would_run_and_writes_nothing(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("plan", study(), "--no-time")
    assert said.code == 0
    assert "33 steps: 0 cached, 33 to run." in said.out
    assert list(home.rglob("*")) == []
    assert "one-ws60-s0-p0" in tlm("plan", study(), "--steps", "--no-time").out


def test_plan_of_several_studies_says_what_they_share(tlm: Tlm, home: Path) -> None:
    names = ("missing-tokens", "overlap-predictor")
    said = tlm("plan", *names, "--scale", "tiny", "--origin", "hub")
    assert said.code == 0, said.err
    keys = [{step.key for step in plan(load_study(name, origin="hub"), "").steps} for name in names]
    shared, new = len(keys[0] & keys[1]), len(keys[1] - keys[0])
    assert shared and new
    [row] = [line for line in said.out.splitlines() if line.lstrip("│ ").startswith("overlap-predictor")]
    assert [int(cell.replace(",", "")) for cell in row.split("│")[2:-1]] == [shared + new, shared, 0, new]
    assert "0 cached" in said.out and list(home.rglob("*")) == []


def test_plan_of_one_study_named_twice_is_its_plan(tlm: Tlm, study: Study) -> None:
    def plan(*studies: str) -> str:
        said = tlm("plan", *studies, "--no-time").out
        return re.sub(r"[\d.]+\s+GiB\s+are\s+free", "", said)  # that changes all the time

    assert plan(study(), study()) == plan(study())


def test_a_dry_run_has_steps_of_its_own(tlm: Tlm, study: Study) -> None:
    whole, dry = (tlm("plan", study(), "--steps", "--no-time", *more).out for more in ([], ["--limit-steps", "1"]))
    assert whole != dry and "33 steps: 0 cached" in dry


def test_show_prints_a_study_that_can_be_run(tlm: Tlm, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(tlm("show", "demo", "--set", "finetune.epochs=3").out)
    assert load_study(str(tmp_path / "mine.yaml")) == load_study("demo", ["finetune.epochs=3"])


def test_reference_compat_is_seen_in_what_show_prints(tlm: Tlm) -> None:
    shown = yaml.safe_load(tlm("show", "demo", "--reference-compat").out)
    assert shown["pretrain"]["schedule"] == shown["finetune"]["schedule"] == "epoch"


def test_studies_lists_each_with_what_it_does(tlm: Tlm) -> None:
    said = tlm("studies")
    for name, named in STUDIES.items():
        [row] = [line for line in said.out.splitlines() if line.lstrip("│ ").startswith(f"{name} ")]
        assert ("tiny, small, paper" in row) == named.scaled
        assert named.description in row


def test_sql_answers_over_an_empty_store(tlm: Tlm) -> None:
    said = tlm("sql", "select 1 as one", "--csv")
    assert (said.code, said.out.replace('"', "").splitlines()) == (0, ["one", "1"])


def test_gc_of_an_empty_store_removes_nothing(tlm: Tlm) -> None:
    said = tlm("gc")
    assert said.code == 0 and "would remove 0 artifacts" in said.out


def test_the_commands_are_those_that_the_documents_tell_of() -> None:
    assert {"run", "plan", "show", "studies", "explain", "report", "export", "import", "predict"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_examples_of_a_line_each(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert shown.exit_code == 0
    examples = [line.strip() for line in shown.output.partition("Examples:")[2].splitlines() if line.strip()]
    assert examples and all(f"tlm {command}" in line for line in examples)


def test_help_groups_commands_and_begins_with_what_one_does_first() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    places = [shown.index(f"│ {name} ") for name in ("run", "plan", "predict", "sql", "submit", "verify")]
    groups = [shown.index(f" {group} ") for group in base.GROUPS]
    assert places == sorted(places) and groups == sorted(groups)
    assert groups[0] < places[0] < groups[1] < places[2] < groups[2]


def test_the_version_is_that_of_the_package(tlm: Tlm) -> None:
    assert tlm("--version").out == f"tlm {version('tlm')}\n"


def test_a_shell_completes_the_names_of_studies_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "committee_of_mine.yaml").write_text("")
    assert base._studies("commit") == ["committee", "committee-distillation", "committee_of_mine.yaml"]


PLAN_OF_TWO = ["plan", "ws-sweep", "committee", "--scale", "paper"]
WITHOUT_SERVERS = """
import sys
from flows.cli import main
sys.argv = ["tlm", *{arguments!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = ("prefect", "mlflow", "optuna", "torch", "transformers", "datasets")
print("LOADED", [name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plan", "demo", "--no-time"], PLAN_OF_TWO, ["sql", "select 1"], ["studies"]],
    ids=" ".join,
)
def test_a_command_that_runs_no_study_imports_neither_prefect_nor_mlflow(arguments: list[str], tmp_path: Path) -> None:
    done = python(WITHOUT_SERVERS.format(arguments=arguments), cwd=tmp_path, TLM_HOME=str(tmp_path / "home"))
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def test_an_error_of_the_installed_command_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = python(["-m", "flows.cli", "run", "deno"], cwd=tmp_path, TLM_HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: Unknown study 'deno'.")
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_a_pipe_says_at_once_what_it_does(tlm: Tlm, study: Study, tmp_path: Path) -> None:
    (tmp_path / "raw" / "task.csv").unlink()
    said = tlm("run", study())
    assert (said.code, said.out) == (2, "mini: checking the study and its sources\n")


def test_an_error_in_a_query_is_one_line_to_the_end_of_the_process(home: Path) -> None:
    done = python(["-m", "flows.cli", "sql", "select nope from results", "--home", str(home)])
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
