"""Local data in the layouts of the public sources, and what identity is made of."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import BaseModel
from source_files import write, write_parquet

from tlm.data import sources
from tlm.errors import UserError
from tlm.study.sources import AgNewsSource, DbpediaSource, FewRelSource, FilesSource, WikipediaSource

LOCAL: dict[str, BaseModel] = {
    "wikipedia": WikipediaSource(origin="local"),
    "ag_news": AgNewsSource(origin="local"),
    "dbpedia_14": DbpediaSource(origin="local"),
    "few_rel": FewRelSource(origin="local"),
}
FILES = {
    "wikipedia": ["wikipedia/train-00000-of-00002.parquet", "wikipedia/train-00001-of-00002.parquet"],
    "ag_news": ["ag_news/train.parquet", "ag_news/test.parquet", "ag_news/labels.json"],
    "dbpedia_14": ["dbpedia_14/train.parquet", "dbpedia_14/test.parquet", "dbpedia_14/labels.json"],
    "few_rel": ["few_rel/train_wiki.json", "few_rel/pid2name.json"],
}
LABELLED = pa.schema([("item_id", "string"), ("text", "string"), ("split", "string"), ("label", "int32")])


def rows(loaded: sources.Loaded, *columns: str) -> list[tuple[object, ...]]:
    return list(zip(*(loaded.table[name].to_pylist() for name in columns), strict=True))


def test_wikipedia_is_every_shard_in_order_with_its_own_ids(root: Path) -> None:
    loaded = sources.read(LOCAL["wikipedia"], str(root))
    assert loaded.label_names is None and loaded.table.column_names == ["item_id", "text", "split"]
    assert rows(loaded, "item_id", "split") == [("0-0", "all"), ("0-1", "all"), ("1-0", "all"), ("1-1", "all")]
    assert sources.count_hint(LOCAL["wikipedia"], str(root)) == 4


def test_ag_news_and_dbpedia_are_two_labelled_parts(root: Path) -> None:
    news = sources.read(LOCAL["ag_news"], str(root))
    assert news.table.schema == LABELLED
    assert news.label_names == ("World", "Sports", "Business", "Sci/Tech")
    assert rows(news, "item_id", "label") == [("train-00000:0", 2), ("train-00000:1", 1), ("test-00000:0", 3)]
    dbpedia = sources.read(LOCAL["dbpedia_14"], str(root))
    assert dbpedia.table.schema == LABELLED
    assert rows(dbpedia, "text", "split") == [
        (" A firm.", "train"),
        ("A school.", "train"),
        ("Another school.", "test"),
    ]
    assert sources.count_hint(LOCAL["dbpedia_14"], str(root)) == 3


def test_few_rel_labels_follow_the_sorted_relations_and_names_come_from_wikidata(root: Path) -> None:
    loaded = sources.read(LOCAL["few_rel"], str(root))
    assert loaded.label_names == ("video", "P9")  # P10 sorts before P9, which has no name
    assert rows(loaded, "item_id", "text", "label") == [
        ("P10:0", "a .", 0),
        ("P10:1", "b", 0),
        ("P9:0", "x borders y", 1),
    ]
    corpus = sources.read(FewRelSource(origin="local", file="pubmed_unsupervised.json"), str(root))
    assert corpus.label_names is None and rows(corpus, "item_id", "text") == [("all-00000:0", "one cell")]


@pytest.mark.parametrize("kind", LOCAL)
def test_identity_is_content_not_place(kind: str, root: Path, tmp_path: Path) -> None:
    before = sources.identity(LOCAL[kind], str(root))
    assert str(root) not in json.dumps(before)
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    shutil.move(moved / kind, moved / "renamed")
    assert sources.identity(LOCAL[kind].model_copy(update={"path": "renamed"}), str(moved)) == before
    for name in FILES[kind]:
        original = (root / name).read_bytes()
        (root / name).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        assert sources.identity(LOCAL[kind], str(root)) != before
        (root / name).write_bytes(original)
    assert sources.identity(LOCAL[kind], str(root)) == before


def test_every_missing_file_is_named_with_the_data_root_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        sources.identity(LOCAL["ag_news"], str(tmp_path))
    message = str(caught.value)
    for fragment in [*FILES["ag_news"], str(tmp_path), "TLM_DATA_ROOT", "origin: hub"]:
        assert fragment in message
    for kind, source in LOCAL.items():
        for place in (tmp_path, tmp_path / "none"):
            with pytest.raises(UserError, match=f"{kind}.*TLM_DATA_ROOT"):
                sources.preflight(source, str(place))
        with pytest.raises(UserError, match="No data root is set"):
            sources.read(source, "")


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc", "link", "link/train.parquet"])
def test_paths_stay_within_the_data_root(path: str, root: Path) -> None:
    (root.parent / "outside").mkdir()
    (root / "link").symlink_to(root.parent / "outside")
    for source in (
        FilesSource(format="parquet", path=path),
        *(source.model_copy(update={"path": path}) for source in LOCAL.values()),
    ):
        with pytest.raises(UserError, match="outside the data root"):
            sources.identity(source, str(root))


def test_a_file_that_links_out_of_the_data_root_is_refused(root: Path) -> None:
    secret = write_parquet(root.parent / "secret.parquet", id=["1"], title=["t"], text=["s"])
    (root / "wikipedia/train-00009.parquet").symlink_to(secret)
    with pytest.raises(UserError, match="outside the data root"):
        sources.read(LOCAL["wikipedia"], str(root)).table


def expect_refusal(root: Path, kind: str, fragment: str) -> None:
    with pytest.raises(UserError, match=fragment):
        sources.read(LOCAL[kind], str(root)).table


def test_bad_parquet_says_which_file_row_and_column(root: Path) -> None:
    place = root / "ag_news/train.parquet"
    write_parquet(place, body=["a"], label=[0])
    expect_refusal(root, "ag_news", "ag_news/train.parquet has no column 'text'; it has 'body', 'label'")
    write_parquet(place, text=["a", "\n "], label=[0, 1])
    expect_refusal(root, "ag_news", "ag_news/train.parquet, row 2: the text is empty")
    write_parquet(place, text=["a", None], label=[0, 1])
    expect_refusal(root, "ag_news", "row 2: the text is empty")
    write_parquet(place, text=["a", "b"], label=[0, None])
    expect_refusal(root, "ag_news", "ag_news/train.parquet, row 2: the label is missing")
    write_parquet(place, text=["a"], label=[4])
    expect_refusal(root, "ag_news", "label 4 is not one of the 4")
    write_parquet(place, text=["a"], label=["World"])
    expect_refusal(root, "ag_news", "not indices")
    write_parquet(place, text=["a"], label=pa.array([1], pa.int8()))
    assert sources.read(LOCAL["ag_news"], str(root)).table.schema == LABELLED
    write_parquet(place, text=["a"], label=pa.array([2**64 - 1], pa.uint64()))
    expect_refusal(root, "ag_news", "ag_news: a label is no index")
    write_parquet(place, text=["a"], label=[0], QQQQ=[0])
    place.write_bytes(place.read_bytes().replace(b"QQQQ", b"QQQ\xff"))
    expect_refusal(root, "ag_news", "ag_news/train.parquet: not a readable Parquet file")
    place.write_bytes(b"PAR1 not really")
    expect_refusal(root, "ag_news", "ag_news/train.parquet: not a readable Parquet file")
    with pytest.raises(UserError, match="not a readable Parquet"):
        sources.count_hint(LOCAL["ag_news"], str(root))


def test_wikipedia_ids_are_unique_and_there_is_at_least_one(root: Path) -> None:
    write_parquet(root / "wikipedia/train-00001-of-00002.parquet", id=["0-0"], title=["t"], text=["again"])
    expect_refusal(root, "wikipedia", "'0-0' occurs more than once")
    for name in FILES["wikipedia"]:
        none = pa.array([], pa.string())
        write_parquet(root / name, id=none, title=none, text=none)
    expect_refusal(root, "wikipedia", "holds no item")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ('{"P1": [\n{"tokens": ]}', "train_wiki.json, line 2: not valid JSON"),
        ('{"P1": {"tokens": []}}', "neither relation id"),
        ("3", "neither relation id"),
        ('{"P1": [{"tokens": ["a"]}, {"h": []}]}', "relation P1, item 2: no list of tokens"),
        ('{"P1": [{"tokens": []}]}', "relation P1, item 1: the text is empty"),
        ("{}", "holds no item"),
        ("[]", "holds no item"),
    ],
)
def test_bad_few_rel_files_say_where(content: str, fragment: str, root: Path) -> None:
    write(root / "few_rel/train_wiki.json", content)
    expect_refusal(root, "few_rel", fragment)


def test_bad_label_names(root: Path) -> None:
    for content, fragment in (("{", "line 1: not valid JSON"), ("{}", "a JSON list"), ('["a", "a"]', "occurs twice")):
        write(root / "ag_news/labels.json", content)
        expect_refusal(root, "ag_news", fragment)


def test_progress_ends_at_its_total(root: Path) -> None:
    for source in LOCAL.values():
        calls: list[tuple[int, int]] = []
        sources.read(source, str(root), lambda done, total, calls=calls: calls.append((done, total))).table
        assert calls and calls[-1][0] == calls[-1][1]


def test_planning_loads_no_heavy_library_and_no_reader_is_forgotten(root: Path) -> None:
    program = f"""
import sys
from tlm.data import sources
from tlm.study.sources import *
sources.identity(WikipediaSource(origin="local"), {str(root)!r})
sources.identity(DocstringsSource(libraries=("numpy", "pandas")), "")
heavy = {{"pyarrow", "pandas", "datasets", "huggingface_hub", "numpy", "prefect", "mlflow"}} & set(sys.modules)
assert not heavy, heavy
sys.modules["datasets"] = sys.modules["huggingface_hub"] = None
sources.read(WikipediaSource(origin="local"), {str(root)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(sources.READERS) == {"wikipedia", "few_rel", "ag_news", "dbpedia_14", "docstrings", "files", "hub"}
    for reader in sources.READERS.values():
        assert callable(reader.identity) and callable(reader.read) and callable(reader.count_hint)


def test_the_real_data_reads(real_root: str) -> None:
    for source, items, labels in (
        (LOCAL["ag_news"], 11_600, 4),
        (LOCAL["dbpedia_14"], 7_600, 14),
        (FewRelSource(origin="local", file="val_wiki.json"), 11_200, 16),
        (FewRelSource(origin="local", file="val_pubmed.json"), 1_000, 10),
    ):
        loaded = sources.read(source, real_root)
        assert loaded.table.num_rows == items
        assert loaded.label_names is not None and len(loaded.label_names) == labels
        assert set(loaded.table["label"].to_pylist()) == set(range(labels))
    assert sources.count_hint(LOCAL["wikipedia"], real_root) == 164_609
