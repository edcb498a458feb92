"""What `tlm sql` shows is what was found: every column and row, as plain text, fitted to the reader."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import duckdb
import pytest
from helpers import command_line

from flows import querying
from flows.terminal import PlainConsole
from tlm.errors import UserError


def found(sql: str, width: int, monkeypatch: pytest.MonkeyPatch, limit: int = 50) -> str:
    monkeypatch.setattr(querying, "on_terminal", lambda: True)
    out = io.StringIO()
    console = PlainConsole(file=out, width=width)
    querying.show(duckdb.connect().sql(sql).to_arrow_table(), console, console, csv=False, limit=limit)
    return out.getvalue()


def cells(shown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(line[0])[1:-1]] for line in shown.splitlines() if line[0] in "│┃"]


@pytest.mark.parametrize(
    "text", ["[neg] review", "[/pos] review", "[bold]x[/bold]", "[/]", "[link=x]y", ":smile:", "\\[x]", "[" * 9, "ä[1]"]
)
def test_a_text_is_shown_as_it_is_in_cells_and_headings(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells(found(f"select '{text}' as \"{text}\"", 80, monkeypatch)) == [[text], [text]]
    assert text in found(f"select '{text}' as \"{text}\", repeat('x', 500) as y", 30, monkeypatch)


def test_columns_of_one_name_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells(found("select 1 as a, 2 as a, 3 as b, 4 as a", 80, monkeypatch))[1] == ["1", "2", "3", "4"]
    narrow = found("select 1 as a, 2 as a, repeat('word ', 9) as b, 'x' as c", 30, monkeypatch).split()
    assert narrow[:6] == ["row", "1", "a", "1", "a", "2"]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 220])
@pytest.mark.parametrize("columns", [1, 3, 10, 42])
def test_every_value_is_shown_whole_at_every_width(columns: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = ", ".join(f"{1000 + n} as column_{n}, null as absent_{n}" for n in range(columns))
    shown = found(f"select {sql} union all select {sql}", width, monkeypatch)
    whole = "".join(shown.split())
    for n in range(columns):
        assert shown.count(str(1000 + n)) == 2 and f"column_{n}" in whole and f"absent_{n}" in whole
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    if columns == 42:
        assert "row2" in whole and "Columnswithoutavalueintheserows:absent_0," in whole


def test_a_long_text_is_folded_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = found("select 1 as id, 'start' || repeat('x', 300) || 'end' as text", 60, monkeypatch)
    assert shown.count("x") == 301 and "row 1" not in shown  # one in the heading


def test_nested_values_intervals_and_bytes_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = """select [1, null] as l, {'a': 'ü', 'b': [interval 1 day]} as s, map {'k': 1} as m, null as n,
             interval 14 month + interval 2 day + interval 3500 millisecond as i, interval 0 second as z, 'ab'::blob as b,
             'x'::enum('x') as e, 12345678901234567890123::hugeint as h, uuid() is not null as u, true as t,
             '2025-01-02'::date as d, 1.5::decimal(4, 2) as c, interval (-1) second as o, '01:02'::time as k"""
    expected = ["[1, null]", '{"a": "ü", "b": ["1 day"]}', '[["k", 1]]', "14 months 2 days 00:00:03.5"]
    expected += ["00:00:00", "6162", "12345678901234567890123", "2025-01-02", "1.50", "-00:00:01", "01:02:00"]
    plain = querying.as_plain(duckdb.connect().sql(sql).to_arrow_table()).to_pylist()[0]
    shown = {str(value) for value in plain.values()}
    assert {*expected, "None", "x", "True"} - shown == set(), shown
    for value in expected[:4]:
        assert value in found(sql, 70, monkeypatch)


def test_no_rows_and_more_rows_than_are_shown_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("select 1 as a where false", 80, monkeypatch).endswith("0 rows.\n")
    wide = found(f"select {', '.join(f'1 as column_{n}' for n in range(42))} where false", 80, monkeypatch)
    assert "Columns without a value in any row: column_0," in wide and wide.endswith("0 rows.\n")
    assert found("from range(60)", 80, monkeypatch).endswith("50 of 60 rows; --limit or --csv shows more.\n")


def test_control_characters_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = found("select chr(27) || '[31mred' || chr(13) || 'x' as a", 80, monkeypatch)
    assert "\\x1b[31mred\\x0dx" in shown and "\x1b" not in shown and "\r" not in shown


def test_a_pipe_gets_csv_with_every_row_column_and_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path))
    run = command_line(monkeypatch, capsys)
    texts = ", ".join(f"'[/pos] {'x' * 50}' as same, null as n, [{n}] as list" for n in range(20))
    said = run("sql", f"select {texts} from range(200)")
    rows = list(csv.reader(io.StringIO(said.out)))
    assert (said.code, len(rows), rows[0]) == (0, 201, ["same", "n", "list"] * 20)
    assert rows[-1][:6] == [f"[/pos] {'x' * 50}", "", "[0]", f"[/pos] {'x' * 50}", "", "[1]"]
    assert run("sql", "select 1 as a where false").err == "0 rows.\n"
    assert (
        run("sql", "select 1 as a, 2 as a").out == run("sql", "select 1 as a, 2 as a", "--csv").out == '"a","a"\n1,2\n'
    )


def test_a_query_that_is_not_utf_8_is_an_error_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLM_HOME", str(tmp_path))
    (tmp_path / "query.sql").write_bytes("select 'é'".encode("latin-1"))
    said = command_line(monkeypatch, capsys)("sql", "--file", str(tmp_path / "query.sql"))
    assert said.code == 2 and "byte 8 is not UTF-8" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(
    "value",
    [
        *(
            "timestamp '290000-01-01'",
            "timestamp 'infinity'",
            "date '-infinity'",
            "date '0044-03-15 (BC)'",
            "time '24:00:00'",
        ),
        *("timestamp '2020-02-29 01:02:03.5'", "[timestamp '10000-01-01']", "{'a': date 'infinity'}"),
    ],
)
def test_every_date_and_time_is_shown_as_duckdb_writes_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [[text]] = duckdb.connect().sql(f"select ({value})::varchar").fetchall()
    assert text in found(f"select {value} as x", 80, monkeypatch)
    table = querying.as_plain(duckdb.connect().sql(f"select {value} as x").to_arrow_table())
    assert table["x"].to_pylist() == [text]


def test_a_variable_is_one_that_the_query_reads() -> None:
    sql = "select getvariable('key') as key, getvariable('first') as first"
    assert querying.variables_of(["key=a=b"], sql) == {"key": "a=b"}
    assert querying.variables_of([], "select 1") == {}
    for given, query, says in (
        ("kye=1", sql, "no variable 'kye'.*reads key, first"),
        ("key", sql, "has no value"),
        ("a=1", "select 1", "reads none"),
    ):
        with pytest.raises(UserError, match=says):
            querying.variables_of([given], query)
