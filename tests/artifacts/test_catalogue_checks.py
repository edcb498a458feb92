"""What must hold of the catalogue's tables is checked, and every check can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from artifacts.catalogued import store_of

from tlm.artifacts import marts, sql_models
from tlm.stages import STAGES

ELSEWHERE = {"likelihood_is_that_of_its_items", "likelihood_is_that_of_its_units"}
"""Checks of what the study here does not ask for: tests/stages/test_likelihood_stage.py does."""


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
    store = store_of(home)
    with marts.build_memory(store, store.records(), STAGES) as connection:
        sql = (sql_models.sql_folder() / "checks" / f"{check}.sql").read_text()
        assert connection.execute(sql).fetchall() == []
        connection.execute(change)
        assert connection.execute(sql).fetchall()


def test_every_check_is_tested() -> None:
    checks = {path.stem for path in (sql_models.sql_folder() / "checks").glob("*.sql")}
    assert checks - ELSEWHERE == {mark[1] for mark in test_every_check_can_fail.pytestmark[0].args[1]}
