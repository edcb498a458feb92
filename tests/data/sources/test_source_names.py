"""Names of labels that a source has beside its rows, and JSON files that are read whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from fake_hub import COMMIT
from source_files import write

from tlm.data import sources
from tlm.data.sources import hub_access
from tlm.errors import UserError
from tlm.study.sources import AgNewsSource, FewRelSource, HubSource

BAD_NAMES = [
    (["World", "  ", "Business", "Sci/Tech"], "the name of label 1 is missing"),
    (["World", "Sports", " World", "Sci/Tech"], "the label name 'World' occurs twice"),
    (["World", "\ud83c", "Business", "Sci/Tech"], r"the name of label 1 holds half a character \(\\ud83c\)"),
]


@pytest.mark.parametrize(("names", "said"), BAD_NAMES)
def test_names_follow_the_rule_of_labels_in_a_file_and_on_the_hub(
    names: list[str], said: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "ag_news/labels.json", json.dumps(names))
    with pytest.raises(UserError, match=f"ag_news/labels.json: {said}"):
        sources.read(AgNewsSource(origin="local"), str(root))
    table = pa.table({"text": ["a"], "label": [0]})
    monkeypatch.setattr(hub_access, "load", lambda *args, **kwargs: (table, {"label": tuple(names)}, COMMIT))
    for source in (HubSource(repo="me/mine", revision=COMMIT, label_column="label"), AgNewsSource()):
        with pytest.raises(UserError, match=said):
            sources.read(source, "")


def test_white_space_around_a_name_is_cut(root: Path) -> None:
    write(root / "ag_news/labels.json", json.dumps([" World", "Sports\n", "Business", "Sci/Tech"]))
    assert sources.read(AgNewsSource(origin="local"), str(root)).label_names == (
        "World",
        "Sports",
        "Business",
        "Sci/Tech",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"P1": [{"tokens": ["a"]}], "P1": [{"tokens": ["b"]}]}', "train_wiki.json: the key 'P1' occurs twice"),
        ('{"P1": ' + "[" * 100_000, "train_wiki.json: not valid JSON (nested too deeply)"),
        ('{"P1": [{"tokens": ["a", "\\ud83c"]}]}', "relation P1, item 1: the text holds half a character (\\ud83c)"),
        ('{" ": [{"tokens": ["a"]}]}', "the name of label 0 is missing"),
        ('{"P1": [{"tokens": ["a"]}],\n "P2": [{"tokens": ["caf\xe9"]}]}', "line 2: not UTF-8 (byte 52 of the file)"),
    ],
    ids=["twice", "deep", "half", "blank", "bytes"],
)
def test_a_file_of_relations_is_refused_with_its_place(content: str, said: str, root: Path) -> None:
    (root / "few_rel/train_wiki.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        sources.read(FewRelSource(origin="local"), str(root))
    assert "\n" not in str(raised.value)


def test_two_relations_of_one_name_are_refused_and_one_without_a_name_has_its_id(root: Path) -> None:
    write(root / "few_rel/pid2name.json", json.dumps({"P10": ["", "no name"]}))
    assert sources.read(FewRelSource(origin="local"), str(root)).label_names == ("P10", "P9")
    write(root / "few_rel/pid2name.json", json.dumps({"P10": ["video"], "P9": ["video"]}))
    with pytest.raises(UserError, match="'video' occurs twice"):
        sources.read(FewRelSource(origin="local"), str(root))
    write(root / "few_rel/pid2name.json", "[]")
    with pytest.raises(UserError, match="pid2name.json: not a JSON object"):
        sources.read(FewRelSource(origin="local"), str(root))
