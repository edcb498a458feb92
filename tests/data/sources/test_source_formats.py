"""One rule, one reader: the same items in any format are read to the same items, or refused with the same cause."""

from __future__ import annotations

import json
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_hub import COMMIT
from hypothesis import given, settings
from hypothesis import strategies as st
from source_files import TABLES, Rows, as_parquet_has_them, put, read, write

from tlm.data import sources
from tlm.data.sources import hub_access
from tlm.data.sources.values import label_name
from tlm.errors import UserError
from tlm.inference.files import open_texts
from tlm.study.sources import HubSource

few = settings(max_examples=25)
"""Each example writes and reads a dozen files."""
characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, min_size=1, max_size=30).filter(
    lambda text: any(unicodedata.category(character)[0] in "LNPS" for character in text)
)
"""With something to read: others are left out of a source (test_visible.py), and have a row of their own in predictions."""
spaces = st.text(" \t\u00a0\u2009", max_size=2)
names = st.one_of(
    st.text(characters, max_size=8).filter(label_name), st.sampled_from(["1", "01", "-2", "--1", "-", "é"])
)
labels = st.one_of(st.integers(-(2**80), 2**80), st.tuples(spaces, names, spaces).map("".join))
rows_of_items = st.lists(st.tuples(texts, labels), min_size=1, max_size=8)


def read_from_hub(table: pa.Table, names: dict[str, tuple[str, ...]] | None = None) -> sources.Loaded:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_access, "load", lambda *args, **kwargs: (table, names or {}, COMMIT))
        return sources.read(HubSource(repo="me/mine", revision=COMMIT, label_column="y"), "")


def items(loaded: sources.Loaded) -> list[tuple[str, str]]:
    assert loaded.label_names is not None
    columns = (loaded.table[name].to_pylist() for name in ("text", "label"))
    return [(text, loaded.label_names[label]) for text, label in zip(*columns, strict=True)]


@few
@given(rows_of_items)
def test_items_are_the_same_in_every_table_and_on_the_hub(rows: Rows) -> None:
    expected = [(text, str(label).strip()) for text, label in rows]
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        places = {form: put(folder, form, as_parquet_has_them(rows) if form == "parquet" else rows) for form in TABLES}
        found = [read(folder, form) for form in TABLES]
        found.append(read_from_hub(pq.read_table(places["parquet"])))
        for loaded in found:
            assert items(loaded) == expected
            assert loaded.label_names == found[0].label_names, "in the same order"
            assert loaded.table["item_id"].to_pylist() == found[0].table["item_id"].to_pylist()
        for place in places.values():  # and `tlm predict` reads the same texts
            with open_texts(place) as predicted:
                assert list(predicted) == [text for text, _ in expected]


@few
@given(st.lists(texts.map(lambda text: " ".join(text.split())), min_size=1, max_size=8), st.randoms())
def test_texts_are_the_same_in_a_folder_of_texts_a_table_and_a_file_of_lines(found: list[str], random: Any) -> None:
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        put(folder, "csv", [(text, "x") for text in found])
        expected = read(folder, "csv").table["text"].to_pylist()
        at = sorted(random.randint(0, len(found)) for _ in range(2))
        for name, part in zip("abc", (found[: at[0]], found[at[0] : at[1]], found[at[1] :]), strict=True):
            write(folder / f"books/{name}.txt", "\ufeff" + "\n \n\n".join(part))
        loaded = read(folder, "text", path="books", label_column=None)
        assert loaded.table["text"].to_pylist() == expected
        with open_texts(write(folder / "lines.txt", "\ufeff" + "\n".join(found))) as predicted:
            assert list(predicted) == expected


def cause(error: UserError) -> str:
    """What is wrong, without the place: the same words whatever the format."""
    return re.sub(r"^[^,:]*(?:, (?:line|row) \d+)?:? ", "", str(error))


FAULTS: dict[str, tuple[Any, Any]] = {
    "a blank text": (" \t", "x"),
    "a missing text": (None, "x"),
    "a blank label": ("a", " \u00a0"),
    "an empty label": ("a", ""),
    "a label that shows nothing": ("a", "\u200b\ufeff\u0301"),
    "a missing label": ("a", None),
}


@pytest.mark.parametrize("fault", FAULTS)
@few
@given(before=rows_of_items, after=rows_of_items)
def test_what_is_missing_is_refused_alike_and_at_its_place(fault: str, before: Rows, after: Rows) -> None:
    before = [(" ".join(text.split()), " ".join(str(label).split())) for text, label in before]  # a row on each line
    rows = [*before, FAULTS[fault], *after]
    what = "the text is empty" if "text" in fault else "the label is missing"
    causes = set()
    with tempfile.TemporaryDirectory() as given:
        for form in TABLES:
            put(Path(given), form, as_parquet_has_them(rows) if form == "parquet" else rows)
            with pytest.raises(UserError) as raised:
                read(Path(given), form)
            place = {"parquet": "row", "jsonl": "line"}.get(form, "line")
            number = len(before) + (1 if form in ("parquet", "jsonl") else 2)
            assert str(raised.value).startswith(f"items.{form}, {place} {number}: {what}. "), raised.value
            causes.add(cause(raised.value))
        with pytest.raises(UserError) as raised:
            read_from_hub(pq.read_table(Path(given) / "items.parquet"))
        assert f"me/mine train, row {len(before) + 1}: {what}. " in str(raised.value)
        assert len(causes | {cause(raised.value)}) == 1


def test_every_missing_label_is_counted() -> None:
    with tempfile.TemporaryDirectory() as given:
        for form in TABLES:
            put(Path(given), form, [("a", " "), ("b", "x"), ("c", None), ("d", "")])
            with pytest.raises(UserError, match=r"the label is missing \(and 2 more\)"):
                read(Path(given), form)


@pytest.mark.parametrize("column", ["text", "y", "other"])
@pytest.mark.parametrize("form", TABLES)
def test_two_columns_of_one_name_are_refused_whichever_they_are(form: str, column: str, tmp_path: Path) -> None:
    columns = ("text", "y", column, "other")
    rows: Any = [("a", "b", "c", "d")]
    if form == "parquet":
        table = pa.Table.from_arrays([pa.array([value]) for value in rows[0]], names=list(columns))
        pq.write_table(table, tmp_path / "items.parquet")
    else:
        put(tmp_path, form, rows, columns)
    where = "items.jsonl, line 1" if form == "jsonl" else f"items.{form}"
    said = f"{where} has two columns named {column!r}. Give each column a name of its own."
    with pytest.raises(UserError) as raised:
        read(tmp_path, form)
    assert str(raised.value) == said
    with (
        pytest.raises(UserError, match=f"has two columns named {column!r}"),
        open_texts(tmp_path / f"items.{form}") as predicted,
    ):
        predicted.count()


def test_two_columns_of_one_name_are_refused_on_the_hub() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["text", "y", "text"])
    with pytest.raises(UserError, match="me/mine train has two columns named 'text'"):
        read_from_hub(table)


# --- halves of characters, and bytes that are no text ---


@pytest.mark.parametrize("half", ["\\ud83c", "\\udfff", "x\\udc80y"])
@pytest.mark.parametrize("column", ["text", "y"])
def test_half_a_character_is_refused_with_its_line(half: str, column: str, tmp_path: Path) -> None:
    rows = [{"text": "a", "y": "b"}, {"text": "whole \U0001f30a", "y": "c"}, {"text": "d", "y": "e", column: "HALF"}]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    write(tmp_path / "items.jsonl", lines.replace("HALF", half))
    what, spelled = ("text" if column == "text" else "label"), half.strip("xy")
    said = f"items.jsonl, line 3: the {what} holds half a character ({spelled})."
    with pytest.raises(UserError, match=re.escape(said)):
        read(tmp_path, "jsonl")
    if column == "text":
        with pytest.raises(UserError, match=re.escape(said)), open_texts(tmp_path / "items.jsonl") as predicted:
            predicted.count()


def test_a_character_written_in_two_escapes_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "items.jsonl", '{"text": "\\ud83c\\udf0a", "y": 1}')
    assert read(tmp_path, "jsonl").table["text"].to_pylist() == ["\U0001f30a"]


BAD = [b"\xe9", b"\xff", b"\x80", b"\xc3", b"\xed\xa0\xbc", b"\xf5\x80\x80\x80"]
"""Latin-1, no first byte, a lone continuation, an unfinished character, a surrogate, beyond Unicode."""


@given(
    st.lists(st.text(characters, max_size=40), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(BAD),
    st.data(),
)
def test_a_byte_that_is_no_utf8_is_named_with_its_line_and_place(
    lines: list[str], end: str, bad: bytes, data: Any
) -> None:
    from tlm.data.sources.values import not_utf8

    padding = data.draw(st.sampled_from([0, 9_000]))  # longer than what a decoder reads at once
    good = end.join(["é" * padding, *lines]) + end
    at = data.draw(st.integers(0, len(good)))
    content = good[:at].encode() + bad + good[at:].encode()
    with pytest.raises(UnicodeDecodeError) as whole:
        content.decode()
    before = content[: whole.value.start]
    line = 1 + len(re.findall(rb"\r\n|\r|\n", before)) if not before.endswith(b"\r") else None
    with tempfile.TemporaryDirectory() as given:
        (Path(given) / "items.csv").write_bytes(content)
        said = str(not_utf8(Path(given) / "items.csv", "items.csv"))
    assert f"not UTF-8 (byte {whole.value.start} of the file)" in said
    if line is not None:
        assert said.startswith(f"items.csv, line {line}: ")


CONTENTS = {
    "csv": b'text,y\nfirst,a\n"sec\nond",b\nBAD,c\n',
    "tsv": b'text\ty\nfirst\ta\n"sec\nond"\tb\nBAD\tc\n',
    "jsonl": b'{"text": "first", "y": "a"}\n\n\n\n{"text": "BAD", "y": "c"}\n',
    "text": b"first\n\nsecond\n\nBAD\n",
}


@pytest.mark.parametrize("form", CONTENTS)
def test_foreign_bytes_are_refused_in_every_format_with_line_and_byte(form: str, tmp_path: Path) -> None:
    content = CONTENTS[form].replace(b"BAD", "café".encode("latin-1"))
    name = "items.txt" if form == "text" else f"items.{form}"
    (tmp_path / name).write_bytes(content)
    said = re.escape(f"{name}, line 5: not UTF-8 (byte {content.index(0xE9)} of the file). Save the file as UTF-8.")
    with pytest.raises(UserError, match=f"^{said}$"):
        read(tmp_path, form, path=name, label_column=None).table
    with pytest.raises(UserError, match=said), open_texts(tmp_path / name) as predicted:
        list(predicted)


@pytest.mark.parametrize("column", ["text", "y"])
def test_foreign_bytes_in_parquet_are_refused_with_their_row(column: str, tmp_path: Path) -> None:
    raw = pa.array([b"good", "café".encode("latin-1")], pa.binary())
    bad = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    table = pa.table({"text": pa.array(["a", "b"]), "y": pa.array(["c", "d"]), column: bad})
    pq.write_table(table, tmp_path / "items.parquet")
    what = "text" if column == "text" else "label"
    for reading in (lambda: read(tmp_path, "parquet"), lambda: read_from_hub(table)):
        with pytest.raises(UserError, match=rf"row 2: the {what} is not UTF-8 \(byte 3 of it\)"):
            reading()
