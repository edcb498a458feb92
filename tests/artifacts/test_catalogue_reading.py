"""A query reads the catalogue, wherever it lies, and can do nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from artifacts.catalogued import EMPTY_HERE, ROOT, copy, path_of, store_of, value

from tlm.artifacts import catalogue, marts
from tlm.errors import UserError
from tlm.stages import STAGES


def test_parameters_are_bound(home: Path) -> None:
    assert value(home, "select count(*) from token_counts where token = ?", "it's7") == 5
    named = catalogue.query(path_of(home), "select $label as label", {"label": "'; drop table runs; --"})
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
        catalogue.query(path_of(home), sql)
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
    folder = tmp_path / "home"
    path_of(folder).parent.mkdir(parents=True)
    shutil.copyfile(path_of(home), path_of(folder))
    (tmp_path / "secret.csv").write_text("the,secret\n1,2\n")
    python_table = catalogue.query(path_of(folder), "select 1 as one")
    assert python_table.num_rows == 1
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    places = {"folder": tmp_path, "secret": tmp_path / "secret.csv", "outside": tmp_path / "outside"}
    quoted = {name: str(path).replace("'", "''") for name, path in {**places, "catalogue": path_of(folder)}.items()}
    with pytest.raises(UserError) as caught:
        catalogue.query(path_of(folder), sql.format(**quoted))
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
    assert catalogue.query(path_of(home), sql).num_rows


def test_missing_or_broken_catalogue(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no catalogue"):
        catalogue.query(path_of(tmp_path), "select 1")
    path_of(tmp_path).parent.mkdir(parents=True)
    path_of(tmp_path).write_text("not a database")
    with pytest.raises(UserError, match="not a catalogue"):
        catalogue.query(path_of(tmp_path), "select 1")
    assert catalogue.is_stale(store_of(tmp_path), path_of(tmp_path), STAGES)
    catalogue.build(store_of(tmp_path), path_of(tmp_path), STAGES)
    assert not catalogue.is_stale(store_of(tmp_path), path_of(tmp_path), STAGES)


def test_moved_and_read_from_elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = copy(home, tmp_path / "moved")
    monkeypatch.chdir("/")
    assert not catalogue.is_stale(store_of(moved), path_of(moved), STAGES)
    shutil.rmtree(moved / "data" / "artifacts")
    with duckdb.connect(str(path_of(moved)), read_only=True) as plain:
        for mart in marts.MARTS:
            assert (plain.execute(f"select count(*) from {mart}").fetchone() != (0,)) == (mart not in EMPTY_HERE)
        assert all(not path.startswith("/") for (path,) in plain.execute("select path from runs").fetchall())


def test_asking_imports_nothing_heavy(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tlm.artifacts import catalogue\n"
        f"print(catalogue.query(Path({str(path_of(home))!r}), 'select 1 as one').to_pylist())\n"
        "assert not {'torch', 'transformers', 'prefect', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[{'one': 1}]", done.stderr
