"""The command line: a user's error is one line and exit code 2, with nothing written; planning starts no server."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from helpers import Said, Tlm, command_line, mini_tree, python, write_csv, write_mini_data
from typer.testing import CliRunner

from flows import cli
from flows.commands import app, base
from flows.loading import load_study
from tlm.planning.plan import plan

COMMANDS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def tlm(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    """Run a command in this process, in an empty TLM_HOME and with the miniature study's data."""
    for name in ("TLM_DEVICE", "TLM_WORKERS", "TLM_THREADS", "MLFLOW_TRACKING_URI", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TLM_HOME", str(home))
    monkeypatch.setenv("TLM_DATA_ROOT", str(write_mini_data(tmp_path / "raw")))

    return command_line(monkeypatch, capsys)


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., str]:
    def write(**changes: object) -> str:
        (tmp_path / "mini.yaml").write_text(yaml.safe_dump(mini_tree(**changes)))
        return str(tmp_path / "mini.yaml")

    return write


def expect_refusal(said: Said, home: Path, *fragments: str) -> None:
    assert said.code == 2, said
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    for fragment in fragments:
        assert fragment in said.err, said.err
    assert list(home.rglob("*")) == [], "nothing is written"
    assert "prefect" not in said.out.lower()


Study = Callable[..., str]


# --- a user's errors ---


def test_an_unknown_study(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("run", "deno"), home, "'deno'", "'demo'", ".yaml")


def test_an_unknown_field(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("run", "demo", "--set", "pretrain.epoch=5"), home, "'epoch'", "'epochs'")


def test_a_wrong_value(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("run", "demo", "--set", "pretrain.steps=many"), home, "pretrain.steps", "'many'")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_study_with_an_unknown_name_of_a_sampler(tlm: Tlm, home: Path, study: Study, command: str) -> None:
    expect_refusal(tlm(command, study(corpus__sampler="best")), home, "corpus.sampler", "'best'", "'random'")


def test_a_size_larger_than_the_corpus(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("run", study(), "--set", "corpus.sizes=[0, 120, 5000]")
    expect_refusal(said, home, "Ws=5000", "has 200", "Choose Ws up to 180")


def test_one_document_a_line_in_a_text_file(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    (tmp_path / "raw/texts.txt").write_text("a document\n" * 120)
    text = {"kind": "files", "format": "text", "path": "texts.txt"}
    for sizes in ([0], [0, 60, 120]):
        said = tlm("run", study(corpus__source=text, corpus__sizes=sizes, treatments=[]))
        expect_refusal(said, home, "has 1.", "texts.txt a paragraph ends at a blank line", "jsonl")
        assert "Choose Ws" not in said.err
    own = {"kind": "foreign", "name": "other", "source": text, "own": 5}
    expect_refusal(tlm("run", study(treatments=[own])), home, "treatments.other: own=5", "ends at a blank line")


def test_a_task_with_one_label(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/task.csv", ["text", "label"], [("some text", "sea")] * 60)
    for labels in (None, 2):
        said = tlm("run", study(tasks__0__labels=labels))
        expect_refusal(said, home, "task topics: its source has one label ('sea')", "label_column")


def test_a_source_of_which_nothing_can_be_seen(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/corpus.csv", ["text"], [("\u200b\u00ad",)] * 200)
    expect_refusal(tlm("run", study()), home, "source files-corpus: none of its 200 texts has a visible character")


def test_memory_that_holds_no_training_process(
    tlm: Tlm, home: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLM_MEMORY_GIB", "0.1")
    expect_refusal(tlm("run", study()), home, "TLM_MEMORY_GIB=0.1 allows less", "a smaller model")


def test_more_labels_than_the_task_has(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("run", study(), "--set", "tasks.topics.labels=3"), home, "task topics", "labels=3", "has 2")


def test_a_csv_without_the_label_column(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("run", study(), "--set", "tasks.0.source.label_column=topic")
    expect_refusal(said, home, "task.csv", "'topic'", "'text', 'label'", "label_column")


def test_a_task_whose_source_names_no_label_column(tlm: Tlm, home: Path, study: Study) -> None:
    said = tlm("run", study(), "--set", "tasks.0.source.label_column=null")
    expect_refusal(said, home, "task topics", "no labels", "label_column")


def test_a_class_with_too_few_rows(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    rows = [("some text", "often")] * 30 + [("some text", "seldom")] * 5
    write_csv(tmp_path / "raw/task.csv", ["text", "label"], rows)
    expect_refusal(tlm("run", study()), home, "task topics", "'seldom' has 5", "22 needed", "train_per_label")


def test_an_empty_text(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/corpus.csv", ["text"], [("some text",)] * 200 + [("  ",)])
    expect_refusal(tlm("run", study()), home, "corpus.csv, line 202", "the text is empty")


def test_a_vocabulary_file_that_is_not_one(tlm: Tlm, home: Path, study: Study) -> None:
    given = {"kind": "vocabulary", "path": "task.csv"}
    expect_refusal(
        tlm("run", study(tokenizer=given)), home, "task.csv is not a BERT vocabulary", "[MASK]", "one token a line"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": {"kind": "hub"}},
        {"corpus__source": {"kind": "wikipedia", "origin": "hub"}},
        {"tasks__0__source": {"kind": "hub", "repo": "some/data", "revision": "main", "label_column": "label"}},
    ],
    ids=["tokenizer", "corpus", "task"],
)
def test_a_hub_that_cannot_be_reached(
    change: dict[str, object], tlm: Tlm, home: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    said = tlm("run", study(**change))
    assert time.monotonic() - started < 10
    expect_refusal(said, home, "127.0.0.1:9 cannot be reached", "HF_HUB_OFFLINE")


def test_a_home_that_is_not_writable(tlm: Tlm, home: Path, study: Study, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file/home", Path("/proc/tlm")):
        expect_refusal(tlm("run", study(), "--home", str(place)), home, f"TLM_HOME={place} is not writable")


def test_a_data_root_that_lacks_every_file_names_them_all(tlm: Tlm, home: Path, tmp_path: Path) -> None:
    vocabulary = ("--set", "tokenizer={kind: vocabulary}")
    said = tlm("run", "quickstart", *vocabulary, "--data-root", str(tmp_path / "nowhere"))
    expect_refusal(
        said,
        home,
        "wikipedia/*.parquet",
        "few_rel/val_wiki.json",
        "ag_news/train.parquet",
        "ag_news/test.parquet",
        "dbpedia_14/train.parquet",
        "bert-base-uncased/vocab.txt",
        "TLM_DATA_ROOT",
    )


def test_a_device_that_is_not_there(tlm: Tlm, home: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expect_refusal(tlm("run", study(), "--device", "cuda"), home, "device=cuda", "--device cpu")


def test_a_device_that_does_not_exist(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("run", study(), "--device", "tpu"), home, "device", "'tpu'", "cuda")


def test_a_run_that_nobody_recorded(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("explain", study(), "--against", "yesterday"), home, "'yesterday'", "none yet")


def test_a_selector_that_names_nothing(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("invalidate", "pretrain"), home, "'pretrain'")


def test_sql_without_a_query_and_with_a_missing_file(tlm: Tlm, home: Path) -> None:
    expect_refusal(tlm("sql"), home, "query or --file")
    expect_refusal(tlm("sql", "--file", "none.sql"), home, "Cannot read none.sql")


def test_a_scale_for_a_study_that_has_none(tlm: Tlm, home: Path, study: Study) -> None:
    expect_refusal(tlm("run", "demo", "--scale", "tiny"), home, "demo exists at one scale only", "Leave --scale")
    expect_refusal(tlm("run", study(), "--scale", "tiny"), home, "is no named study", "--scale")


def test_an_unknown_scale(tlm: Tlm, home: Path) -> None:
    for command in ("run", "plan", "show"):
        expect_refusal(tlm(command, "ws-sweep", "--scale", "huge"), home, "'huge'", "tiny, small, paper")


def test_an_import_of_nothing(tlm: Tlm, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    expect_refusal(tlm("import", str(tmp_path / "empty")), home, f"There are no artifacts in {tmp_path / 'empty'}")
    expect_refusal(tlm("import", str(tmp_path / "none")), home, f"{tmp_path / 'none'} is not a folder")


def test_a_report_before_any_study(tlm: Tlm, home: Path, tmp_path: Path) -> None:
    said = tlm("report", "--out", str(tmp_path / "docs/results.md"))
    expect_refusal(said, home, "No study that answers a question has run yet", "tlm run ws-sweep --scale tiny")
    assert not (tmp_path / "docs").exists()


def test_debug_shows_the_traceback(tlm: Tlm, monkeypatch: pytest.MonkeyPatch) -> None:
    from tlm.errors import UserError

    monkeypatch.setattr(sys, "argv", ["tlm", "run", "deno", "--debug"])
    with pytest.raises(UserError):
        cli.main()


# --- what works without running anything ---


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
        return re.sub(
            r"[\d.]+\s+GiB\s+are\s+free", "", tlm("plan", *studies, "--no-time").out
        )  # that changes all the time

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
    from flows.studies import STUDIES

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
