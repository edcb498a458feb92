"""Benchmarks: what each file becomes, and what is wrong with it, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell import real_data_root

from tlm.data import benchmarks
from tlm.data.benchmarks.item import Item
from tlm.errors import UserError
from tlm.study.likelihood import ArcEasy, BenchmarkConfig, Blimp, HellaSwag, Mmlu, OptionFiles, WinoGrande

PAIR = {
    "sentence_good": "Cats sleep.",
    "sentence_bad": "Cats sleeps.",
    "UID": "regular",
    "linguistics_term": "s-selection",
    "pairID": "0",
}
QUESTION = {"id": "q", "question": "Why?", "choices": {"text": ["No.", "So."], "label": ["A", "B"]}, "answerKey": "B"}
ENDING = {"ind": 4, "activity_label": "Cooking", "ctx": "He cooks. he", "endings": ["eats.", "flies."], "label": "1"}
BLANK = {"qID": "w", "sentence": "Ann saw Bo as _ left.", "option1": "Ann", "option2": "Bo", "answer": "2"}
OWN = {"prefix": "The sky is", "options": ["blue.", "loud."], "gold": 0}
SUBJECT = 'Why?,a,b,"c, d",e,C\n'

GOOD: list[tuple[BenchmarkConfig, dict[str, Any] | str, Item]] = [
    (
        Blimp(path="it"),
        PAIR,
        Item("regular:0", ("", ""), ("Cats sleep.", "Cats sleeps."), 0, "regular", "argument_structure"),
    ),
    (ArcEasy(path="it"), QUESTION, Item("q", ("Question: Why?\nAnswer:",) * 2, (" No.", " So."), 1)),
    (HellaSwag(path="it"), ENDING, Item("4", ("Cooking: He cooks. he",) * 2, (" eats.", " flies."), 1)),
    (WinoGrande(path="it"), BLANK, Item("w", ("Ann saw Bo as Ann", "Ann saw Bo as Bo"), (" left.",) * 2, 1)),
    (OptionFiles(path="it"), OWN, Item("it:1", ("The sky is",) * 2, (" blue.", " loud."), 0)),
    (Mmlu(path="it"), SUBJECT, Item("it:0", ("Question: Why?\nAnswer:",) * 4, (" a", " b", " c, d", " e"), 2, "it")),
]


def put(folder: Path, *rows: dict[str, Any] | str | bytes) -> str:
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    (folder / "it").write_bytes(b"\n".join(lines))
    return str(folder)


@pytest.mark.parametrize(("config", "row", "item"), GOOD, ids=lambda value: getattr(value, "kind", ""))
def test_a_line_becomes_an_item_and_its_file_its_identity(
    config: BenchmarkConfig, row: dict[str, Any] | str, item: Item, tmp_path: Path
) -> None:
    root = put(tmp_path, row)
    assert benchmarks.read(config, root) == [item]
    before = benchmarks.identity(config, root)
    assert "path" not in before
    put(tmp_path, row, "\n")
    assert benchmarks.identity(config, root) != before


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


BAD: list[tuple[BenchmarkConfig, tuple[Any, ...], str]] = [
    *((config, (without(row, name),), rf"it, line 1: has no field '{name}'")
      for config, row, _ in GOOD if isinstance(row, dict) for name in row),
    (Blimp(path="it"), (PAIR, {**PAIR, "pairID": 1}), "it, line 2: has the text of the item at it, line 1"),
    (Blimp(path="it"), (PAIR, {**PAIR, "sentence_bad": "x"}), "it, line 2: has the name of the item at it, line 1"),
    (ArcEasy(path="it"), ({**QUESTION, "answerKey": "C"},), "line 1: the answer 'C' is not one of the labels"),
    (ArcEasy(path="it"), ({**QUESTION, "question": " "},), "line 1: the field 'question' is empty"),
    (HellaSwag(path="it"), ({**ENDING, "label": 2},), "line 1: the right option is number 2, but there are 2"),
    (HellaSwag(path="it"), ({**ENDING, "label": True},), "line 1: the field 'label' is not a whole number"),
    (WinoGrande(path="it"), ({**BLANK, "answer": "0"},), "line 1: the right option is number -1"),
    (WinoGrande(path="it"), ({**BLANK, "sentence": "Ann left."},), r"line 1: 0 blanks \(_\)"),
    (WinoGrande(path="it"), ({**BLANK, "sentence": "Ann saw _"},), "line 1: an option is empty"),
    (OptionFiles(path="it"), ({**OWN, "options": ["one"]},), "line 1: 1 option, and two are needed"),
    (OptionFiles(path="it"), ({**OWN, "options": "one"},), "line 1: the field 'options' is not a list of texts"),
    (OptionFiles(path="it"), ({**OWN, "options": ["one", "\u200b"]},), "line 1: an option is empty"),
    (OptionFiles(path="it"), ({**OWN, "prefix": "\ud800"},), r"line 1: half a character \(\\ud800\)"),
    (OptionFiles(path="it"), (OWN, b'{"prefix": "\xff"}'), r"it, line 2: not UTF-8 \(byte 79 of the file\)"),
    (OptionFiles(path="it"), (OWN, "{"), "it, line 2: not valid JSON"),
    (OptionFiles(path="it"), (OWN, "[]"), "it, line 2: not a JSON object"),
    (OptionFiles(path="it"), ("\n",), "it holds no item"),
    (Mmlu(path="it"), ("question,A,B,C,D,answer", SUBJECT), "it, line 1: the answer is 'answer', not A, B, C or D"),
    (Mmlu(path="it"), (SUBJECT.strip(), "Why?,a,b,c,d,3"), "it, line 2: the answer is '3', not A, B, C or D"),
    (Mmlu(path="it"), ("Why?,a,b,c,B",), "it, line 1: 5 cells, not 6"),
    (Mmlu(path="it"), (b"\xff,a,b,c,d,A",), r"it, line 1: not UTF-8 \(byte 0"),
    (Mmlu(path="no"), (), "Missing under the data root .*: no"),
    (Mmlu(path="../it"), (), "leads outside the data root"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "rows", "problem"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_one_line_with_its_place(
    config: BenchmarkConfig, rows: tuple[Any, ...], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=problem) as told:
        benchmarks.read(config, put(tmp_path, *rows))
    assert "\n" not in told.value.problem and told.value.remedy


def test_a_limit_takes_the_first_of_each_group_and_a_folder_is_all_its_files(tmp_path: Path) -> None:
    for name in ("b_test", "a_test"):
        (tmp_path / f"{name}.csv").write_text(SUBJECT * 3)
    found = benchmarks.read(Mmlu(path="."), str(tmp_path), limit=2)
    assert [(item.item_id, item.group) for item in found] == [("a:0", "a"), ("a:1", "a"), ("b:0", "b"), ("b:1", "b")]


def test_own_fields_may_have_other_names_and_no_prefix(tmp_path: Path) -> None:
    names: dict[str, Any] = {
        "prefix_column": None,
        "options_column": "o",
        "gold_column": "g",
        "group_column": "k",
        "average": "groups",
    }
    root = put(tmp_path, {"o": ["a", "b"], "g": 1, "k": 7})
    found = benchmarks.read(OptionFiles(path="it", **names), root)
    assert found == [Item("it:1", ("", ""), ("a", "b"), 1, "7")]
    with pytest.raises(ValueError, match="no group_column"):
        OptionFiles(path="it", average="groups")


COUNTS: dict[Callable[[], BenchmarkConfig], tuple[int, int, int]] = {
    Blimp: (67_000, 67, 12),
    ArcEasy: (2_376, 1, 1),
    HellaSwag: (10_042, 1, 1),
    WinoGrande: (1_267, 1, 1),
    Mmlu: (14_042, 57, 1),
}


@pytest.mark.slow
@pytest.mark.skipif(not real_data_root(), reason="TLM_DATA_ROOT is not set")
@pytest.mark.parametrize("kind", COUNTS, ids=lambda kind: kind.__name__)
def test_the_public_files_are_read_whole(kind: Callable[[], BenchmarkConfig]) -> None:
    items = benchmarks.read(kind(), real_data_root())
    assert (len(items), len({i.group for i in items}), len({i.phenomenon for i in items})) == COUNTS[kind]
