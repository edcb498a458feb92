"""The catalogue: rebuilt from records alone, portable, consistent, and safe to read while it is replaced."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from helpers import edit_record
from report.synthetic import publish, publish_step, study

from tlm.artifacts import catalogue, marts, sql_models
from tlm.artifacts.record import RECORD
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.planning.plan import plan
from tlm.stages import STAGES

ROOT = Path(catalogue.__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose path would be a partition, or end a string, to a careless reader; never changed by a test."""
    folder = tmp_path_factory.mktemp("it's {a} home") / "seed=3"
    publish(study(folder / "raw"), _store(folder), folder / "raw")
    assert catalogue.build(_store(folder), _path(folder), STAGES) == {}
    return folder


def _store(home: Path) -> ArtifactStore:
    return ArtifactStore(f"{home}/data/artifacts")


def _path(home: Path) -> Path:
    return home / "data" / "catalogue.duckdb"


def _value(home: Path, sql: str, *parameters: object) -> object:
    return catalogue.query(_path(home), sql, list(parameters)).column(0)[0].as_py()


def _copy(home: Path, to: Path) -> Path:
    shutil.copytree(home, to)
    return to


def _part(home: Path, to: Path) -> Path:
    """Two artifacts of each of some stages."""
    for stage in ("source", "task", "finetune", "baseline"):
        for folder in sorted((home / "data/artifacts" / stage).iterdir())[:2]:
            shutil.copytree(folder, to / "data/artifacts" / stage / folder.name)
    return to


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


# --- models ---


EMPTY_HERE = ("likelihood", "likelihood_items", "likelihood_groups", "likelihood_units", "studies")
"""Marts of evaluations that the study here does not ask for, and of its report, which is not made."""


def test_every_mart_is_built_and_described(home: Path) -> None:
    files = {path.stem for path in (sql_models.sql_folder() / "marts").glob("*.sql")}
    assert files == set(marts.MARTS)
    for mart in marts.MARTS:
        columns = catalogue.query(_path(home), f"describe {mart}").column("column_name").to_pylist()
        assert list(sql_models.column_descriptions(mart)) == columns
        assert bool(_value(home, f"select count(*) from {mart}")) == (mart not in EMPTY_HERE)
    assert not _value(home, "select count(*) from duckdb_columns() where comment is null and table_name not in "
        "(select view_name from duckdb_views())")  # fmt: skip
    undescribed = "select count(*) from duckdb_tables() where comment is null or comment not like '%.'"
    assert not _value(home, undescribed), "a sentence for each table"


def test_empty_store(tmp_path: Path) -> None:
    catalogue.build(_store(tmp_path), _path(tmp_path), STAGES)
    for mart in marts.MARTS:
        assert _value(tmp_path, f"select count(*) from {mart}") == 0
    for query in (sql_models.sql_folder() / "queries").glob("*.sql"):
        assert catalogue.query(_path(tmp_path), query.read_text()).num_rows == 0
    types = dict(duckdb.connect(str(_path(tmp_path)), read_only=True).execute("select column_name, data_type from "
        "duckdb_columns() where table_name = 'predictions'").fetchall())  # fmt: skip
    assert types["logits"] == "FLOAT[]" and types["item_id"] == "VARCHAR"


ELSEWHERE = {"likelihood_is_that_of_its_items", "likelihood_is_that_of_its_units"}
"""Checks of what the study here does not ask for: tests/stages/test_likelihood_stage.py does."""


def test_a_query_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(UserError, match="gap_by_ws"):
        sql_models.ready_query("nothing")


def test_results_join_overlap_and_pretraining(home: Path) -> None:
    table = catalogue.query(
        _path(home),
        "select ws, treatment, injected_tokens, missing_from_corpus, type_overlap, heldout_loss, corpus_seed, "
        "parameters "
        "from results where task = 'topics' and arch = 'deep' and finetune_seed = 1 order by ws, treatment nulls first",
    )
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (0, None, None, None, None, None, None, 6000),
        (100, None, None, 20, 0.5, 5.25, 0, 6000),
        (400, None, None, 5, 0.875, 5.25, 0, 6000),
        (400, "random-unk-5", 5, 10, 0.75, 5.25, 0, 6000),
    ]
    committee = "from results where kind = 'committee' and task = 'topics' and ws = 400 and rule = 'soft'"
    row = catalogue.query(_path(home), f"select members, parameters, type_overlap {committee}")
    assert row.to_pylist() == [{"members": 4, "parameters": 14_000, "type_overlap": 0.875}]


def test_lineage_leads_from_accuracy_to_corpus(home: Path) -> None:
    stages = catalogue.query(
        _path(home),
        """with recursive up as (
            select key from results where task = 'topics' and ws = 400 and arch = 'deep'
            union select input_key from lineage inner join up using (key)
        ) select distinct stage from up inner join runs using (key)""",
    )
    assert set(stages.column(0).to_pylist()) >= {"finetune", "pretrain", "corpus", "tokens", "source", "tokenizer"}


def test_settings_keep_different_protocols_apart(home: Path, tmp_path: Path) -> None:
    home = _copy(home, tmp_path / "home")
    longer = study(home / "raw", finetune={"epochs": 2})
    publish(longer, _store(home), home / "raw")
    catalogue.build(_store(home), _path(home), STAGES)
    sql = "select count(*), min(runs), count(gap) from gaps where task = 'topics' and system = 'deep' and ws = 100"
    assert tuple(catalogue.query(_path(home), sql).to_pylist()[0].values()) == (2, 2, 2)


def test_memory_has_only_the_given_records_and_their_new_labels(home: Path) -> None:
    store = _store(home)
    some = [record for record in store.records() if record.labels.get("task") == "relations"]
    labels = {record.key: {"task": "it's mine"} for record in some}
    with marts.build_memory(store, some, STAGES, labels) as connection:
        assert connection.execute("select distinct task from results").fetchall() == [("it's mine",)]


def test_a_path_is_never_a_pattern(tmp_path: Path) -> None:
    for name in ("h[1]*", "h1x"):
        home = tmp_path / name
        records = publish(study(home / "raw"), _store(home), home / "raw")
    with marts.build_memory(_store(tmp_path / "h[1]*"), records, STAGES) as connection:
        assert connection.execute("select count(*) from results").fetchall() == [(50,)]


# --- reading ---


def test_parameters_are_bound(home: Path) -> None:
    assert _value(home, "select count(*) from token_counts where token = ?", "it's7") == 5
    named = catalogue.query(_path(home), "select $label as label", {"label": "'; drop table runs; --"})
    assert named.to_pylist() == [{"label": "'; drop table runs; --"}]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select nope from results", "nope"),
        ("selec 1", "syntax error"),
        ("", "no SQL statement"),
        ("drop table runs", "read-only"),
        ("select ? as x", "parameter"),
    ],
)
def test_sql_errors_are_one_line(home: Path, sql: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        catalogue.query(_path(home), sql)
    assert "\n" not in str(caught.value)


FORBIDDEN = """
copy (select 1) to '{outside}'
copy (pivot (select 1 as a, 2 as b) on a using sum(b)) to '{outside}'
copy (select 1) to '{catalogue}.wal'
copy (select 1) to '{catalogue}' (use_tmp_file false)
copy (select 1) to '.tmp/x'
explain analyze copy (select 1) to '{catalogue}.wal'
prepare p as copy (select 1) to '{catalogue}.wal'; execute p
with a as (copy (select 1) to '{catalogue}.wal') select * from a
with a as (insert into runs select * from runs returning key) select * from a
use memory; detach catalogue; attach '{catalogue}' as again; create table again.main.x as select 1; select 1
attach '{outside}' as other
export database '{outside}'
import database '{folder}'
copy runs from '{secret}'
select * from read_text('{secret}')
select * from read_csv('{secret}')
select * from read_blob('{secret}')
select * from '{secret}'
select * from glob('{folder}/*')
select * from sniff_csv('{secret}')
select * from python_table
set enable_external_access = true; select * from read_text('{secret}')
set lock_configuration = false
reset memory_limit
install httpfs
load httpfs
create secret (type s3)
create table runs2 as select * from runs
insert into runs select * from runs
update runs set key = 'x'
delete from runs
drop table runs
alter table runs add column x int
select 1; drop table runs
"""


@pytest.mark.parametrize("sql", FORBIDDEN.strip().splitlines())
def test_a_query_reads_the_catalogue_and_can_do_nothing_else(home: Path, tmp_path: Path, sql: str) -> None:
    folder = _copy(home, tmp_path / "home")
    (tmp_path / "secret.csv").write_text("the,secret\n1,2\n")
    python_table = catalogue.query(_path(folder), "select 1 as one")
    assert python_table.num_rows == 1
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places = {"folder": tmp_path, "secret": tmp_path / "secret.csv", "outside": tmp_path / "outside"}
    quoted = {name: str(path).replace("'", "''") for name, path in {**places, "catalogue": _path(folder)}.items()}
    with pytest.raises(UserError) as caught:
        catalogue.query(_path(folder), sql.format(**quoted))
    assert "\n" not in str(caught.value) and caught.value.remedy
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "sql",
    [
        *("describe results", "show tables", "summarize results", "from results", "table runs", "values (1)"),
        *("with a as (select 1 as x) select * from a", "select 1 as x; select 2 as x", "-- a comment\nselect 1;"),
        *("pivot (select 1 as a, 2 as b) on a using sum(b)", "explain from results"),
    ],
)
def test_every_kind_of_reading_is_allowed(home: Path, sql: str) -> None:
    assert catalogue.query(_path(home), sql).num_rows


def test_missing_or_broken_catalogue(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no catalogue"):
        catalogue.query(_path(tmp_path), "select 1")
    _path(tmp_path).parent.mkdir(parents=True)
    _path(tmp_path).write_text("not a database")
    with pytest.raises(UserError, match="not a catalogue"):
        catalogue.query(_path(tmp_path), "select 1")
    assert catalogue.is_stale(_store(tmp_path), _path(tmp_path), STAGES)
    catalogue.build(_store(tmp_path), _path(tmp_path), STAGES)
    assert not catalogue.is_stale(_store(tmp_path), _path(tmp_path), STAGES)


def test_moved_and_read_from_elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = _copy(home, tmp_path / "moved")
    monkeypatch.chdir("/")
    assert not catalogue.is_stale(_store(moved), _path(moved), STAGES)
    shutil.rmtree(moved / "data" / "artifacts")
    with duckdb.connect(str(_path(moved)), read_only=True) as plain:
        for mart in marts.MARTS:
            assert (plain.execute(f"select count(*) from {mart}").fetchone() != (0,)) == (mart not in EMPTY_HERE)
        assert all(not path.startswith("/") for (path,) in plain.execute("select path from runs").fetchall())


def test_asking_imports_nothing_heavy(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tlm.artifacts import catalogue\n"
        f"print(catalogue.query(Path({str(_path(home))!r}), 'select 1 as one').to_pylist())\n"
        "assert not {'torch', 'transformers', 'prefect', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[{'one': 1}]", done.stderr


# --- building ---


def test_stale_after_a_new_or_damaged_artifact(home: Path, tmp_path: Path) -> None:
    home = _copy(home, tmp_path / "home")
    store = _store(home)
    assert not catalogue.is_stale(store, _path(home), STAGES)
    baseline = next(record for record in store.records() if record.stage == "baseline")
    os.remove(store.local_path(baseline, "predictions.parquet"))
    assert catalogue.is_stale(store, _path(home), STAGES)
    catalogue.build(store, _path(home), STAGES)
    assert _value(home, "select count(*) from results where kind = 'baseline'") == 3


def test_what_contradicts_the_rest_is_left_out_and_named(home: Path, tmp_path: Path) -> None:
    planned = plan(study(home / "raw"), str(home / "raw"))
    home = _part(home, tmp_path / "home")
    step = next(step for step in planned.steps if step.stage == "finetune")
    _store(home).delete(step.ref)
    runs = len(list(_store(home).records())) + 1
    publish_step(_store(home), step, planned, facts={"test_accuracy": 0.95})
    left = catalogue.build(_store(home), _path(home), STAGES)
    assert list(left) == [str(step.ref)]
    assert f"check predictions_give_the_accuracy found {{'key': '{step.key}'" in left[str(step.ref)]
    assert catalogue.left_out(_path(home)) == left
    assert _value(home, "select count(*) from runs") == runs - 1
    assert not catalogue.is_stale(_store(home), _path(home), STAGES)
    assert sorted(path.name for path in _path(home).parent.iterdir()) == [
        ".catalogue.duckdb.lock",
        "artifacts",
        "catalogue.duckdb",
    ]
    with pytest.raises(UserError, match=rf"{step.ref} cannot be used: .*`tlm invalidate {step.ref} --yes`"):
        marts.build_memory(_store(home), _store(home).records(), STAGES)


def test_every_absurd_record_is_left_out_and_named_and_all_others_are_shown(home: Path, tmp_path: Path) -> None:
    home = _part(home, tmp_path / "home")
    records = list(_store(home).records())
    absurd: dict[str, dict[str, object]] = {
        "finetune": {"labels": {"ws": 2**70}},
        "baseline": {"facts": {"test_accuracy": "high"}},
        "source": {"created": "2025-W01-1T00:00:00+00:00"},
        "task": {"provenance": {"git_dirty": "perhaps"}},
    }
    names = []
    for stage, changes in absurd.items():
        names.append(str(next(record for record in records if record.stage == stage).ref))
        edit_record(_store(home).root / Path(names[-1]), **changes)
    assert sorted(catalogue.build(_store(home), _path(home), STAGES)) == sorted(names)
    assert _value(home, "select count(*) from runs") == len(records) - len(names)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: edit_record(folder, sealed=False, seconds=9e9), "record.json was edited"),
        (lambda folder: (folder / RECORD).write_text("{}"), "record.json is not a record"),
        (lambda folder: (folder / "predictions.parquet").unlink(), "predictions.parquet is missing"),
        (lambda folder: flip_a_byte(folder / "predictions.parquet"), "predictions.parquet differs from the digest"),
        (lambda folder: shutil.copytree(folder, f"{folder}.bak"), "its record.json is that of "),
    ],
)
def test_what_is_damaged_is_left_out_and_named_until_it_is_mended(
    home: Path, tmp_path: Path, damage: Callable[[Path], object], says: str
) -> None:
    """A bit that flips in a table is seen once the catalogue is built: what it showed before is what was measured."""
    home = _copy(home, tmp_path / "home")
    record = next(record for record in _store(home).records() if record.stage == "baseline")
    folder = Path(_store(home).root) / str(record.ref)
    shutil.copytree(folder, tmp_path / "whole")
    rows = catalogue.query(_path(home), "select * from results").to_pylist()
    damage(folder)
    [(name, reason)] = catalogue.build(_store(home), _path(home), STAGES).items()
    assert name.startswith(str(record.ref)) and reason.startswith(says)
    shown = catalogue.query(_path(home), "select * from results").to_pylist()
    assert shown == [row for row in rows if row["key"] != record.key or name != str(record.ref)]
    for left in folder.parent.glob(f"{folder.name}*"):
        shutil.rmtree(left)
    (tmp_path / "whole").rename(folder)
    assert catalogue.is_stale(_store(home), _path(home), STAGES)
    assert catalogue.build(_store(home), _path(home), STAGES) == {}
    assert catalogue.query(_path(home), "select * from results").to_pylist() == rows


def test_models_of_corpora_that_are_left_out_are_not_taken_for_models_of_one(home: Path, tmp_path: Path) -> None:
    home = _copy(home, tmp_path / "home")
    query = "select setting, pretrain_setting from gaps where kind in ('finetune', 'committee') order by all"
    before = len(catalogue.query(_path(home), query).to_pylist())
    for stage in ("corpus", "inject", "pretrain"):
        shutil.rmtree(Path(_store(home).root) / stage)
        catalogue.build(_store(home), _path(home), STAGES)
        assert len(catalogue.query(_path(home), query).to_pylist()) >= before, stage
        assert _value(home, "select count(*) from results where ws > 0 and pretrain_setting is null") == 0, stage
    step = next(
        record for record in _store(home).records() if record.stage == "finetune" and record.labels["ws"] == 100
    )
    shutil.rmtree(Path(_store(home).root) / str(step.ref))
    catalogue.build(_store(home), _path(home), STAGES)
    without = "select distinct key from results where kind = 'committee' and parameters is null"
    [key] = catalogue.query(_path(home), without).column(0).to_pylist()
    assert _value(home, "select count(*) from lineage where key = ? and input_key = ?", key, step.key) == 1


@pytest.mark.parametrize("how", [lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_stands_in_the_catalogues_place_gives_way(
    home: Path, tmp_path: Path, how: Callable[[Path], object]
) -> None:
    home = _copy(home, tmp_path / "home")
    _path(home).unlink()
    how(_path(home))
    assert catalogue.is_stale(_store(home), _path(home), STAGES)
    catalogue.build(_store(home), _path(home), STAGES)
    assert _value(home, "select count(*) from runs")


def test_a_damaged_catalogue_is_told_from_wrong_sql(home: Path, tmp_path: Path) -> None:
    """DuckDB sees it when it reads the block: each has a checksum."""
    with pytest.raises(UserError) as wrong:
        catalogue.query(_path(home), "selec 1")
    assert not isinstance(wrong.value, catalogue.CatalogueDamaged)
    home = _copy(home, tmp_path / "home")
    content = bytearray(_path(home).read_bytes())
    for place in range(4 * 4096, len(content), 4096):
        content[place] ^= 1
    _path(home).write_bytes(content)
    with pytest.raises(catalogue.CatalogueDamaged, match="Delete it: it can be rebuilt"):
        for mart in marts.MARTS:
            catalogue.query(_path(home), f"select * from {mart}")


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("update overlap set common_types = common_types + 1", "overlap_adds_up"),
        ("update results set accuracy = 1.5 where kind = 'baseline'", "accuracy_is_a_share"),
        ("insert into metrics select * from metrics limit 1", "keys_are_unique"),
        ("delete from runs where stage = 'committee'", "rows_have_a_run"),
        ("delete from injected_tokens where token_id = 6", "injection_removed_what_it_lists"),
        ("delete from predictions where kind = 'committee'", "predictions_give_the_accuracy"),
    ],
)
def test_every_check_can_fail(home: Path, change: str, check: str) -> None:
    store = _store(home)
    with marts.build_memory(store, store.records(), STAGES) as connection:
        sql = (sql_models.sql_folder() / "checks" / f"{check}.sql").read_text()
        assert connection.execute(sql).fetchall() == []
        connection.execute(change)
        assert connection.execute(sql).fetchall()


def test_every_check_is_tested() -> None:
    checks = {path.stem for path in (sql_models.sql_folder() / "checks").glob("*.sql")}
    assert checks - ELSEWHERE == {mark[1] for mark in test_every_check_can_fail.pytestmark[0].args[1]}


def test_a_table_of_anothers_making_is_left_out_and_named(home: Path, tmp_path: Path) -> None:
    """Its record has the digest of what is no Parquet file."""
    place = sorted((home / "data/artifacts/overlap").iterdir())[0]
    home = _part(home, tmp_path / "home")
    shutil.copytree(place, home / "data/artifacts/overlap" / place.name)
    record = next(record for record in _store(home).records() if record.stage == "overlap")
    folder = Path(_store(home).root) / str(record.ref)
    (folder / "overlap.parquet").write_bytes(b"\0" * 100)
    outputs = {name: output.model_dump() for name, output in record.outputs.items()}
    outputs["overlap.parquet"] = {"sha256": hashlib.sha256(b"\0" * 100).hexdigest(), "bytes": 100}
    edit_record(folder, outputs=outputs)
    [(name, reason)] = catalogue.build(_store(home), _path(home), STAGES).items()
    assert name == str(record.ref) and "overlap.parquet" in reason and "\n" not in reason


def test_a_model_in_foreign_bytes_is_an_error_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "mine.sql").write_bytes("select 'für'".encode("latin-1"))
    monkeypatch.setattr(sql_models, "sql_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"Cannot read .*mine\.sql: byte 9 is not UTF-8\."):
        sql_models.ready_query("mine")


@pytest.mark.slow
@pytest.mark.slow
def test_concurrent_builds_while_a_reader_holds_the_file(home: Path, tmp_path: Path) -> None:
    home = _copy(home, tmp_path / "home")
    code = (
        "import sys; from pathlib import Path; from tlm.artifacts import catalogue\n"
        "from tlm.artifacts.store import ArtifactStore; from tlm.stages import STAGES\n"
        "catalogue.build(ArtifactStore(sys.argv[1]), Path(sys.argv[2]), STAGES)"
    )
    with catalogue.connect(_path(home)) as reader:
        before = reader.execute("select count(*) from results").fetchone()
        publish(study(home / "raw", finetune_seeds=(0, 1, 2)), _store(home), home / "raw")
        builders = [
            subprocess.Popen([sys.executable, "-c", code, f"{home}/data/artifacts", str(_path(home))], cwd=ROOT)
            for _ in range(3)
        ]
        assert [builder.wait(120) for builder in builders] == [0, 0, 0]
        assert reader.execute("select count(*) from results").fetchone() == before
        assert (_value(home, "select count(*) from results"),) > (before or ())
    assert not catalogue.is_stale(_store(home), _path(home), STAGES)


def test_a_killed_build_leaves_the_old_catalogue(home: Path, tmp_path: Path) -> None:
    home = _copy(home, tmp_path / "home")
    code = (
        "import sys, time; from pathlib import Path; from tlm.artifacts import catalogue\n"
        "from tlm.artifacts.store import ArtifactStore; from tlm.stages import STAGES\n"
        "from tlm.artifacts import marts; marts._check = lambda connection: time.sleep(60)\n"
        "catalogue.build(ArtifactStore(sys.argv[1]), Path(sys.argv[2]), STAGES)"
    )
    before = _path(home).read_bytes()
    builder = subprocess.Popen([sys.executable, "-c", code, f"{home}/data/artifacts", str(_path(home))], cwd=ROOT)
    deadline = time.monotonic() + 30
    while not list(_path(home).parent.glob(".catalogue.duckdb-*/*.duckdb")) and time.monotonic() < deadline:
        time.sleep(0.05)
    builder.kill()
    builder.wait(30)
    assert _path(home).read_bytes() == before
    catalogue.build(_store(home), _path(home), STAGES)
    assert not list(_path(home).parent.glob(".catalogue.duckdb-*"))
