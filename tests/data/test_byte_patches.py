"""Bytes in patches: nothing of a text is lost, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tlm.data.benchmarks.item import Item
from tlm.data.benchmarks.tokens import tokenise
from tlm.data.byte_patches import EOP, PAD, BytePatches, BytesTokenizer
from tlm.data.ragged import Ragged
from tlm.data.tokenizer import cut
from tlm.errors import UserError

PATCHINGS = ("words", "stride", "spacebyte")


def patches(encoded: Ragged, row: int = 0) -> list[bytes]:
    """The bytes of each patch of a text."""
    ids = encoded[row].tolist()
    parts: list[list[int]] = [[]]
    for token in ids:
        parts[-1].append(token) if token != EOP else parts.append([])
    return [bytes(part) for part in parts[:-1]]


@given(
    st.lists(st.text(), max_size=4),
    st.sampled_from(PATCHINGS),
    st.integers(2, 20),
    st.integers(0, 40),
)
@example(["a 👩‍👩‍👧‍👦  family\0 ", "", "\0", "e\u0301"], "words", 12, 9)
@example(["x" * 1_000 + " " * 50 + "y"], "words", 16, 500)
def test_every_text_comes_back_and_so_does_what_is_cut(
    texts: list[str], patching: Any, patch_bytes: int, length: int
) -> None:
    tokenizer = BytePatches(patch_bytes, patching)
    whole = tokenizer.encode(texts)
    assert [tokenizer.decode(whole[i]) for i in range(len(texts))] == texts
    assert tokenizer.text_bytes(whole) == sum(len(text.encode()) for text in texts)
    for i, text in enumerate(texts):
        found = patches(whole, i)
        assert b"".join(found) == text.encode()
        assert all(1 <= len(patch) < patch_bytes for patch in found)
        alone = tokenizer.encode([text])
        assert np.array_equal(alone[0], whole[i])
    short = tokenizer.encode(texts, max_length=length)
    for i in range(len(texts)):
        kept = short[i]
        assert len(kept) <= length and np.array_equal(kept, whole[i][: len(kept)])
        if length >= patch_bytes:  # whole patches, and as many as fit
            assert not len(kept) or kept[-1] == EOP
            rest = whole[i][len(kept) :]
            assert not len(rest) or len(kept) + int((rest == EOP).argmax()) + 1 > length


@pytest.mark.parametrize(
    ("patching", "expected"),
    [
        ("words", [b"It", b" is", b"  3.5", b"euro,", b" no", b"\n?"]),
        ("stride", [b"It is", b"  3.5", b"euro,", b" no\n?"]),
        ("spacebyte", [b"It", b" is", b"  3", b".5eur", b"o", b", no", b"\n?"]),
    ],
)
def test_a_patch_begins_where_its_rule_says_and_every_so_many_bytes(patching: Any, expected: list[bytes]) -> None:
    assert patches(BytePatches(6, patching).encode(["It is  3.5euro, no\n?"])) == expected


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([97, PAD, EOP], f"id {PAD} at 1 is neither a byte nor the end of a patch"),
        ([97, 300, EOP], "id 300 at 1"),
        ([EOP, 97, EOP], "the patch that ends at 0 has 0 bytes, not 1 to 3"),
        ([97, 97, 97, 97, EOP], "the patch that ends at 4 has 4 bytes"),
        ([97], "the last patch has no end"),
        ([97, 0xC3, EOP], r"not UTF-8 \(byte 1\)"),
    ],
)
def test_ids_that_no_text_has_are_refused_with_their_place(ids: list[int], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        BytePatches(4).decode(np.array(ids, dtype=np.uint16))


def test_half_a_character_is_refused_with_its_place() -> None:
    with pytest.raises(UserError, match=r"Text 1, character 2: half a character \(\\ud83c\), which has no UTF-8\."):
        BytePatches(4).encode(["whole", "no\ud83c"])


def test_it_is_saved_as_facts_alone(tmp_path: Path) -> None:
    config = BytesTokenizer(patch_bytes=12, patching="stride")
    facts = config.make(lambda: [], "").save(tmp_path)
    assert not list(tmp_path.iterdir())
    assert BytesTokenizer.load(tmp_path.joinpath, facts) == BytePatches(12, "stride")
    with pytest.raises(ValueError, match="patch_bytes"):
        BytesTokenizer(patch_bytes=1)


def test_a_beginning_that_is_cut_off_is_whole_patches_if_what_must_stay_allows_it() -> None:
    tokenizer = BytePatches(8)
    items = [Item("i", ("one two three", "one two three"), (" four", "four"), 0)]
    found = tokenise(items, tokenizer, 14 + 2, "cut_prefix")
    assert [patches(found.texts, row) for row in (0, 1)] == [[b" three", b" four"], [b" threef", b"our"]]
    assert found.starts.tolist() == [7, 6]


@given(st.lists(st.text("ab ", max_size=30), max_size=5), st.integers(4, 20))
def test_rows_of_joined_texts_have_whole_patches(texts: list[str], length: int) -> None:
    encoded = BytePatches(4).encode(texts)
    rows = encoded.joined(EOP, length, after=EOP)
    assert np.array_equal(rows.ids, encoded.joined(EOP, length).ids)
    assert (rows.lengths <= length).all() and (rows.lengths > 0).all()
    if length > 4:  # the end of a text stands behind the end of its last patch, and in the same row
        for i in range(len(rows) - 1):
            assert rows[i][-1] == EOP and rows[i + 1][0] != EOP


def test_a_tokenizer_that_may_be_cut_anywhere_is() -> None:
    texts = Ragged.from_lists([[1, 2, 3], [4]])
    found = cut(object(), texts, 2)  # type: ignore[arg-type]
    assert found.lengths.tolist() == [2, 1]
