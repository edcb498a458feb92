"""What an item earns, and the mean over items and groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import real_data_root

from tlm.data.benchmarks.blimp import phenomenon
from tlm.evaluation.outcomes import credits, mean_score

FEW = st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=5), min_size=1, max_size=8)


@given(FEW)
def test_the_options_of_an_item_earn_one_together_and_their_order_is_nothing(items: list[list[int]]) -> None:
    scores = np.array([score for item in items for score in item], dtype=np.float64)
    of = np.repeat(np.arange(len(items)), [len(item) for item in items])

    def earned(golds: list[int]) -> list[float]:
        return credits(scores, of, np.array(golds)).tolist()

    for place, item in enumerate(items):
        every = [earned([gold if i == place else 0 for i in range(len(items))])[place] for gold in range(len(item))]
        assert sum(every) == pytest.approx(1)
        assert every == [(score == max(item)) / item.count(max(item)) for score in item]


def test_an_item_with_an_option_that_was_not_scored_is_none_and_in_no_mean() -> None:
    earned = credits(np.array([1.0, np.nan, 2.0, 1.0]), np.array([0, 0, 1, 1]), np.array([0, 0]))
    assert np.isnan(earned[0]) and earned[1] == 1
    assert mean_score(earned).value == 1


def test_the_mean_over_groups_weighs_each_alike_and_has_both_standard_errors() -> None:
    values, groups = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0]), ["a", "a", "b", "b", "b", "b"]
    over_items, over_groups = mean_score(values), mean_score(values, groups)
    assert over_items.value == pytest.approx(5 / 6)
    assert over_items.se == over_items.item_se == pytest.approx(values.std(ddof=1) / np.sqrt(6))
    assert over_groups.value == pytest.approx(0.75)
    assert over_groups.se == pytest.approx(np.std([0.5, 1], ddof=1) / np.sqrt(2))
    assert over_groups.item_se == pytest.approx(np.sqrt(0.5 / 2) / 2)


@pytest.mark.skipif(not real_data_root(), reason="TLM_DATA_ROOT is not set")
def test_published_results_by_paradigm_give_the_published_means_of_blimp() -> None:
    folder = Path(real_data_root()) / "evaluation" / "blimp_reference"
    lines = (folder / "models_summary.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["UID"] != "overall"]
    assert len(rows) == 67
    paradigms = [row["UID"] for row in rows]
    found = {name: mean_score(np.array([row[name] for row in rows]), paradigms).value for name in MEANS}
    assert {name: round(100 * value, 1) for name, value in found.items()} == MEANS
    assert len({phenomenon(row["linguistics_term"]) for row in rows}) == 12


MEANS = {"ngram": 61.2, "lstm": 69.8, "txl": 69.6, "gpt2": 83.0}
