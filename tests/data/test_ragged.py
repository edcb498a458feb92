"""Ragged arrays behave as the lists they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.data.ragged import Ragged, concatenate, saving

SEQUENCES = st.lists(st.lists(st.integers(0, 65_535), max_size=6), min_size=1, max_size=8)


def lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[i].tolist() for i in range(len(ragged))]


@given(SEQUENCES)
def test_sequences_come_back_as_they_went_in(sequences: list[list[int]]) -> None:
    ragged = Ragged.from_lists(sequences)
    assert lists(ragged) == sequences
    assert ragged.lengths.tolist() == [len(s) for s in sequences]
    assert ragged.sequence_of.tolist() == [i for i, s in enumerate(sequences) for _ in s]
    assert (ragged.ids.dtype, ragged.offsets.dtype) == (np.uint16, np.int64)


@given(SEQUENCES, st.data())
def test_take_selects_in_any_order_and_as_often_as_asked(sequences: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=10))
    assert lists(Ragged.from_lists(sequences).take(np.array(rows, dtype=np.int64))) == [sequences[r] for r in rows]


@given(SEQUENCES, st.integers(1, 7))
def test_joined_sequences_fill_rows_and_nothing_of_them_is_lost(sequences: list[list[int]], length: int) -> None:
    separator = 9
    rows = lists(Ragged.from_lists(sequences).joined(separator, length))
    one_after_another: list[int] = []
    for sequence in filter(None, sequences):
        one_after_another += [*([separator] if one_after_another else []), *sequence]
    assert [token for row in rows for token in row] == one_after_another
    assert all(len(row) == length for row in rows[:-1]) and all(0 < len(row) <= length for row in rows)


@given(SEQUENCES, st.data())
def test_keep_removes_ids_and_no_sequence(sequences: list[list[int]], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(0, 65_535), max_size=4)) | set(sequences[0][:1])
    ragged = Ragged.from_lists(sequences)
    kept = ragged.keep(~np.isin(ragged.ids, list(gone)))
    assert lists(kept) == [[i for i in s if i not in gone] for s in sequences]


@given(st.lists(SEQUENCES, min_size=1, max_size=4))
def test_concatenation_appends(parts: list[list[list[int]]]) -> None:
    assert lists(concatenate(Ragged.from_lists(part) for part in parts)) == [s for part in parts for s in part]


@given(SEQUENCES, st.integers(1, 9), st.data())
def test_parts_are_what_is_taken_some_at_a_time(sequences: list[list[int]], at_once: int, data: st.DataObject) -> None:
    ragged = Ragged.from_lists(sequences)
    rows = data.draw(
        st.none() | st.lists(st.integers(0, len(sequences) - 1), max_size=10).map(lambda r: np.array(r, int))
    )
    parts = list(ragged.parts(rows, at_once))
    assert all(len(part) <= at_once for part in parts)
    wanted = sequences if rows is None else [sequences[row] for row in rows]
    assert [sequence for part in parts for sequence in lists(part)] == wanted


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_what_is_saved_in_parts_has_the_bytes_of_numpys_own_files(at_once: int, tmp_path: Path) -> None:
    whole = Ragged.from_lists([[1, 2], [], [3], [65_535] * 300, []])
    with saving(tmp_path, "parts") as write:
        lengths = [write(part).tolist() for part in whole.parts(at_once=at_once)]
    assert [length for part in lengths for length in part] == whole.lengths.tolist()
    for name, array in (("ids", whole.ids), ("offsets", whole.offsets)):
        np.save(tmp_path / "whole.npy", array)
        assert (tmp_path / f"parts.{name}.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("sequences", [[[1, 2], [], [3]], [], [[]]])
def test_saved_arrays_are_memory_mapped_and_equal(sequences: list[list[int]], tmp_path: Path) -> None:
    Ragged.from_lists(sequences).save(tmp_path, "tokens")
    loaded = Ragged.load(tmp_path / "tokens.ids.npy", tmp_path / "tokens.offsets.npy")
    assert lists(loaded) == sequences
    assert lists(loaded.take(np.arange(len(sequences)))) == sequences
    if sequences:
        assert isinstance(loaded.offsets, np.memmap)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects|allow_pickle"):
        Ragged.load(tmp_path / "evil.npy", tmp_path / "evil.npy")
