"""The ready queries of sql/queries: each answers its question, on the catalogue and on published files alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patches import Rectangle
from results.test_document import Home, command_of
from results.undrawn import no_plots

from tlm.artifacts import catalogue
from tlm.artifacts.sql_models import column_descriptions, description, models, ready_query, sql_folder
from tlm.machine.runtime import PACKAGE_PARENT
from tlm.results.answers import of_home
from tlm.results.published import FOLDER, publish
from tlm.stages import STAGES

Row = dict[str, Any]
TEN_QUESTIONS = {
    *("overlap_by_ws", "accuracy_by_overlap", "missing_tokens_by_ws", "committee_against_best_member"),
    *("errors_by_label", "errors_by_label_pair", "cost_per_point", "lineage_of_result", "learning_curves"),
    *("differences_between_runs", "spread_over_seeds"),
}
"""Errors have a query by label and one by pair of labels."""


class Asked:
    """A catalogue of two made-up studies (`report.synthetic.study`) that share all but their reports, and a repository in
    which both are published."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        for name in ("sweep", "again"):
            self.home.add(name, scale="tiny")
        self.path = folder / "catalogue.duckdb"
        assert catalogue.build(self.home.store, self.path, STAGES) == {}
        self.repository = folder / "repository"
        for each in of_home(self.home.store, command_of).answered:
            assert each.report is not None
            publish(each.report, each.study, self.repository / "docs" / FOLDER)
        (self.repository / "sql").symlink_to(sql_folder())

    def __call__(self, query: str, variables: dict[str, str] | None = None, **wanted: Any) -> list[Row]:
        """The rows of a ready query in which columns have the wanted values."""
        found = catalogue.query(self.path, ready_query(query), variables=variables).to_pylist()
        return [row for row in found if all(row[name] == value for name, value in wanted.items())]

    def key(self, **wanted: Any) -> str:
        rows = catalogue.query(self.path, "select * from results where rule is null or rule = 'soft'").to_pylist()
        [key] = [row["key"] for row in rows if all(row[name] == value for name, value in wanted.items())]
        return str(key)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    with pytest.MonkeyPatch.context() as patch:
        no_plots(patch)
        return Asked(tmp_path_factory.mktemp("cookbook"))


def picked(rows: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


@pytest.mark.parametrize("query", models("queries"))
def test_every_query_says_what_it_asks_and_what_each_column_is(query: str, asked: Asked) -> None:
    found = catalogue.query(asked.path, ready_query(query))
    assert list(column_descriptions(query, "queries")) == found.column_names
    assert len(description(query, "queries")) > 40


def test_overlap_grows_with_ws_and_missing_tokens_are_what_it_lacks(asked: Asked) -> None:
    rows = asked("overlap_by_ws", task="topics")
    assert picked(rows, "studies", "treatment", "ws", "sets", "type_overlap", "missing_tokens") == [
        ("again-tiny, sweep-tiny", None, 100, 1, 50.0, 20.0),
        ("again-tiny, sweep-tiny", None, 400, 1, 87.5, 5.0),
        ("again-tiny, sweep-tiny", "random-unk-5", 400, 1, 75.0, 10.0),
    ]


def test_accuracy_and_gap_stand_beside_overlap(asked: Asked) -> None:
    rows = asked("accuracy_by_overlap", task="topics", system="deep")
    assert picked(rows, "ws", "treatment", "type_overlap", "accuracy", "gap") == [
        (100, None, 50.0, 44.0, 3.0),
        (400, "random-unk-5", 75.0, 61.0, 20.0),
        (400, None, 87.5, 71.0, 30.0),
    ]


def test_the_missing_tokens_of_a_set_are_the_most_frequent_ones_it_lacks(asked: Asked) -> None:
    rows = asked("missing_tokens_by_ws", task="topics", ws=400, treatment=None)
    assert picked(rows, "token", "task_count") == [(f"it's{n}", 1 + n) for n in (4, 3, 2, 1, 0)]
    assert len(asked("missing_tokens_by_ws", task="topics", ws=100)) == 10


def test_the_best_member_is_the_one_a_user_would_choose(asked: Asked) -> None:
    [row] = asked("committee_against_best_member", task="topics", ws=400, rule="soft")
    assert row["accuracy"] == 60.0 and row["members"] == 4
    # All four have one dev accuracy: the first by name and seeds, not the one that is best on test.
    assert (row["member"], row["finetune_seed"], row["member_accuracy"], row["difference"]) == ("deep", 0, 70.0, -10.0)
    assert (row["mean_member_accuracy"], row["luckiest_accuracy"]) == (71.0, 72.0)


def test_errors_are_counted_by_label_name(asked: Asked) -> None:
    rows = asked("errors_by_label", task="topics", system="majority")
    # It is right on the first 50 items, whose labels take turns, and says the next label of all others.
    assert sorted(picked(rows, "label", "runs", "items", "wrong", "accuracy", "taken_for")) == [
        ("label 0", 1, 50, 37, 26.0, "label 1"),
        ("label 1", 1, 50, 37, 26.0, "label 2"),
        ("label 2", 1, 50, 38, 24.0, "label 3"),
        ("label 3", 1, 50, 38, 24.0, "label 0"),
    ]
    assert rows[0]["accuracy"] == 24.0, "the hardest label comes first"


def test_a_pair_of_labels_is_counted_both_ways(asked: Asked) -> None:
    rows = asked("errors_by_label_pair", task="topics", system="majority")
    assert picked(rows, "label", "other", "other_for_label", "label_for_other", "share") == [
        ("label 0", "label 3", 0, 38, 25.33),
        ("label 2", "label 3", 38, 0, 25.33),
        ("label 0", "label 1", 37, 0, 24.67),
        ("label 1", "label 2", 37, 0, 24.67),
    ]


def test_a_committee_pays_for_each_pretrained_model_once_and_for_every_fine_tuning(asked: Asked) -> None:
    rows = asked("cost_per_point", task="topics", ws=400, treatment=None)
    cost = {
        (row["system"], row["rule"]): (row["pretrain_teraflops"], row["finetune_teraflops"], row["teraflops_per_point"])
        for row in rows
    }
    assert cost["shallow", None] == (1.0, 0.05, round(1 / 30, 4)) and cost["deep", None] == (6.0, 0.3, 0.2)
    assert cost["pair", "soft"] == (7.0, 0.7, round(7 / 15, 4))
    assert [row["system"] for row in rows][:2] == ["shallow", "deep"], "the cheapest first"


def test_a_number_leads_back_to_the_source_files(asked: Asked) -> None:
    key = asked.key(task="topics", system="deep", ws=400, treatment="random-unk-5", finetune_seed=1)
    rows = asked("lineage_of_result", {"key": key[:12]})
    assert rows[0]["key"] == key and rows[0]["accuracy"] == 62.0 and rows[0]["depth"] == 0
    assert {(row["depth"], row["input_name"], row["stage"]) for row in rows} >= {
        (1, "pretrained", "pretrain"),
        (2, "corpus", "inject"),
        (3, "corpus", "corpus"),
    }
    assert {"source", "tokens", "tokenizer", "task"} <= {row["stage"] for row in rows}
    assert len({row["key"] for row in rows}) == len(rows)
    assert {row["git_commit"] for row in rows} == {"c0ffee" * 6 + "cafe"}
    [best, *_] = asked("lineage_of_result")
    assert best["accuracy"] == 72.0, "none is named: the most accurate single model"


def test_learning_curves_are_means_over_seeds(asked: Asked) -> None:
    rows = asked("learning_curves", stage="finetune", task="topics", system="deep", ws=100)
    assert picked(rows, "name", "step", "runs", "value", "sd") == [
        ("dev_accuracy", step, 2, 9.0 - step / 4, 0.0) for step in range(0, 11, 2)
    ]
    pretraining = asked("learning_curves", stage="pretrain", system="deep", ws=400, treatment=None)
    assert {row["name"] for row in pretraining} == {"heldout_loss"}


def test_only_what_differs_between_two_results_is_shown(asked: Asked) -> None:
    first, second = (asked.key(task="topics", system="deep", ws=100, finetune_seed=seed) for seed in (0, 1))
    rows = asked("differences_between_runs", {"first": first, "second": second[:12]})
    assert picked(rows, "place", "field", "first", "second") == [
        ("", "accuracy", "43.0", "45.0"),
        ("", "seed", "0", "1"),
        ("", "slug", "topics-deep-ws100-s0-p0-f0", "topics-deep-ws100-s0-p0-f1"),
    ]
    more = asked.key(task="topics", system="deep", ws=400, treatment=None, finetune_seed=0)
    rows = asked("differences_between_runs", {"first": first, "second": more})
    assert ("pretrained.corpus", "corpus", "ws", "100", "400") in picked(
        rows, "place", "stage", "field", "first", "second"
    )
    assert asked("differences_between_runs", {"first": first, "second": first}) == []


def test_the_spread_over_seeds_stands_beside_what_other_test_items_would_bring(asked: Asked) -> None:
    [row] = asked("spread_over_seeds", task="topics", system="deep", ws=400, treatment=None)
    assert (row["runs"], row["pretrain_seeds"], row["lowest"], row["highest"]) == (2, 1, 70.0, 72.0)
    assert row["sd"] == row["sd_finetune"] == 1.41 and row["sd_pretrain"] is None
    assert row["sd_items"] == round(100 * (0.71 * 0.29 / 200) ** 0.5, 2)


# --- on published files ---

NOT_PUBLISHED = "It needs the catalogue: "
"""Begins the sentence of a header that says why."""
ONLY_DUCKDB = """
import json, sys
import duckdb
duckdb.execute(open("sql/published.sql").read())
rows = {}
for name in sys.argv[1:]:
    try:
        found = duckdb.sql(open(f"sql/queries/{name}.sql").read())
        rows[name] = [dict(zip(found.columns, row)) for row in found.fetchall()]
    except duckdb.CatalogException as error:
        rows[name] = str(error)
print(json.dumps(rows, default=str))
loaded = {"tlm", "pyarrow", "pandas", "numpy", "torch", "prefect", "mlflow"} & set(sys.modules)
assert not loaded, loaded
"""


def test_every_query_answers_alike_on_published_files_with_duckdb_alone(asked: Asked) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ONLY_DUCKDB, *models("queries")],
        cwd=asked.repository, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    published = json.loads(done.stdout)
    for query in models("queries"):
        if NOT_PUBLISHED in description(query, "queries"):
            assert "does not exist" in published[query]
        else:
            assert published[query] == json.loads(json.dumps(asked(query), default=str)), query
            assert published[query], query
    assert sum(NOT_PUBLISHED in description(query, "queries") for query in models("queries")) == 1


# --- the notebook ---


def test_the_notebook_asks_all_ten_questions_and_every_plot_shows_something(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = json.loads((PACKAGE_PARENT / "docs/cookbook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in notebook["cells"]), "it is committed without outputs"
    assert {name for name in models("queries") if f'ask("{name}"' in "\n".join(cells)} == TEN_QUESTIONS
    monkeypatch.chdir(asked.repository)
    names: dict[str, Any] = {}
    plt.close("all")
    for cell in cells:
        exec(compile(cell, "docs/cookbook.ipynb", "exec"), names)
    figures = [plt.figure(number).axes[0] for number in plt.get_fignums()]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figures)
    # Overlap, accuracy by overlap, committees, labels, cost, two kinds of curves, seeds: what the queries above found.
    assert [points(axes) for axes in figures] == [4, 10, 18, 4, 22, 36, 72, 32]
    assert [list(line.get_ydata()) for line in figures[0].lines] == [[50.0, 87.5]] * 2
    plt.close("all")


def points(axes: Axes) -> int:
    """How many are drawn, and bars; lines that guide the eye are none."""
    marked = [line for line in axes.lines if line.get_marker() == "o"]
    scattered = [each for each in axes.collections if isinstance(each, PathCollection)]
    bars = [each for each in axes.patches if isinstance(each, Rectangle)]
    return (
        sum(len(line.get_xdata()) for line in marked) + sum(len(each.get_offsets()) for each in scattered) + len(bars)
    )
