"""A source that is read in parts is the same source: rows, ids, errors and the bytes of the table that is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tlm.data import sources
from tlm.data.sources import hub_access, table
from tlm.errors import UserError
from tlm.stages import job
from tlm.study.sources import FilesSource, HubSource, Source, WikipediaSource

TEXTS = [f"paragraph {row} of several" for row in range(11)]
COMMIT = "0" * 40


def write_source(root: Path, kind: str, texts: list[str], ids: list[str] | None = None) -> Source:
    """A source of these texts; the Hub's is what `hub_access.load` is made to return."""
    content = pa.table({"id": ids or [str(row) for row in range(len(texts))], "text": pa.array(texts, pa.string())})
    if kind == "wikipedia":
        (root / "wikipedia").mkdir(exist_ok=True)
        pq.write_table(content, root / "wikipedia/train-00000.parquet")
        return WikipediaSource(origin="local")
    if kind == "hub":
        return HubSource(repo="me/mine", revision=COMMIT)
    if kind == "parquet":
        pq.write_table(content, root / "texts.parquet")
    elif kind == "jsonl":
        lines = (json.dumps({"text": text}) for text in texts)
        (root / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    else:
        (root / "texts.text").write_text("\n\n".join(texts), encoding="utf-8")
    return FilesSource(format=cast(Any, kind), path=f"texts.{kind}")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pa.table({"text": TEXTS})
    monkeypatch.setattr(hub_access, "load", lambda *args, **kwargs: (content, {}, COMMIT))


@pytest.mark.parametrize("kind", ["wikipedia", "parquet", "jsonl", "text", "hub"])
def test_parts_hold_the_rows_and_ids_of_the_whole(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source(tmp_path, kind, TEXTS)
    whole = list(sources.read(source, str(tmp_path)).parts)
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    parts = list(sources.read(source, str(tmp_path)).parts)
    assert [part.num_rows for part in whole] == [11] and [part.num_rows for part in parts] == [4, 4, 3]
    assert pa.concat_tables(parts).combine_chunks() == whole[0].combine_chunks()


@pytest.mark.parametrize("kind", ["wikipedia", "parquet", "jsonl", "hub"])
def test_an_error_in_a_later_part_names_the_row_in_its_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS[:9], " ", *TEXTS[10:]]
    monkeypatch.setattr(hub_access, "load", lambda *args, **kwargs: (pa.table({"text": texts}), {}, COMMIT))
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    with pytest.raises(UserError, match="(row|line) 10: the text is empty"):
        sources.read(write_source(tmp_path, kind, texts), str(tmp_path)).table


def test_an_id_that_two_parts_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [*(str(row) for row in range(10)), "3"]
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    with pytest.raises(UserError, match="the id '3' occurs more than once"):
        sources.read(write_source(tmp_path, "wikipedia", TEXTS, ids), str(tmp_path)).table


def test_ids_of_equal_hashes_are_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.setattr(pd.util, "hash_array", lambda values, **kwargs: pd.Series(values).str.len().to_numpy("uint64"))
    assert sources.read(write_source(tmp_path, "wikipedia", TEXTS), str(tmp_path)).table.num_rows == 11


def test_invisible_texts_of_all_parts_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS[:2], "\u200b", *TEXTS[3:8], "\u200b\u200d", *TEXTS[9:]]
    source = write_source(tmp_path, "wikipedia", texts)
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    found = sources.read(source, str(tmp_path))
    assert found.table.num_rows == 9 and found.facts["invisible"] == 2


@pytest.mark.parametrize("at_once", [1, 4, 11, 100])
def test_groups_of_rows_hold_the_same_table(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pa.table({"text": TEXTS})
    writer = cast(job.Job, SimpleNamespace(out=tmp_path))
    job.Job.write(writer, whole, "whole.parquet")
    monkeypatch.setattr(job, "ROWS_IN_GROUP", at_once)
    job.Job.write_parts(writer, (whole.slice(row, 2) for row in range(0, 11, 2)), "parts.parquet")
    assert pq.read_table(tmp_path / "parts.parquet") == whole
    assert pq.ParquetFile(tmp_path / "parts.parquet").num_row_groups == {1: 6, 4: 3, 11: 1, 100: 1}[at_once]


def test_a_table_of_one_group_has_the_bytes_of_one_that_was_written_whole(tmp_path: Path) -> None:
    parts = [pa.table({"text": TEXTS[row : row + 4]}) for row in range(0, 11, 4)]
    writer = cast(job.Job, SimpleNamespace(out=tmp_path))
    job.Job.write(writer, pa.concat_tables(parts), "whole.parquet")
    job.Job.write_parts(writer, iter(parts), "parts.parquet")
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
