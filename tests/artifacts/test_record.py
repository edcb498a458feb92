"""A record in its file: what was written is read again, and nothing else is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tlm.artifacts.fingerprint import step_key
from tlm.artifacts.record import SEAL, NoRecord, Record, from_file, in_time, to_file

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TREES = st.dictionaries(TEXT, JSON, max_size=3)


@st.composite
def records(draw: Any) -> Record:
    config = draw(TREES)
    return Record(
        stage="source",
        version=draw(TEXT),
        key=step_key("source", version := draw(TEXT), config, {}),
        slug="some-rows",
        config=config,
        inputs={},
        labels=draw(st.dictionaries(TEXT, st.none() | st.booleans() | NUMBERS | TEXT, max_size=3)),
        outputs={},
        left_behind=draw(st.sampled_from([{}, {"model.safetensors": None}])),
        facts=draw(TREES),
        provenance=draw(TREES),
        created="2026-01-02T03:04:05+00:00",
        seconds=draw(st.floats(0, 1e6)),
    ).model_copy(update={"version": version})


@given(records())
def test_what_was_written_is_read_again(record: Record) -> None:
    content = to_file(record)
    assert from_file(content) == record
    assert ("left_behind" in json.loads(content)) == bool(record.left_behind)  # no older record changes its bytes


@given(records(), st.sampled_from(["labels", "facts", "provenance", "seconds", "slug", "created", "mlflow"]), st.data())
def test_whatever_is_edited_is_damaged(record: Record, field: str, data: st.DataObject) -> None:
    tree = json.loads(to_file(record))
    other = data.draw(JSON)
    assume(type(other) is not type(tree[field]) or other != tree[field])
    with pytest.raises(NoRecord):
        from_file(json.dumps({**tree, field: other}).encode())


@given(records(), st.data())
def test_no_flipped_bit_makes_another_record(record: Record, data: st.DataObject) -> None:
    content = bytearray(to_file(record))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert from_file(bytes(content)) == record, "another way to write the same"
    except NoRecord as error:
        assert "\n" not in str(error) and str(error).startswith("record.json ")


@given(st.binary(max_size=60) | TEXT.map(str.encode) | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_anything_else_is_no_record(content: bytes) -> None:
    with pytest.raises(NoRecord, match=r"^record\.json is not a record \(.+\)$"):
        from_file(content)


def test_the_order_of_fields_and_their_spacing_mean_nothing() -> None:
    record = a_record("2026-01-02T03:04:05+00:00")
    tree = json.loads(to_file(record))
    assert from_file(json.dumps(dict(sorted(tree.items(), reverse=True)), separators=(",", ":")).encode()) == record


def test_one_from_before_is_unsealed_and_written_again_sealed() -> None:
    tree = json.loads(to_file(a_record("2026-01-02T03:04:05+00:00")))
    del tree[SEAL]
    before = from_file(json.dumps({**tree, "format": 1}).encode())
    assert not before.is_sealed
    assert from_file(to_file(before)).is_sealed


def test_records_made_in_other_time_zones_are_in_the_order_in_which_they_were_made() -> None:
    made = ["2026-01-02T03:04:05+00:00", "2026-01-02T02:04:05-05:00", "2026-01-02T06:04:05+02:00"]
    assert [record.created for record in in_time(map(a_record, made))] == [made[0], made[2], made[1]]


def a_record(created: str) -> Record:
    key = step_key("source", "1", {}, {})
    given: dict[str, Any] = {"config": {}, "inputs": {}, "labels": {}, "outputs": {}, "facts": {}, "provenance": {}}
    return Record(stage="source", version="1", key=key, slug="x", created=created, seconds=1, **given)
