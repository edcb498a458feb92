"""The catalogue: its tables, made from records alone, say what the records say."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from artifacts.catalogued import EMPTY_HERE, copy, path_of, store_of, value
from report.synthetic import publish, study

from tlm.artifacts import catalogue, marts, sql_models
from tlm.errors import UserError
from tlm.stages import STAGES


def test_every_mart_is_built_and_described(home: Path) -> None:
    files = {path.stem for path in (sql_models.sql_folder() / "marts").glob("*.sql")}
    assert files == set(marts.MARTS)
    for mart in marts.MARTS:
        columns = catalogue.query(path_of(home), f"describe {mart}").column("column_name").to_pylist()
        assert list(sql_models.column_descriptions(mart)) == columns
        assert bool(value(home, f"select count(*) from {mart}")) == (mart not in EMPTY_HERE)
    assert not value(home, "select count(*) from duckdb_columns() where comment is null and table_name not in "
        "(select view_name from duckdb_views())")  # fmt: skip
    undescribed = "select count(*) from duckdb_tables() where comment is null or comment not like '%.'"
    assert not value(home, undescribed), "a sentence for each table"


def test_empty_store(tmp_path: Path) -> None:
    catalogue.build(store_of(tmp_path), path_of(tmp_path), STAGES)
    for mart in marts.MARTS:
        assert value(tmp_path, f"select count(*) from {mart}") == 0
    for query in (sql_models.sql_folder() / "queries").glob("*.sql"):
        assert catalogue.query(path_of(tmp_path), query.read_text()).num_rows == 0
    types = dict(duckdb.connect(str(path_of(tmp_path)), read_only=True).execute("select column_name, data_type from "
        "duckdb_columns() where table_name = 'predictions'").fetchall())  # fmt: skip
    assert types["logits"] == "FLOAT[]" and types["item_id"] == "VARCHAR"


def test_a_query_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(UserError, match="gap_by_ws"):
        sql_models.ready_query("nothing")


def test_results_join_overlap_and_pretraining(home: Path) -> None:
    table = catalogue.query(
        path_of(home),
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
    row = catalogue.query(path_of(home), f"select members, parameters, type_overlap {committee}")
    assert row.to_pylist() == [{"members": 4, "parameters": 14_000, "type_overlap": 0.875}]


def test_lineage_leads_from_accuracy_to_corpus(home: Path) -> None:
    stages = catalogue.query(
        path_of(home),
        """with recursive up as (
            select key from results where task = 'topics' and ws = 400 and arch = 'deep'
            union select input_key from lineage inner join up using (key)
        ) select distinct stage from up inner join runs using (key)""",
    )
    assert set(stages.column(0).to_pylist()) >= {"finetune", "pretrain", "corpus", "tokens", "source", "tokenizer"}


def test_settings_keep_different_protocols_apart(home: Path, tmp_path: Path) -> None:
    home = copy(home, tmp_path / "home")
    longer = study(home / "raw", finetune={"epochs": 2})
    publish(longer, store_of(home), home / "raw")
    catalogue.build(store_of(home), path_of(home), STAGES)
    sql = "select count(*), min(runs), count(gap) from gaps where task = 'topics' and system = 'deep' and ws = 100"
    assert tuple(catalogue.query(path_of(home), sql).to_pylist()[0].values()) == (2, 2, 2)


def test_memory_has_only_the_given_records_and_their_new_labels(home: Path) -> None:
    store = store_of(home)
    some = [record for record in store.records() if record.labels.get("task") == "relations"]
    labels = {record.key: {"task": "it's mine"} for record in some}
    with marts.build_memory(store, some, STAGES, labels) as connection:
        assert connection.execute("select distinct task from results").fetchall() == [("it's mine",)]


def test_a_path_is_never_a_pattern(tmp_path: Path) -> None:
    for name in ("h[1]*", "h1x"):
        home = tmp_path / name
        records = publish(study(home / "raw"), store_of(home), home / "raw")
    with marts.build_memory(store_of(tmp_path / "h[1]*"), records, STAGES) as connection:
        assert connection.execute("select count(*) from results").fetchall() == [(50,)]
