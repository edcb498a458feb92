"""A task's items: exact numbers for each label, disjoint parts, dev never from test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.data.items import select_items
from tlm.errors import UserError
from tlm.study.config import ItemSelection

NAMES = ("apple", "berry", "cherry", "date")


def table(split: bool, each: int = 20) -> pd.DataFrame:
    """`each` items of each label in a pool, or as many in train and half of that in test; shuffled."""
    rows = [(label, "train" if split else "all") for label in range(len(NAMES)) for _ in range(each)]
    rows += [(label, "test") for label in range(len(NAMES)) for _ in range(each // 2) if split]
    return pd.DataFrame(rows, columns=["label", "split"]).sample(frac=1, random_state=0, ignore_index=True)


def select(source: pd.DataFrame, **fields: Any) -> pd.DataFrame:
    given_fields = {"train_per_label": 8, "dev_per_label": 3, "test_per_label": 6, **fields}
    return select_items(source, NAMES, ItemSelection(**given_fields), "fruit")


@given(st.booleans(), st.integers(2, 10), st.data(), st.integers(1, 10), st.integers(0, 2**31))
def test_numbers_are_exact_and_no_row_is_taken_twice(
    split: bool, train: int, data: st.DataObject, test: int, seed: int
) -> None:
    dev = data.draw(st.integers(1, train - 1))
    source = table(split)
    items = select(source, train_per_label=train, dev_per_label=dev, test_per_label=test, seed=seed)
    counts = items.groupby(["label", "part"]).size().unstack()
    assert (counts["train"] == train - dev).all() and (counts["dev"] == dev).all() and (counts["test"] == test).all()
    assert len(counts) == len(NAMES)
    assert items["row"].is_unique and items["row"].is_monotonic_increasing
    assert np.array_equal(source["label"].to_numpy()[items["row"]], items["label"])


def test_of_a_split_source_dev_comes_from_train_and_test_from_test() -> None:
    source = table(split=True)
    items = select(source)
    origin = source["split"].to_numpy()[items["row"]]
    assert set(origin[items["part"] == "test"]) == {"test"}
    assert set(origin[items["part"] != "test"]) == {"train"}


def test_more_training_items_leave_the_test_items_as_they_are() -> None:
    for split in (False, True):
        few, many = select(table(split)), select(table(split), train_per_label=12)
        test = [items.loc[items["part"] == "test", "row"].tolist() for items in (few, many)]
        assert test[0] == test[1]


def test_the_same_seed_selects_the_same_and_another_differently() -> None:
    source = table(split=False)
    assert select(source).equals(select(source))
    assert not select(source).equals(select(source, seed=1))


def test_fewer_labels_are_nested_and_renumbered() -> None:
    source = table(split=False)
    chosen = []
    for labels in (2, 3, 4):
        items = select(source, labels=labels)
        assert sorted(items["label"].unique()) == list(range(labels))
        chosen.append(set(source["label"].to_numpy()[items["row"]]))
        by_label = pd.Series(source["label"].to_numpy()[items["row"]]).groupby(items["label"]).nunique()
        assert (by_label == 1).all()
    assert chosen[0] < chosen[1] < chosen[2]


def test_a_label_with_too_few_items_is_named_with_the_numbers() -> None:
    source = table(split=False)
    source = source.drop(source.index[source["label"] == 2][:10]).reset_index(drop=True)
    with pytest.raises(UserError, match=r"task fruit: label 'cherry' has 10 all items, 14 needed \(6 test \+ 5 train"):
        select(source)
    with pytest.raises(UserError, match=r"label 'apple' has 10 test items, 11 needed \(11 test\)"):
        select(table(split=True), test_per_label=11)


def test_more_labels_than_there_are_is_an_error_with_the_number_that_is_possible() -> None:
    with pytest.raises(UserError, match=r"task fruit: labels=5, but its source has 4\. Choose 2 to 4\."):
        select(table(split=False), labels=5)
