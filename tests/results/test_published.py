"""Published marts: the same document without the home, each study's files its own, and nothing read that is not theirs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Tlm, command_line
from results.test_document import Home, command_of

from flows import publishing
from flows.publishing import publish_studies
from flows.rehearsing import variances_so_far
from tlm.errors import UserError
from tlm.machine.runtime import PACKAGE_PARENT, Runtime
from tlm.report.packed import LATER, LATER_COLUMNS, SCHEMAS
from tlm.results import published
from tlm.results.document import write_document
from tlm.results.published import FOLDER, answers, differences, folders, load
from tlm.results.published_columns import README, readme


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(publishing, "command_of", command_of)
    return Home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repository/docs" / FOLDER


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A home with one study, and where it is published."""
    home = Home(tmp_path_factory.mktemp("once") / "home")
    home.add(scale="tiny")
    folder = home.folder.parent / FOLDER
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "command_of", command_of)
        publish(home, folder)
    return home, folder


@pytest.fixture
def copied(once: tuple[Home, Path], folder: Path) -> Path:
    """What `once` published, to be changed."""
    return Path(shutil.copytree(once[1], folder))


def publish(home: Home, folder: Path, *names: str) -> list[str]:
    said: list[str] = []

    class Lines:
        def print(self, line: str, **how: object) -> None:
            said.append(line)

    publish_studies(home.store, names, folder, Lines())  # type: ignore[arg-type]
    return said


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- the same document ---


@pytest.mark.slow
@pytest.mark.slow
def test_the_document_and_its_plots_are_the_same_bytes_as_from_the_home(
    home: Home, folder: Path, really_drawn: None
) -> None:
    home.add("sweep", scale="tiny")
    home.add("mine", tracked=False, created="2026-02-01")
    home.write()
    publish(home, folder)
    write_document(answers(folder, command_of), folder.parent / "results.md")
    from_home, from_published = files(home.out.parent), files(folder.parent)
    assert {name: from_published[name] for name in from_home} == from_home and len(from_home) > 3


def test_publishing_again_makes_the_same_bytes_and_leaves_nothing_beside_them(
    once: tuple[Home, Path], home: Home, copied: Path
) -> None:
    before = files(copied)
    publish(once[0], copied)
    assert files(copied) == before
    assert set(before) == {README, *(f"sweep-tiny/{name}.parquet" for name in (*SCHEMAS, "study"))}


def test_a_result_keeps_its_key_commit_and_run(once: tuple[Home, Path]) -> None:
    home, folder = once
    [row, *_] = load(folder / "sweep-tiny").tables["results"].to_pylist()
    [record] = [record for record in home.store.records() if record.key == row["key"]]
    assert row["mlflow_run_id"] == (record.mlflow or {})["run_id"]
    assert row["git_commit"] == record.provenance["git_commit"]


def test_what_older_reports_do_not_have_is_empty_or_null(once: tuple[Home, Path], copied: Path) -> None:
    place = copied / "sweep-tiny"
    for name in LATER:
        (place / f"{name}.parquet").unlink()
    for name, columns in LATER_COLUMNS.items():
        if name in LATER:
            continue
        rewritten(place / f"{name}.parquet", lambda table, columns=columns: table.drop([*columns]))
    older, whole = load(place), load(once[1] / "sweep-tiny")
    assert {name for name, table in older.tables.items() if table.num_rows == 0} >= LATER
    assert older.tables["results"]["device"].null_count == older.tables["results"].num_rows
    results = [each.tables["results"].drop([*LATER_COLUMNS["results"]]) for each in (older, whole)]
    assert results[0].equals(results[1])


def test_the_readme_describes_every_column_of_every_file(once: tuple[Home, Path]) -> None:
    committed = PACKAGE_PARENT / "docs/published" / README
    assert committed.read_text(encoding="utf-8") == readme(), (
        "write it anew: python -m tlm.results.published_columns > docs/published/README.md"
    )
    assert (once[1] / README).read_text(encoding="utf-8") == readme()
    for name, schema in SCHEMAS.items():
        section = readme().partition(f"\n## {name}.parquet\n")[2].partition("\n## ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == schema.names


# --- several homes ---


def test_studies_of_several_homes_lie_side_by_side_and_only_those_asked_for_are_written(
    home: Home, copied: Path
) -> None:
    before = files(copied)
    home.add("other", scale="tiny")
    home.add("third", scale="small")
    publish(home, copied, "third-small")
    assert [place.name for place in folders(copied)] == ["sweep-tiny", "third-small"]
    assert before.items() <= files(copied).items(), "what was there stays as it was"


def test_a_study_that_is_published_again_is_replaced_whole(home: Home, copied: Path) -> None:
    (copied / "sweep-tiny/of-an-older-version.parquet").write_bytes(b"")
    home.add(scale="tiny", finetune_seeds=(0, 1, 2))
    publish(home, copied)
    assert load(copied / "sweep-tiny").study.finetune_seeds == (0, 1, 2)
    assert len(files(copied / "sweep-tiny")) == len(SCHEMAS) + 1


def test_what_is_published_stays_when_a_new_one_fails(
    once: tuple[Home, Path], home: Home, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, move = files(copied), published.os.replace

    def fail(one: Path, other: Path) -> None:
        if one.name.endswith(".draft"):
            raise OSError("no space left")
        move(one, other)

    monkeypatch.setattr(published.os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        publish(once[0], copied)
    assert files(copied) == before


def test_other_settings_at_one_scale_are_said(home: Home, copied: Path) -> None:
    home.add("other", scale="tiny")
    assert not [line for line in publish(home, copied) if line.startswith("different")]
    home.add("third", scale="tiny", finetune={"epochs": 2})
    said = [line for line in publish(home, copied) if line.startswith("different")]
    assert said and all("third-tiny" in line for line in said)
    third = load(copied / "third-tiny")
    elsewhere = replace(third, study=third.study.model_copy(update={"scale": "small"}))
    assert differences({"other": load(copied / "other-tiny"), "third": elsewhere}) == [], (
        "of two scales nothing is said"
    )


def test_a_study_that_has_not_run_here_is_named_before_anything_is_written(
    once: tuple[Home, Path], home: Home, folder: Path
) -> None:
    with pytest.raises(UserError, match=r"committee has not run here \(what has: sweep-tiny\)"):
        publish(once[0], folder, "sweep", "committee")
    assert not folder.exists()


# --- what is read ---


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no parquet": ("results", lambda path: path.write_bytes(b"PK not parquet"), "cannot be read"),
    "cut short": ("correct", lambda path: path.write_bytes(path.read_bytes()[:-20]), "cannot be read"),
    "missing": ("overlap", lambda path: path.unlink(), "cannot be read"),
    "another type": (
        "results",
        lambda path: rewritten(
            path, lambda t: t.set_column(t.column_names.index("ws"), "ws", t["ws"].cast(pa.string()))
        ),
        "ws is string, not int64",
    ),
    "a column less": ("runs", lambda path: rewritten(path, lambda t: t.drop(["seconds"])), "no seconds"),
    "a column more": (
        "runs",
        lambda path: rewritten(path, lambda t: t.append_column("x", pa.nulls(len(t)))),
        "x is not one of them",
    ),
    "fewer items": ("items", lambda path: rewritten(path, lambda t: t.slice(1)), "items of"),
    "another accuracy": (
        "results",
        lambda path: rewritten(
            path,
            lambda t: t.set_column(
                t.column_names.index("accuracy"), "accuracy", pa.array([0.123] * len(t), pa.float64())
            ),
        ),
        "its accuracy is 12.30 %",
    ),
    "a result without items": ("correct", lambda path: rewritten(path, lambda t: t.slice(1)), "correct lacks"),
    "no study": ("study", lambda path: rewritten(path, lambda t: t.slice(1)), "0 rows"),
    "an unknown study": (
        "study",
        lambda path: rewritten(path, lambda t: t.set_column(0, "study", pa.array(["{}"], pa.string()))),
        "does not know",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_file_is_named_with_the_way_out(how: str, copied: Path) -> None:
    name, breaks, words = BROKEN[how]
    breaks(copied / f"sweep-tiny/{name}.parquet")
    with pytest.raises(UserError, match=words) as caught:
        load(copied / "sweep-tiny")
    assert "sweep-tiny" in caught.value.problem and "tlm publish sweep-tiny" in str(caught.value)


def test_a_folder_under_another_name_is_refused(copied: Path) -> None:
    (copied / "sweep-tiny").rename(copied / "copy")
    with pytest.raises(UserError, match="copy holds sweep-tiny"):
        answers(copied, command_of)


def test_a_published_study_that_is_not_the_named_one_any_more_is_left_out_and_said_to_be(
    once: tuple[Home, Path],
) -> None:
    found = answers(once[1], lambda study: None)
    assert found.answered == [] and found.left_out == {"sweep-tiny": "has other fields than the named study now has"}


def test_nothing_published_is_one_line_with_the_way_out(folder: Path) -> None:
    with pytest.raises(UserError, match=r"No study that answers a question is published yet\. Try: tlm publish"):
        write_document(answers(folder, command_of), folder.parent / "results.md")


# --- the commands, and a plan ---


def test_the_commands_publish_and_report_from_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.add("mine")
    monkeypatch.setenv("TLM_HOME", str(home.folder))
    monkeypatch.chdir(home.folder)
    tlm: Tlm = command_line(monkeypatch, capsys)
    assert tlm("report").code == 0
    before = home.out.read_bytes()
    said = tlm("publish")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1].startswith("docs/published: 1 studies, ")
    home.out.unlink()
    assert tlm("report", "--published").code == 0
    assert home.out.read_bytes() == before


def test_an_empty_home_plans_with_the_variances_of_what_is_published(
    home: Home, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.add("again", scale="tiny")
    publish(home, copied)
    monkeypatch.setattr("flows.rehearsing.PUBLISHED", copied)
    found, source = variances_so_far(Runtime(home=str(tmp_path / "empty"), device="cpu"))
    trained = {record.key for record in home.store.records() if record.stage == "finetune"}
    assert found.runs == len(trained) and f"{len(trained)} published runs" in source, "a run of two studies counts once"
