"""Texts that show nothing are left out of every source and counted, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.data import sources
from tlm.data.sources.base import Loaded
from tlm.data.sources.visible import only_visible
from tlm.errors import UserError
from tlm.study.sources import FilesSource

NOTHING = [
    "\u200b",
    "\u00ad",
    "\ufeff",
    "\u200e",
    "\u2060",
    "\u200d",
    "\u202e",
    "\u0301",
    "\x00",
    "\ue000",
    "\u00a0",
    "\u2028",
]


def loaded(texts: list[str]) -> Loaded:
    import pyarrow as pa

    table = pa.table({"item_id": [str(row) for row in range(len(texts))], "text": pa.array(texts, pa.string())})
    return Loaded([table], None, {"commit": "abc"})


def visible(texts: list[str]) -> list[str]:
    kept: list[str] = only_visible(loaded(texts), "files-x").table["text"].to_pylist()
    return kept


@given(st.lists(st.lists(st.sampled_from(NOTHING), min_size=1, max_size=4).map("".join)))
def test_a_text_of_invisible_characters_alone_is_left_out_and_counted(hidden: list[str]) -> None:
    found = only_visible(loaded(["seen", *hidden]), "files-x")
    assert found.table["text"].to_pylist() == ["seen"]
    assert found.facts == {"commit": "abc"} | ({"invisible": len(hidden)} if hidden else {})


@given(st.text(), st.characters(categories=("L", "N", "P", "S")), st.text())
def test_a_text_with_a_letter_a_digit_or_a_sign_is_kept(before: str, seen: str, after: str) -> None:
    assert visible([before + seen + after]) == [before + seen + after]


@given(st.text(st.characters(categories=("Z", "Cc", "Cf", "Co", "Mn", "Me"))))
def test_a_text_without_any_is_left_out(text: str) -> None:
    assert visible(["seen", text]) == ["seen"]


@pytest.mark.parametrize("text", ["a", "1", "?", "ก", "中", "👍", "\u200bа", "e\u0301", "é", "्क"])
def test_what_can_be_seen_is_kept_as_it_is(text: str) -> None:
    assert visible([text]) == [text]


def test_a_source_of_invisible_texts_alone_is_refused() -> None:
    with pytest.raises(UserError, match="source files-x: none of its 2 texts has a visible character"):
        visible(["\u200b", "\ufeff\n\u00ad"])


def test_every_source_counts_its_invisible_texts(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\n\n\u200b\n\ntwo\n\n\u00ad\u200e\n", encoding="utf-8")
    found = sources.read(FilesSource(format="text", path="texts.txt"), str(tmp_path))
    assert found.table["text"].to_pylist() == ["one", "two"] and found.facts["invisible"] == 2
